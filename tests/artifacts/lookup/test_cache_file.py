"""Caches lie with the user's others, or elsewhere where those cannot be written."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from artifacts import StatCache
from artifacts.lookup.cache_file import cache_path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def below_a_file(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.abspath(__file__))


def on_a_full_disk(monkeypatch):
    monkeypatch.setattr("artifacts.lookup.cache_file._ROOM", 1 << 80)


def not_writable(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)


def test_caches_lie_in_the_user_s_folder():
    folder = Path(os.environ["XDG_CACHE_HOME"])
    assert cache_path("a/b") == folder / "adaptivedrag" / "a" / "b"


@pytest.mark.parametrize("spoil", [below_a_file, on_a_full_disk, not_writable])
def test_caches_that_cannot_be_written_lie_in_the_temporary_folder(temporary, monkeypatch, spoil):
    spoil(monkeypatch)
    path = cache_path("files.sqlite")
    assert path.parent.parent == temporary
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_temporary_folder_that_others_can_enter_is_not_used(temporary, monkeypatch, mode):
    below_a_file(monkeypatch)
    cache_path("files.sqlite").parent.chmod(mode)
    assert not cache_path("files.sqlite").is_relative_to(temporary)


def test_without_any_place_for_caches_nothing_is_remembered(tmp_path, monkeypatch):
    below_a_file(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    file = tmp_path / "a.txt"
    file.write_text("a")
    assert StatCache().value(file, "size", lambda path: path.stat().st_size) == 1
