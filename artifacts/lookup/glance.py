"""Looks at many folders with as few requests as possible.

On a disk, each expected file is looked at, which takes microseconds. Each request to object storage
takes milliseconds, so it lists each prefix once: the folder itself if only one is wanted, otherwise
all folders that share the prefix.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from artifacts.errors import StoreUnavailable
from artifacts.lookup import disk
from artifacts.places.backend import Backend, Entry
from artifacts.places.parallel import at_once


class Glance(Protocol):
    """Folders as they are now. Each method raises StoreUnavailable if the store fails."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files that lie in a folder itself."""
        ...

    def stamps(self, files: Sequence[tuple[str, str]]) -> list[str | None]:
        """Return a text for each file that changes when it or its folder's list of files does.

        Args:
            files: the folder and the name of each file.

        Returns:
            None for a file that is not there, or so new that it could change unnoticed.
        """
        ...

    def whole(self, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> list[bool]:
        """Return for each folder whether it holds files of these sizes and no file `without`."""
        ...


def glance(backend: Backend, folders: Iterable[str]) -> Glance:
    """Look at folders.

    Raises:
        StoreUnavailable: if the store fails.
    """
    if backend.root is None:
        return _Listed(backend, set(folders))
    return _OnDisk(backend.root)


class _OnDisk:
    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def names(self, folder: str) -> list[str]:
        with self._reported():
            try:
                return os.listdir(f"{self._root}/{folder}")
            except (FileNotFoundError, NotADirectoryError):
                return []

    def stamps(self, files: Sequence[tuple[str, str]]) -> list[str | None]:
        with self._reported():
            return disk.stamps(self._root, files)

    def whole(self, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> list[bool]:
        with self._reported():
            return disk.whole(self._root, folders, without)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
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

    def stamps(self, files: Sequence[tuple[str, str]]) -> list[str | None]:
        return [self._stamp(folder, name) for folder, name in files]

    def whole(self, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> list[bool]:
        return [self._is_whole(folder, sizes, without) for folder, sizes in folders]

    def _stamp(self, folder: str, name: str) -> str | None:
        entry = self._found.get(folder, {}).get(name)
        if entry is None or entry.e_tag is None:
            return None
        return f"{' '.join(sorted(self.names(folder)))} {entry.size} {entry.e_tag} {entry.modified}"

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
    """Return the prefixes to list, and the wanted folders below each."""
    by_prefix: defaultdict[str, set[str]] = defaultdict(set)
    for folder in folders:
        by_prefix[folder.rpartition("/")[0]].add(folder)
    found: list[tuple[str, set[str]]] = []
    for prefix, wanted in sorted(by_prefix.items()):
        found.append((next(iter(wanted)) if len(wanted) == 1 else prefix, wanted))
    return found
