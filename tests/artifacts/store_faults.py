"""Faults to put into a store: what happens to files on disks, and to requests on their way."""

import threading

from artifacts import StoreUnavailable
from artifacts.backend import Backend

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
    """A store whose every request can be watched, delayed, refused, or robbed of its reply.

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

    def sync(self, paths):
        paths = list(paths)
        self._request("sync", "", lambda: super(FaultyBackend, self).sync(paths))

    def delete(self, paths):
        for path in paths:
            self._request(
                "delete", path, lambda path=path: super(FaultyBackend, self).delete([path])
            )


def fail_from(k):
    """Fail at the k-th request and at all that follow, as a store that goes away does."""
    lock, left = threading.Lock(), [k]

    def before(operation, path):
        with lock:
            left[0] -= 1
            if left[0] < 0:
                raise StoreUnavailable("the store has gone away")

    return before


def fail_once(k):
    """Fail at the k-th request only: its reply is lost if this is used as `after`."""
    lock, seen = threading.Lock(), [-1]

    def fault(operation, path):
        with lock:
            seen[0] += 1
            if seen[0] == k:
                raise StoreUnavailable("the reply was lost")

    return fault
