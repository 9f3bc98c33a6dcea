"""The index spares work and decides nothing: whatever happens to it or behind it, answers agree."""

import sqlite3
from contextlib import closing

import platformdirs
import pytest
from support.store_faults import FaultyBackend, flip, truncate

from artifacts import ArtifactStore, Circumstances
from artifacts.layout import action_folder, numbered, object_folder
from artifacts.places.backend import Backend

STAGE = "invert_image"


@pytest.fixture(autouse=True)
def _everything_is_settled(monkeypatch):
    """Files count as written long ago; one test below says what happens to newer ones."""
    monkeypatch.setattr("artifacts.lookup.disk.SETTLED_NS", 0)


@pytest.fixture(params=["folder", "s3"])
def backend(request, make_location):
    """A backend that notes its requests, of a store whose name is its own."""
    place = make_location(request.param)
    plain = Backend.open(place, create=True)
    backend = FaultyBackend(plain._objects, f"a {request.param} at {place}", plain.root, True)
    backend.asked = []
    backend.before = lambda operation, path: backend.asked.append((operation, path))
    return backend


@pytest.fixture
def store(backend):
    store = ArtifactStore(backend)
    store._check_format(create=True)
    return store


@pytest.fixture
def keys(store, make_action, make_payload, circumstances):
    """Keys of twelve results, and of two that are not there."""
    for number in range(12):
        store.publish(make_action(number), make_payload(number), circumstances)
    return [make_action(number).key for number in range(14)]


def told(store, keys):
    """Say all that a lookup does."""
    return {
        key: (found.status, found.number, found.object, found.logical, found.record)
        for key, found in store.lookup_many(STAGE, keys).items()
    }


def without_index(store, keys):
    """Return what the store itself does."""
    return told(ArtifactStore(Backend(store.backend._objects, "", store.backend.root)), keys)


def read_again(store, keys):
    """Return how many records are read by a lookup."""
    store.backend.asked.clear()
    ArtifactStore(store.backend).lookup_many(STAGE, keys)
    return sum(operation == "get" for operation, _ in store.backend.asked)


def test_each_record_is_read_once(store, keys):
    assert read_again(store, keys) == 12
    assert read_again(store, keys) == 0
    assert told(store, keys) == without_index(store, keys)
    assert len(told(store, keys)) == 12


def test_a_record_written_just_now_is_not_remembered(store, keys, monkeypatch):
    # On a disk it could be written again within the same tick of the clock.
    monkeypatch.setattr("artifacts.lookup.disk.SETTLED_NS", 10**12)
    read_again(store, keys)
    assert read_again(store, keys) == (12 if store.backend.root else 0)


@pytest.mark.parametrize("type_", ["TEXT", "INTEGER"])
def test_a_row_of_another_type_is_not_believed(store, keys, type_):
    read_again(store, keys)
    change = f"UPDATE records SET row = CAST(row AS {type_}) WHERE key = ?"
    store._index._file.write(change, [(key,) for key in keys])
    assert read_again(store, keys) == 12
    assert read_again(store, keys) == 0


def test_a_store_without_a_name_of_its_own_has_no_index(make_location, make_action):
    store = ArtifactStore.open(make_location("memory"))
    assert store.lookup_many(STAGE, [make_action().key]) == {}
    assert not platformdirs.user_cache_path("adaptivedrag").exists()


def put_next(store, record, make_payload):
    """Another process does the work again."""
    store.publish(record.action, make_payload(99), Circumstances(**TIMES), replace=True)


def put_same_again(store, record, make_payload):
    """The same bytes under other circumstances."""
    path = numbered(action_folder(STAGE, record.key), 1)
    store.backend.put(path, record.model_copy(update={"summary": {"steps": 3}}).to_bytes())


def lose_record(store, record, make_payload):
    store.backend.delete([numbered(action_folder(STAGE, record.key), 1)])


def spoil_record(store, record, make_payload):
    path = numbered(action_folder(STAGE, record.key), 1)
    store.backend.put(path, b"x" * len(store.backend.get(path)))


def lose_file(store, record, make_payload):
    store.backend.delete([f"{object_folder(record.object)}/preview.png"])


def cut_file(store, record, make_payload):
    store.backend.put(f"{object_folder(record.object)}/latents.zarr/zarr.json", b"{}")


def mark_damaged(store, record, make_payload):
    store.backend.put(f"{object_folder(record.object)}/damaged.json", b"{}")


TIMES = {"code": "0.1.0", "started": "2026-02-02T00:00:00Z", "seconds": 2.5}
CHANGES = [
    put_next,
    put_same_again,
    lose_record,
    spoil_record,
    lose_file,
    cut_file,
    mark_damaged,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_behind_the_index_is_seen(store, keys, make_payload, change):
    before = told(store, keys)
    change(store, before[keys[5]][-1], make_payload)
    after = told(store, keys)
    assert after == without_index(store, keys)
    assert after != before
    assert {key: after[key] for key in keys[:12] if key != keys[5]} == {
        key: before[key] for key in keys[:12] if key != keys[5]
    }


def test_a_record_changed_in_place_is_seen(folder_store, make_action, make_payload, circumstances):
    record = folder_store.publish(make_action(), make_payload(), circumstances)
    assert told(folder_store, [record.key])
    path = folder_store.backend.root / numbered(action_folder(STAGE, record.key), 1)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    assert told(folder_store, [record.key]) == {}


def test_another_store_in_the_same_place_is_another_store(
    folder_store, make_action, make_payload, circumstances
):
    record = folder_store.publish(make_action(), make_payload(), circumstances)
    assert told(folder_store, [record.key])
    root = folder_store.backend.root
    root.rename(root.with_name("elsewhere"))
    empty = ArtifactStore.open(root)
    assert told(empty, [record.key]) == {}
    moved = ArtifactStore.open(root.with_name("elsewhere"))
    assert told(moved, [record.key])[record.key][-1] == record


def delete(path, draw):
    path.unlink()


def fill_with_garbage(path, draw):
    path.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize("fault", [delete, fill_with_garbage, truncate, flip])
def test_an_index_that_is_lost_or_broken_is_made_anew(store, keys, fault):
    import random

    draw, truth = random.Random(fault.__name__), without_index(store, keys)
    for _ in range(40 if fault is flip and store.backend.root else 3):
        assert told(store, keys) == truth
        (index,) = platformdirs.user_cache_path("adaptivedrag").glob("stores/*.sqlite")
        fault(index, draw)
        assert told(ArtifactStore(store.backend), keys) == truth
    store.lookup_many(STAGE, keys)
    assert read_again(store, keys) < 12


def test_an_index_that_cannot_be_kept_costs_time_alone(tmp_path, store, keys, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert told(ArtifactStore(store.backend), keys) == without_index(store, keys)


def test_a_locked_index_is_waited_for_once(store, keys, monkeypatch):
    monkeypatch.setattr("artifacts.lookup.cache_file._BUSY_SECONDS", 0.1)
    expected = told(store, keys)
    file = store._index._file
    with closing(sqlite3.connect(file._path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert told(store, keys) == expected
        assert file._connection.execute("PRAGMA busy_timeout").fetchall() == [(0,)]
        assert told(store, keys) == expected
    assert told(store, keys) == expected
    assert file._connection.execute("PRAGMA busy_timeout").fetchall() == [(100,)]
