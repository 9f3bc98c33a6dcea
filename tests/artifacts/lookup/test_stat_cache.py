import os
import subprocess
import sys
import time

import pytest

from artifacts import StatCache, digest_file
from artifacts.lookup.cache_file import CacheFile


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Files that were written long enough ago to be remembered."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(200):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 1000)
    time.sleep(2.1)
    return folder


@pytest.fixture
def cache(tmp_path):
    return StatCache(tmp_path / "cache" / "files.sqlite")


class Counted:
    """A computation that counts how often it is done."""

    def __init__(self):
        self.times = 0

    def __call__(self, file):
        self.times += 1
        return {"digest": digest_file(file), "width": 3, "notes": ["gray"]}


def test_a_file_that_stays_the_same_is_read_once(cache, photos, tmp_path):
    compute, file = Counted(), photos / "0.bin"
    first = cache.value(file, "image", compute)
    assert cache.value(file, "image", compute) == first == compute(file)
    again = StatCache(tmp_path / "cache" / "files.sqlite")
    assert again.value(file, "image", compute) == first
    assert compute.times == 2


def test_what_is_recalled_together_is_not_asked_for_one_by_one(cache, photos, monkeypatch):
    compute, files = Counted(), [photos / f"{number}.bin" for number in range(3)]
    known = [cache.value(file, "image", compute) for file in files]
    cache.recall([*map(str, files), str(photos / "gone.bin"), "\ud800"], "image")
    queries, ask = [], CacheFile.query
    monkeypatch.setattr(CacheFile, "query", lambda *query: queries.append(query) or ask(*query))
    assert [cache.value(file, "image", compute) for file in files] == known
    assert queries == []
    assert compute.times == 3
    assert cache.value(files[0], "image", compute) == known[0]
    assert len(queries) == 1


def test_what_is_recalled_is_of_the_file_as_it_was(cache, tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"1")
    os.utime(file, (1, 1))
    time.sleep(2.1)
    cache.value(file, "file", digest_file)
    cache.recall([str(file)], "file")
    file.write_bytes(b"2")
    assert cache.value(file, "file", digest_file) == digest_file(file)


@pytest.mark.parametrize("column", ["stamp", "value", "checksum"])
@pytest.mark.parametrize("type_", ["BLOB", "TEXT", "INTEGER"])
def test_a_row_of_other_types_is_not_believed(cache, photos, column, type_):
    file = photos / "2.bin"
    change = f"UPDATE files SET {column} = CAST({column} AS {type_})"
    for recall in (False, True):
        cache.value(file, "file", digest_file)
        cache._file.write(f"{change} WHERE kind = ?", [("file",)])
        if recall:
            cache.recall([str(file)], "file")
        assert cache.value(file, "file", digest_file) == digest_file(file)


def test_each_kind_of_value_is_computed_for_itself(cache, photos):
    assert cache.value(photos / "0.bin", "size", lambda file: 1) == 1
    assert cache.value(photos / "0.bin", "mask", lambda file: 2) == 2


def test_a_change_of_content_is_noticed(cache, tmp_path):
    file = tmp_path / "a.bin"
    for content in (b"1", b"2", b"22"):
        file.write_bytes(content)
        assert cache.value(file, "file", digest_file) == digest_file(file)


def test_a_change_under_the_same_size_and_time_is_noticed(cache, photos):
    file = photos / "1.bin"
    stat, before = file.stat(), cache.value(file, "file", digest_file)
    file.write_bytes(b"x" * 1000)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.value(file, "file", digest_file) == digest_file(file) != before


def test_a_touched_file_is_read_again(cache, photos):
    compute, file = Counted(), photos / "2.bin"
    cache.value(file, "image", compute)
    os.utime(file, ns=(1, 1))
    cache.value(file, "image", compute)
    assert compute.times == 2


def test_a_file_written_just_now_is_not_remembered(cache, tmp_path):
    # It could be written again within the same tick of the clock.
    compute, file = Counted(), tmp_path / "new.bin"
    file.write_bytes(b"new")
    cache.value(file, "image", compute)
    cache.value(file, "image", compute)
    assert compute.times == 2


def test_a_missing_file_is_an_error(cache, tmp_path):
    with pytest.raises(FileNotFoundError):
        cache.value(tmp_path / "missing", "file", digest_file)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_broken_cache_is_begun_anew(photos, tmp_path, content):
    path, compute, file = tmp_path / "files.sqlite", Counted(), photos / "3.bin"
    path.write_bytes(content)
    for _ in range(2):
        assert StatCache(path).value(file, "image", compute)["digest"] == digest_file(file)
    assert compute.times == 1


def test_no_flipped_bit_of_the_cache_is_believed(photos, tmp_path):
    path, file = tmp_path / "files.sqlite", photos / "4.bin"
    truth = StatCache(path).value(file, "file", digest_file)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        assert StatCache(path).value(file, "file", digest_file) == truth


def test_a_cache_that_breaks_while_in_use_is_begun_anew(cache, photos, tmp_path):
    file = photos / "5.bin"
    cache.value(file, "file", digest_file)
    (tmp_path / "cache" / "files.sqlite").write_bytes(b"\xff" * 20_000)
    for _ in range(3):
        assert cache.value(file, "file", digest_file) == digest_file(file)


@pytest.mark.parametrize("place", ["a file/cache/files.sqlite", "a folder"])
def test_a_cache_that_cannot_be_kept_only_costs_time(photos, tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    cache, file = StatCache(tmp_path / place), photos / "6.bin"
    assert cache.value(file, "file", digest_file) == digest_file(file)


PROGRAM = """
import sys
from pathlib import Path
from artifacts import StatCache, digest_file

cache = StatCache(Path(sys.argv[1]))
for file in sorted(Path(sys.argv[2]).iterdir()):
    assert cache.value(file, "file", digest_file) == digest_file(file)
"""


def test_processes_share_a_cache(photos, tmp_path):
    path = tmp_path / "files.sqlite"
    command = [sys.executable, "-c", PROGRAM, str(path), str(photos)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    cache, read = StatCache(path), []
    for file in photos.iterdir():
        cache.value(file, "file", read.append)
    assert len(read) <= 3  # those that other tests have touched just now
