"""One small interface to a local folder, memory, and object storage, all through obstore."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from artifacts.errors import ArtifactCorrupt, StoreAbsent, StoreUnavailable
from artifacts.layout import FORMAT_FILE, most_bytes
from artifacts.places import folder as local
from artifacts.places.remedies import reason_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PAGE = 1000
_CREATE_TRIES = 5
_FIRST_PAUSE = 0.05
_NO_BUCKET = "<Code>NoSuchBucket</Code>"


@dataclass(frozen=True)
class Entry:
    """A stored file: its path below the listed folder, and the time at which it was stored."""

    path: str
    size: int
    modified: datetime
    e_tag: str | None = None
    """ETag of these bytes in object storage."""


class Backend:
    """Files by relative path. Each write is atomic: a file is there whole or not at all.

    Every failure of the underlying store is a `StoreUnavailable` of one line. In a local folder,
    links and special files do not count: no writer of ours makes them, and they lead out of the
    store or block. The folder itself may be a link.
    """

    def __init__(
        self, objects: ObjectStore, name: str, root: Path | None = None, is_named: bool = False
    ) -> None:
        """Wrap an obstore store.

        Args:
            root: the folder, if it is a local one, for fsync.
            is_named: whether the name identifies the store.
        """
        self.name = name
        self.is_named = is_named
        self.root = root
        self._objects = objects

    @classmethod
    def open(cls, location: str | Path | ObjectStore, create: bool) -> Backend:
        """Open a path, a URL (s3://, gs://, az://, memory://), or an obstore store."""
        if isinstance(location, LocalStore):
            return cls(location, repr(location), location.prefix)
        if not isinstance(location, str | Path):
            return cls(location, repr(location))
        address = str(location).removeprefix("file://")
        if "://" not in address:
            return cls._open_folder(_absolute(address), create)
        if address.startswith("memory://"):
            return cls(MemoryStore(), address)
        with _reported(address):
            _try_once(address)
            return cls(from_url(address), address, is_named=True)

    @classmethod
    def _open_folder(cls, root: Path, create: bool) -> Backend:
        if not create and not root.is_dir():
            raise StoreAbsent(f"{root}: no such folder")
        with _reported(str(root)):
            if create:
                local.make_root(root)
            return cls(LocalStore(root, automatic_cleanup=True), str(root), root, is_named=True)

    @property
    def parallel(self) -> int:
        """Number of requests in flight: more for a remote store, whose answers take time."""
        return 64 if self.root is None else 16

    @property
    def free_space(self) -> int | None:
        """Free bytes of a local disk; None for object storage."""
        if self.root is None:
            return None
        with _reported(self.name):
            return shutil.disk_usage(self.root).free

    def get(self, path: str) -> bytes | None:
        """Return a file's bytes, or None if it is not there.

        Raises:
            ArtifactCorrupt: if it is larger than any file that we write; it is not loaded then.
        """
        with _reported(f"{self.name}: {path}"):
            if self.root is not None and not _is_regular(self.root, path):
                return None
            try:
                found = obstore.get(self._objects, path)
            except FileNotFoundError as error:
                if _NO_BUCKET in str(error):
                    raise
                return None
            if found.meta["size"] > most_bytes(path):
                raise ArtifactCorrupt(_too_large(path, found.meta["size"]))
            return bytes(found.bytes())

    def put(self, path: str, data: bytes) -> None:
        """Write a file, over an older one if there is one."""
        with _reported(f"{self.name}: {path}"):
            self._check_put(path, data)
            if self.root is not None:
                local.write(self.root, path, data)
            else:
                obstore.put(self._objects, path, data, use_multipart=False)

    def append(self, path: str, data: bytes) -> None:
        """Add to a file that lies in a local folder itself."""
        assert self.root is not None
        with _reported(f"{self.name}: {path}"):
            local.append(self.root, path, data)

    def renew(self, path: str, data: bytes) -> None:
        """Write a file with the current time, so that a power loss cannot half undo it.

        On a local disk it is synced before it gets its name; if it holds these bytes already, only
        its time changes.
        """
        if self.root is None:
            return self.put(path, data)
        target = self.root / path
        with _reported(f"{self.name}: {path}"):
            self._check_put(path, data)
            with suppress(FileNotFoundError, PermissionError):  # gone, or another user's
                if _is_regular(self.root, path) and target.read_bytes() == data:
                    return os.utime(target)
            return local.write(self.root, path, data, lasting=True)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file if none is there; return whether the file there is ours. One writer wins.

        A refusal is checked: our own write may have arrived although its reply was lost, and a 409
        of object storage only means that another request was in progress, not that there is a file.
        """
        for attempt in range(_CREATE_TRIES):
            if self._put_if_absent(path, data):
                return True
            try:
                there = self.get(path)
            except ArtifactCorrupt:  # larger than any file of ours
                return False
            # On a local disk a refusal is final: a folder may be in the way.
            if there is not None or self.root is not None:
                return there == data
            time.sleep(_FIRST_PAUSE * 2**attempt)
        raise StoreUnavailable(f"{self.name}: {path}: refused, though nothing is there")

    def _put_if_absent(self, path: str, data: bytes) -> bool:
        with _reported(f"{self.name}: {path}"):
            self._check_put(path, data)
            if self.root is not None:
                return local.write_new(self.root, path, data)
            try:
                obstore.put(self._objects, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def _check_put(self, path: str, data: bytes) -> None:
        """Refuse to write outside the store, or a file too large to be read again."""
        link = self.root and _link_above(self.root, path)
        if not all(part.strip(".") for part in path.split("/")):
            raise ValueError(f"{path!r} leads out of the store")
        if link:
            raise ValueError(f"{link} is a link, which may lead out of the store: remove it")
        if len(data) > most_bytes(path):
            raise ValueError(_too_large(path, len(data)))

    def entries(self, folder: str) -> Iterator[Entry]:
        """List all files below a folder, page by page; "" is the whole store."""
        skipped = len(folder) + 1 if folder else 0
        with _reported(f"{self.name}: {folder}"):
            if self.root is not None:
                yield from _walk(self.root, folder, skipped)
                return
            for page in obstore.list(self._objects, folder or None, chunk_size=_PAGE):
                for file in page:
                    path, modified = file["path"][skipped:], file["last_modified"]
                    yield Entry(path, file["size"], modified, file["e_tag"])

    def sizes(self, folder: str) -> dict[str, int]:
        """List all files below a folder: their sizes, by path relative to it."""
        return {entry.path: entry.size for entry in self.entries(folder)}

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly below a folder, sorted."""
        with _reported(f"{self.name}: {folder}"):
            if self.root is not None:
                return sorted(e.name for e in _scan(self.root, folder) if _is_folder(e))
            found = obstore.list_with_delimiter(self._objects, folder or None)
            return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])

    def entry(self, path: str) -> Entry | None:
        """Return what is known of a file without reading it; None if it is not there."""
        with _reported(f"{self.name}: {path}"):
            try:
                if self.root is None:
                    found = obstore.head(self._objects, path)
                    return Entry(path, found["size"], found["last_modified"], found["e_tag"])
                if not _is_regular(self.root, path):
                    return None
                return _entry(path, os.lstat(self.root / path))
            except FileNotFoundError:
                return None

    def modified(self, path: str) -> datetime | None:
        """Return when a file was last written, by the store's own clock; None if it is gone."""
        with _reported(f"{self.name}: {path}"):
            try:
                return obstore.head(self._objects, path)["last_modified"]
            except FileNotFoundError:
                return None

    def unfinished(self) -> Iterator[Entry]:
        """List the unfinished files of writers, at work or killed.

        Object storage shows a file only once it is whole.
        """
        if self.root is None:
            return
        for above, _, names in os.walk(self.root):
            for name in filter(_is_unfinished, names):
                path = Path(above) / name
                try:
                    stat = path.stat()
                except FileNotFoundError:  # finished meanwhile
                    continue
                modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield Entry(path.relative_to(self.root).as_posix(), stat.st_size, modified)

    def delete_unfinished(self, path: str) -> None:
        """Delete a file that `unfinished` named."""
        if self.root is None or not _is_unfinished(path):
            raise ValueError(f"{path} is not an unfinished file")
        with _reported(f"{self.name}: {path}"):
            (self.root / path).unlink(missing_ok=True)

    def delete(self, paths: Iterable[str], lasting: bool = False) -> None:
        """Delete files; ignore those that are gone already.

        Args:
            lasting: make sure that a power loss cannot bring one back once the next is deleted.
        """
        for path in paths:
            if self.root is not None and _link_above(self.root, path):
                continue
            with _reported(self.name), suppress(FileNotFoundError):
                obstore.delete(self._objects, path)
            if lasting and self.root is not None:
                self.sync([path])

    def sync(self, paths: Iterable[str], folders: bool = True) -> None:
        """Make files, and the names of all folders on the way to them, survive a power loss.

        Files are written without fsync. Object storage is durable when a put returns.

        Args:
            folders: whether to sync the names too; without them only the files' bytes are safe.
        """
        if self.root is None:
            return
        names = [PurePosixPath(path) for path in paths]
        above = {folder for name in names for folder in name.parents} if folders else set()
        with _reported(self.name):
            for name in (*names, *sorted(above, reverse=True)):
                # If a collector deleted it meanwhile, the check after the commit sees that.
                with suppress(FileNotFoundError):
                    local.sync(self.root / name)


