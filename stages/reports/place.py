"""The folder or URL of results: files appear whole or not at all, and every failure is one line."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adaptivedrag.errors import AdaptiveDragError
from artifacts import ArtifactError
from artifacts.places.backend import Backend, Entry


class ReportUnwritable(AdaptiveDragError, OSError):
    """The folder of the results cannot be written; the message names it."""


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Name the place where results could not be written.

    Raises:
        ReportUnwritable: for any error of the file system.
    """
    try:
        yield
    except ReportUnwritable:
        raise
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise ReportUnwritable(f"{place} is in the way: name another with --out") from error
    except (AdaptiveDragError, ArtifactError):
        raise
    except OSError as error:
        raise ReportUnwritable(
            f"{place} cannot be written ({error.strerror}): name another with --out"
        ) from error


class Place:
    """The folder or URL of results; every failure there is a `ReportUnwritable`."""

    def __init__(self, out: str | Path) -> None:
        """Make the folder, if there is none."""
        self.out = str(out)
        with self._reported():
            self._backend = Backend.open(out, create=True)
        self.root = self._backend.root

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self._reported():
            self._backend.put(path, data)

    def put_changed(self, path: str, data: bytes) -> None:
        """Write a file, unless it is there with these bytes."""
        if self.get(path) != data:
            self.put(path, data)

    def get(self, path: str) -> bytes:
        """Return the bytes of a file; none if it is not there."""
        with self._reported():
            return self._backend.get(path) or b""

    def stamp(self, path: str) -> str | None:
        """Return what changes when a file is written again; None if it is not there."""
        with self._reported():
            entry = self._backend.entry(path)
        return None if entry is None else _stamp(entry)

    def stamps(self, folder: str) -> dict[str, str]:
        """Return the stamps of all files below a folder, by path."""
        with self._reported():
            return {
                f"{folder}/{entry.path}": _stamp(entry) for entry in self._backend.entries(folder)
            }

    def names(self, folder: str) -> set[str]:
        """Return the paths of all files in a folder; on a disk without a look at each of them."""
        if self.root is None:
            return set(self.stamps(folder))
        with self._reported(), suppress(FileNotFoundError):
            return {f"{folder}/{name}" for name in os.listdir(self.root / folder)}
        return set()

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files."""
        with self._reported():
            self._backend.delete(paths)

    def append(self, path: str, data: bytes) -> None:
        """Add to a file of a folder."""
        with self._reported(), self.locked():
            self._backend.append(path, data)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from writing the table."""
        if self.root is None:
            yield
            return
        with self._reported():
            self._backend.append(".lock", b"")
            lock = (self.root / ".lock").open("ab")
        with lock:
            with suppress(OSError):  # some shared file systems know no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (ArtifactError, OSError) as error:
            reason = str(error).removeprefix(f"{self.out}: ")
            raise ReportUnwritable(
                f"results cannot be written to {self.out} ({reason}): "
                "make room, or name another folder with --out"
            ) from error


def _stamp(entry: Entry) -> str:
    """Return what changes when a file is written by somebody else."""
    return f"{entry.size} {entry.modified.isoformat()} {entry.e_tag or ''}".strip()
