"""What is seen of many files of a disk in one go."""

import shutil
import time

import pytest

from artifacts import ArtifactStore, StoreUnavailable
from artifacts.layout import object_folder
from artifacts.lookup.disk import SETTLED_NS, stamps, whole

SIZES = {"manifest.json": 3, "latents/c": 5}


@pytest.fixture
def folders(tmp_path):
    """Whole and broken folders, and what is expected in each."""
    for number in range(8):
        (tmp_path / f"{number}" / "latents").mkdir(parents=True)
        (tmp_path / f"{number}" / "manifest.json").write_bytes(b"abc")
        (tmp_path / f"{number}" / "latents" / "c").write_bytes(b"abcde")
    (tmp_path / "1" / "damaged.json").write_bytes(b"")
    (tmp_path / "2" / "latents" / "c").write_bytes(b"abc")
    (tmp_path / "3" / "manifest.json").unlink()
    (tmp_path / "4" / "latents" / "c").unlink()
    (tmp_path / "4" / "latents" / "c").mkdir()
    (tmp_path / "5" / "more").write_bytes(b"does not matter")
    return [(f"{number}", SIZES) for number in (*range(8), "gone")]


def test_a_folder_is_whole_with_every_file_at_its_size_and_no_mark(tmp_path, folders):
    found = whole(str(tmp_path), folders, "damaged.json")
    assert found == [True, False, False, False, False, True, True, True, False]


def test_a_stamp_changes_with_the_file_and_with_its_folder(tmp_path, folders):
    files = [(folder, name) for folder, sizes in folders for name in sizes]
    assert stamps(str(tmp_path), files) == [None] * len(files)  # they are too new
    time.sleep(SETTLED_NS / 1e9 + 0.1)
    before = dict(zip(files, stamps(str(tmp_path), files), strict=True))
    assert {file for file, stamp in before.items() if stamp is None} == {
        ("3", "manifest.json"),
        *(("gone", name) for name in SIZES),
    }
    (tmp_path / "0" / "manifest.json").write_bytes(b"ABC")
    (tmp_path / "1" / "beside").touch()
    after = dict(zip(files, stamps(str(tmp_path), files), strict=True))
    assert {file for file in files if after[file] != before[file]} == {
        ("0", "manifest.json"),
        *(("1", name) for name in SIZES),
    }
    assert before["6", "manifest.json"] != before["7", "manifest.json"]


def test_what_cannot_be_looked_at_is_an_error(tmp_path, folders):
    with pytest.raises(OSError, match="name too long"):
        whole(str(tmp_path), [("0", {"n" * 300: 1})], "damaged.json")
    with pytest.raises(OSError, match="name too long"):
        stamps(str(tmp_path), [("0", "n" * 300)])


def test_the_error_of_a_store_names_the_whole_path(
    tmp_path, make_action, make_payload, circumstances
):
    store = ArtifactStore.open(tmp_path / "store")
    record = store.publish(make_action(), make_payload(), circumstances)
    object_ = tmp_path / "store" / object_folder(record.object)
    shutil.rmtree(object_)
    object_.symlink_to(object_)
    with pytest.raises(StoreUnavailable, match=rf"^{object_}/.*symbolic links"):
        store.lookup_many(record.stage, [record.key])
