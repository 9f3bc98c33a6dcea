"""One small face for a local folder, memory, and object storage, all through obstore."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from artifacts.errors import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PAGE = 1000


class Backend:
    """Files by relative path. Each write is atomic: a file is there whole, or not at all.

    Every failure of the store below is a `StoreUnavailable` of one line.
    """

    def __init__(self, objects: ObjectStore, name: str, root: Path | None = None) -> None:
        """Wrap an obstore store; root is its folder if it is one, for fsync."""
        self.name = name
        self._objects = objects
        self._root = root

    @classmethod
    def open(cls, location: str | Path | ObjectStore, create: bool) -> Backend:
        """Open a path, a URL (s3://, gs://, az://, memory://), or a store of obstore's."""
        if isinstance(location, LocalStore):
            return cls(location, repr(location), location.prefix)
        if not isinstance(location, str | Path):
            return cls(location, repr(location))
        address = str(location).removeprefix("file://")
        if "://" not in address:
            return cls._open_folder(Path(address).expanduser().absolute(), create)
        if address.startswith("memory://"):
            return cls(MemoryStore(), address)
        with _reported(address):
            return cls(from_url(address), address)

    @classmethod
    def _open_folder(cls, root: Path, create: bool) -> Backend:
        if not create and not root.is_dir():
            raise StoreUnavailable(f"{root}: no such folder")
        with _reported(str(root)):
            return cls(LocalStore(root, mkdir=create), str(root), root)

    def get(self, path: str) -> bytes | None:
        """Return a file's bytes, or None if it is not there."""
        with _reported(f"{self.name}: {path}"):
            try:
                return bytes(obstore.get(self._objects, path).bytes())
            except FileNotFoundError:
                return None

    def put(self, path: str, data: bytes) -> None:
        """Write a file, over an older one if need be."""
        with _reported(f"{self.name}: {path}"):
            obstore.put(self._objects, path, data, use_multipart=False)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file if none is there; tell whether it was written. Only one writer wins."""
        with _reported(f"{self.name}: {path}"):
            try:
                obstore.put(self._objects, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        """List all files below a folder: their sizes, by path relative to it."""
        with _reported(f"{self.name}: {folder}"):
            pages = obstore.list(self._objects, folder, chunk_size=_PAGE)
            files = (file for page in pages for file in page)
            return {file["path"][len(folder) + 1 :]: file["size"] for file in files}

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are gone already do not matter."""
        with _reported(self.name):
            for path in paths:
                try:
                    obstore.delete(self._objects, path)
                except FileNotFoundError:
                    continue

    def sync(self, paths: Iterable[str]) -> None:
        """Make files, and the names of all folders on the way to them, outlive a power loss.

        obstore writes without fsync. Object storage is durable when a put returns.
        """
        if self._root is None:
            return
        names = [PurePosixPath(path) for path in paths]
        folders = {folder for name in names for folder in name.parents}
        with _reported(self.name):
            for name in (*names, *sorted(folders, reverse=True)):
                _fsync(self._root / name)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Say in one line what failed; obstore's messages go on with the source for debugging."""
    try:
        yield
    except (OSError, BaseError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StoreUnavailable(f"{what}: {reason}") from error
