"""What is there, at a glance: many folders looked at with the fewest requests that tell.

A folder on a disk is asked, file by file, for what is expected in it, which costs microseconds.
Object storage takes its time over whatever is asked, so it is asked for one listing for each
prefix: of the folder itself where only one is wanted, else of all that share the prefix.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from artifacts.errors import StoreUnavailable
from artifacts.lookup import disk
from artifacts.places.backend import Backend, Entry
from artifacts.places.parallel import at_once

A = TypeVar("A")
Answer: TypeAlias = Callable[[], list[bool]]
"""Returns what was found, once it is needed; raises StoreUnavailable if that has failed."""


class Glance(Protocol):
    """Folders as they are now."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files that lie in a folder itself."""
        ...

    def stamp(self, folder: str, name: str) -> str | None:
        """Return what changes whenever the file does, or another comes to lie beside it.

        None if the file is not there, or so new that it could change unnoticed.
        """
        ...

    def unchanged(self, files: Sequence[tuple[str, str, str | None]]) -> Answer:
        """Tell of each file, given by folder and name, whether it still has a stamp."""
        ...

    def whole(self, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> Answer:
        """Tell of each folder whether files of these sizes lie below it, and `without` does not."""
        ...


def glance(backend: Backend, folders: Iterable[str], helper: disk.Helper | None = None) -> Glance:
    """Look at folders.

    Args:
        helper: looks at files of a disk while the caller goes on.

    Raises:
        StoreUnavailable: if that fails, now or as the glance is asked.
    """
    if backend.root is None:
        return _Listed(backend, set(folders))
    return _OnDisk(backend.root, helper)


class _OnDisk:
    def __init__(self, root: Path, helper: disk.Helper | None) -> None:
        self._root = str(root)
        self._helper = helper

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(f"{self._root}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreUnavailable(f"{self._root}/{folder}: {error.strerror}") from error

    def stamp(self, folder: str, name: str) -> str | None:
        (found,) = self._reported(lambda: disk.stamps(self._root, [(folder, name)]))
        return found

    def unchanged(self, files: Sequence[tuple[str, str, str | None]]) -> Answer:
        if self._helper:
            asked = self._helper.unchanged(self._root, files)
            return lambda: self._reported(asked)
        found = self._reported(lambda: disk.unchanged(self._root, files))
        return lambda: found

    def whole(self, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> Answer:
        if self._helper:
            asked = self._helper.whole(self._root, folders, without)
            return lambda: self._reported(asked)
        found = self._reported(lambda: disk.whole(self._root, folders, without))
        return lambda: found

    def _reported(self, look: Callable[[], A]) -> A:
        try:
            return look()
        except OSError as error:
            path = os.path.join(self._root, error.filename or "")
            raise StoreUnavailable(f"{path}: {error.strerror}") from error


class _Listed:
    def __init__(self, backend: Backend, folders: set[str]) -> None:
        self._backend = backend
        self._found: dict[str, dict[str, Entry]] = {}
        for part in at_once(self._list, _requests(folders), backend.parallel):
            self._found.update(part)

    def names(self, folder: str) -> list[str]:
        return [path for path in self._found.get(folder, ()) if "/" not in path]

    def stamp(self, folder: str, name: str) -> str | None:
        entry = self._found.get(folder, {}).get(name)
        if entry is None or entry.e_tag is None:
            return None
        return f"{' '.join(sorted(self.names(folder)))} {entry.size} {entry.e_tag} {entry.modified}"

    def unchanged(self, files: Sequence[tuple[str, str, str | None]]) -> Answer:
        now = [(self.stamp(folder, name), before) for folder, name, before in files]
        found = [stamp is not None and stamp == before for stamp, before in now]
        return lambda: found

    def whole(self, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> Answer:
        found = [self._is_whole(folder, sizes, without) for folder, sizes in folders]
        return lambda: found

    def _is_whole(self, folder: str, sizes: Mapping[str, int], without: str) -> bool:
        there = {path: entry.size for path, entry in self._found.get(folder, {}).items()}
        return without not in there and sizes.items() <= there.items()

    def _list(self, request: tuple[str, set[str]]) -> dict[str, dict[str, Entry]]:
        above, wanted = request
        found: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
        for entry in self._backend.entries(above):
            name, _, path = entry.path.partition("/")
            folder, path = (above, entry.path) if above in wanted else (f"{above}/{name}", path)
            if folder in wanted:
                found[folder][path] = entry
        return found


def _requests(folders: Iterable[str]) -> list[tuple[str, set[str]]]:
    """Return what to list, and which of the wanted folders are found there."""
    by_prefix: defaultdict[str, set[str]] = defaultdict(set)
    for folder in folders:
        by_prefix[folder.rpartition("/")[0]].add(folder)
    found: list[tuple[str, set[str]]] = []
    for prefix, wanted in sorted(by_prefix.items()):
        found.append((next(iter(wanted)) if len(wanted) == 1 else prefix, wanted))
    return found
