"""Folders on file systems that lack something, and folders that several users share."""

import errno
import os
import stat
from pathlib import Path

import pytest
import writer as child

from artifacts import ArtifactStore, StoreUnavailable
from artifacts.lookup import disk
from artifacts.places.backend import Backend
from artifacts.upkeep.verify import Verification

REFUSALS = ["EPERM", "ENOTSUP", "EMLINK", "EACCES", "ENOSYS", "EINVAL"]
"""What file systems answer to what they do not know: exFAT, SMB, FUSE, mounted drives."""


@pytest.fixture
def refuse(monkeypatch):
    """Let the system refuse some of its operations, as a file system does that lacks them."""

    def refuse(error, *operations, only=lambda *_: True):
        def patch(name):
            perform = getattr(os, name)

            def operation(*arguments, **options):
                if only(*arguments):
                    raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))
                return perform(*arguments, **options)

            monkeypatch.setattr(os, name, operation)

        for name in operations:
            patch(name)

    return refuse


def check(store, make_action, make_payload, circumstances, check_payload):
    """Publish, supersede, repair and read; nothing else may be left."""
    first = store.publish(make_action(), make_payload(), circumstances)
    assert store.publish(make_action(), make_payload(1), circumstances) == first
    second = store.publish(make_action(), make_payload(1), circumstances, replace=True)
    assert [first.number, second.number] == [1, 2]
    check_payload(store.read(second), make_payload(1))
    store.put_run("run", "summary.json", b"{}")
    store.put_run("run", "summary.json", b'{"a": 1}')
    assert store.get_run("run", "summary.json") == b'{"a": 1}'
    assert store.add_attempt("invert_image", make_action().key, {"kind": "Oops"}) == 1
    assert {finding.trouble.value for finding in Verification(store)} == set()


@pytest.mark.parametrize("error", REFUSALS)
def test_a_store_works_where_links_are_refused(
    tmp_path, refuse, make_action, make_payload, circumstances, check_payload, error
):
    refuse(error, "link")
    check(ArtifactStore.open(tmp_path), make_action, make_payload, circumstances, check_payload)


def test_a_store_works_where_almost_everything_is_refused(
    tmp_path, refuse, make_action, make_payload, circumstances, check_payload
):
    refuse("ENOTSUP", "link", "chmod", "chown", "rename", "replace")
    refuse("EINVAL", "fsync", only=lambda number: stat.S_ISDIR(os.fstat(number).st_mode))
    check(ArtifactStore.open(tmp_path), make_action, make_payload, circumstances, check_payload)


def test_a_disk_that_fails_to_sync_is_not_taken_for_one_that_cannot(
    tmp_path, refuse, make_action, make_payload, circumstances
):
    store = ArtifactStore.open(tmp_path)
    refuse("EIO", "fsync")
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        store.publish(make_action(), make_payload(), circumstances)
    assert store.lookup("invert_image", make_action().key) is None


def test_a_full_disk_leaves_no_half_of_a_record_where_links_are_refused(
    tmp_path, refuse, monkeypatch
):
    refuse("EPERM", "link")
    backend, opened = Backend.open(tmp_path, create=True), Path.open

    def open_full(path, mode):
        if path.name != "a.json":
            return opened(path, mode)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        return open("/dev/full", "wb")

    monkeypatch.setattr("pathlib.Path.open", open_full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        backend.create("a.json", b"{}")
    assert os.listdir(tmp_path) == []


def test_one_of_two_writers_wins_where_links_are_refused(tmp_path, start):
    receivers = [start(child.write_without_links, tmp_path, n, 0, 15)[1] for n in (1, 2)]
    outputs = [[receiver.recv() for _ in range(15)] for receiver in receivers]
    assert outputs[0] == outputs[1]


def test_a_record_that_was_half_written_counts_once_it_is_whole(
    folder_store, tmp_path, monkeypatch, make_action, make_payload, circumstances
):
    """The index must not keep for newest what was read beside half a record."""
    monkeypatch.setattr(disk, "SETTLED_NS", -(10**12))
    action = make_action()
    folder_store.publish(action, make_payload(), circumstances)
    second = folder_store.publish(action, make_payload(1), circumstances, replace=True)
    path = tmp_path / "store/actions/invert_image" / action.key[:2] / action.key / "0002.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert folder_store.lookup_many(action.stage, [action.key])[action.key].number == 1
    path.write_bytes(whole)
    assert folder_store.lookup_many(action.stage, [action.key])[action.key].object == second.object


@pytest.mark.parametrize("left", [b"", b'{"sto', bytes(30)])
def test_a_store_whose_maker_was_killed_is_made_again(tmp_path, left):
    (tmp_path / "format.json").write_bytes(left)
    ArtifactStore.open(tmp_path)
    ArtifactStore.open(tmp_path, create=False)


@pytest.fixture(params=[0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root):
    """Return the modes of all folders, and of all files, below a folder."""
    found = list(root.rglob("*"))
    of = lambda paths: {stat.S_IMODE(path.stat().st_mode) for path in paths}  # noqa: E731
    return of(p for p in found if p.is_dir()), of(p for p in found if p.is_file())


@pytest.mark.parametrize(
    ("root", "folders", "files"),
    [
        (0o2775, 0o2775, 0o664),
        (0o770, 0o770, 0o660),
        (0o755, 0o755, 0o644),
        (0o700, 0o700, 0o600),
        (0o777, 0o777, 0o666),
        (0o1777, 0o755, 0o644),
    ],
)
def test_what_is_made_has_the_rights_of_the_store_s_folder(
    tmp_path, umask, make_action, make_payload, circumstances, root, folders, files
):
    place = tmp_path / "store"
    place.mkdir()
    place.chmod(root)
    store = ArtifactStore.open(place)
    store.publish(make_action(), make_payload(), circumstances)
    store.add_attempt("invert_image", make_action().key, {"kind": "Oops"})
    store.put_run("run", "summary.json", b"{}")
    store.put_progress("invert_image", make_action().key, 1, make_payload())
    store.backend.append("table.jsonl", b"{}\n")
    assert modes(place) == ({folders}, {files})


def test_a_store_made_in_a_shared_folder_is_shared(tmp_path, umask):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    ArtifactStore.open(shared / "a" / "store")
    assert modes(shared) == ({0o2775}, {0o664})
    os.chmod(shared, 0o775)
    ArtifactStore.open(shared / "own")
    assert stat.S_IMODE((shared / "own").stat().st_mode) == 0o777 & ~umask


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_rights_of_a_group_go_to_the_folder_s_group_only(tmp_path):
    place = tmp_path / "store"
    place.mkdir()
    os.chown(place, -1, 2000)
    place.chmod(0o770)
    ArtifactStore.open(place)
    assert (place / "format.json").stat().st_gid == 2000


@pytest.mark.parametrize("path", ["../a", "a/../../b", "a//b", "/a", "a/.", ""])
def test_no_path_leads_out_of_a_folder(tmp_path, path):
    backend = Backend.open(tmp_path / "store", create=True)
    for write in (backend.put, backend.create, backend.renew):
        with pytest.raises(StoreUnavailable, match="leads out of the store"):
            write(path, b"")
    assert os.listdir(tmp_path) == ["store"]


def test_a_name_that_means_no_folder_is_refused_in_one_line():
    with pytest.raises(StoreUnavailable, match=r"~nosuch/s: .*write the whole path"):
        ArtifactStore.open("~nosuch/s")
