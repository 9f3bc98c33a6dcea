"""Faults to put into a store: damage to files on disks, and requests that fail."""

import threading
from collections.abc import Callable
from functools import partial
from itertools import count

from obstore.store import MemoryStore

from artifacts import (
    Action,
    ArtifactCorrupt,
    ArtifactStore,
    Circumstances,
    Lookup,
    Payload,
    Record,
    StoreUnavailable,
)
from artifacts.layout import object_folder
from artifacts.payload import encode
from artifacts.places.backend import Backend
from artifacts.upkeep.verify import Verification

FILES = [
    "manifest.json",
    "latents.zarr/zarr.json",
    "latents.zarr/c.0.0.0.0",
    "lora.safetensors",
    "preview.png",
    "verdict.json",
]


def flip(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncate(path, draw):
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def extend(path, draw):
    path.write_bytes(path.read_bytes() + draw.randbytes(1 + draw.randrange(9)))


def zero(path, draw):
    path.write_bytes(bytes(path.stat().st_size))


def delete(path, draw):
    path.unlink()


def replace_by_a_folder(path, draw):
    path.unlink()
    path.mkdir()


FAULTS = [flip, truncate, extend, zero, delete, replace_by_a_folder]


def ignore(operation, path):
    pass


class FaultyBackend(Backend):
    """A store whose requests can be watched, delayed, refused, or lose their replies.

    `before` and `after` are called with the name of the operation and its path.
    """

    before = staticmethod(ignore)
    after = staticmethod(ignore)

    def _request(self, operation, path, perform):
        self.before(operation, path)
        result = perform()
        self.after(operation, path)
        return result

    def get(self, path):
        return self._request("get", path, lambda: super(FaultyBackend, self).get(path))

    def put(self, path, data):
        self._request("put", path, lambda: super(FaultyBackend, self).put(path, data))

    def _put_if_absent(self, path, data):
        perform = super()._put_if_absent
        return self._request("create", path, lambda: perform(path, data))

    def entries(self, folder):
        perform = super().entries
        return iter(self._request("entries", folder, lambda: list(perform(folder))))

    def folders(self, folder):
        return self._request("folders", folder, lambda: super(FaultyBackend, self).folders(folder))

    def modified(self, path):
        return self._request("modified", path, lambda: super(FaultyBackend, self).modified(path))

    def sync(self, paths, folders=True):
        paths = list(paths)
        self._request("sync", "", lambda: super(FaultyBackend, self).sync(paths, folders))

    def delete(self, paths, lasting=False):
        for path in paths:
            perform = partial(super().delete, [path], lasting)
            self._request("delete", path, perform)


def fail_from(k):
    """Fail at the k-th request and all later ones, like a store that goes away."""
    lock, left = threading.Lock(), [k]

    def before(operation, path):
        with lock:
            left[0] -= 1
            if left[0] < 0:
                raise StoreUnavailable("the store has gone away")

    return before


def fail_once(k):
    """Fail at the k-th request only; used as `after`, its reply is lost."""
    lock, seen = threading.Lock(), [-1]

    def fault(operation, path):
        with lock:
            seen[0] += 1
            if seen[0] == k:
                raise StoreUnavailable("the reply was lost")

    return fault


WAYS = [(fail, moment) for fail in (fail_from, fail_once) for moment in ("before", "after")]
"""Ways to fail: for good or once, before a request is done or before its reply arrives."""
SCENES = ["new", "replace", "repair"]
"""What a writer finds: nothing, an older result to supersede, or damage to its own bytes."""


def publish_failing_everywhere(
    action: Action,
    older: Payload,
    payload: Payload,
    circumstances: Circumstances,
    way: tuple[Callable, str],
    scene: str,
) -> tuple[int, list[str]]:
    """Publish on a fresh store for every k and fail its k-th request.

    After the failure nothing wrong may be served, and publishing again has to succeed.

    Returns:
        The number of failures, and each invariant that was broken, in words.
    """
    fail, moment = way
    broken: list[str] = []
    for k in count():
        objects = MemoryStore()
        healthy = ArtifactStore.open(objects)
        there = _prepared(healthy, scene, action, older, payload, circumstances)
        backend = FaultyBackend(objects, "failing")
        setattr(backend, moment, fail(k))
        replace = scene == "replace"
        try:
            ArtifactStore(backend).publish(action, payload, circumstances, None, replace)
        except StoreUnavailable:
            found = healthy.lookup(action.stage, action.key)
            right = {encode(payload).manifest.logical, *([there.logical] if there else [])}
            problems = _false_service(healthy, found, right)
            if there and found is None:
                problems.append("the older record is gone")
            again = healthy.publish(action, payload, circumstances, None, replace)
            problems += _false_service(healthy, healthy.lookup(action.stage, action.key), right)
            if again.logical != encode(payload).manifest.logical:
                problems.append("publishing again kept something else")
            problems += [str(f) for f in Verification(healthy) if f.trouble.is_damage]
            broken += [f"{scene}, {fail.__name__} {moment} request {k}: {p}" for p in problems]
        else:
            return k, broken
    raise AssertionError


def _prepared(
    store: ArtifactStore,
    scene: str,
    action: Action,
    older: Payload,
    payload: Payload,
    circumstances: Circumstances,
) -> Record | None:
    if scene == "new":
        return None
    record = store.publish(action, older if scene == "replace" else payload, circumstances)
    if scene == "repair":
        path = f"{object_folder(record.object)}/{min(record.files)}"
        data = bytearray(store.backend.get(path))
        data[len(data) // 2] ^= 1
        store.backend.put(path, bytes(data))
        try:
            store.read(record)
        except ArtifactCorrupt:
            return record
        raise AssertionError("the damage was not found")
    return record


def _false_service(store: ArtifactStore, found: Lookup | None, right: set[str]) -> list[str]:
    """Return what is wrong with what the store would serve."""
    if found is None or found.status == "known":
        return []
    try:
        store.read(found.record)
    except ArtifactCorrupt as damage:
        return [f"a hit cannot be read: {damage}"]
    return [] if found.record.logical in right else ["a hit is of other values"]