def _try_once(address: str) -> None:
    """Find out within seconds whether a place can be reached; later requests are more patient.

    Raises:
        OSError, BaseError: as the request that failed did.
    """
    # Client options given here would replace those that the environment names, such as a proxy.
    hasty = from_url(
        address, retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
    )
    try:
        obstore.get(hasty, FORMAT_FILE)
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise


def _scan(root: Path, folder: str) -> Iterator[os.DirEntry[str]]:
    """List a folder; yield nothing if it is not a folder, or a link is on the way to it."""
    if _link_above(root, f"{folder}/"):
        return
    try:
        with os.scandir(root / folder) as found:
            yield from found
    except (FileNotFoundError, NotADirectoryError):
        return


def _walk(root: Path, above: str, skipped: int) -> Iterator[Entry]:
    """List the files below a folder, finished ones with valid names."""
    folders = [above]
    while folders:
        folder = folders.pop()
        for entry in _scan(root, folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                folders.append(path)
            elif entry.is_file(follow_symlinks=False) and not _is_unfinished(entry.name):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted meanwhile
                    continue
                yield _entry(path[skipped:], found)


def _entry(path: str, found: os.stat_result) -> Entry:
    return Entry(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _is_unfinished(name: str) -> bool:
    return local.UNFINISHED.fullmatch(name) is not None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _link_above(root: Path, path: str) -> str | None:
    """Return the first link among the folders on the way to a path."""
    place = str(root)
    for folder in filter(None, path.split("/")[:-1]):
        place = f"{place}/{folder}"
        if os.path.islink(place):
            return place
    return None


def _is_regular(root: Path, path: str) -> bool:
    if _link_above(root, path):
        return False
    try:
        return stat.S_ISREG(os.lstat(root / path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _too_large(path: str, size: int) -> str:
    return f"{path} has {size} bytes, and a store holds at most {most_bytes(path)} of such a file"


def _absolute(address: str) -> Path:
    try:
        return Path(address).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user, no home, no current folder
        raise StoreUnavailable(f"{address}: {error}: write the whole path") from error


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Return in one line what failed and what to do; obstore adds lines of debugging output."""
    try:
        yield
    except (OSError, BaseError, ValueError) as error:
        raise StoreUnavailable(f"{what}: {reason_of(error)}") from error
