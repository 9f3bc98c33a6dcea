"""What is there, at a glance: many folders looked at with the fewest requests that tell.

A folder on a disk is asked, file by file, for what is expected in it, which costs microseconds.
Object storage takes its time over whatever is asked, so it is asked for one listing for each
prefix: of the folder itself where only one is wanted, else of all that share the prefix.
"""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from artifacts.backend import Backend, Entry
from artifacts.errors import StoreUnavailable
from artifacts.parallel import at_once
from artifacts.stat_cache import SETTLED_NS


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

    def holds(self, folder: str, sizes: Mapping[str, int], without: str) -> bool:
        """Tell whether files of these sizes lie below a folder, and the one named `without` not."""
        ...


def glance(backend: Backend, folders: Iterable[str]) -> Glance:
    """Look at folders.

    Raises:
        StoreUnavailable: if that fails, now or as the glance is asked.
    """
    return _Listed(backend, set(folders)) if backend.root is None else _OnDisk(backend.root)


class _OnDisk:
    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._root + folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreUnavailable(f"{self._root}{folder}: {error.strerror}") from error

    def stamp(self, folder: str, name: str) -> str | None:
        above, file = self._stat(folder), self._stat(f"{folder}/{name}")
        if above is None or file is None:
            return None
        if time.time_ns() - max(above.st_ctime_ns, file.st_ctime_ns) < SETTLED_NS:
            return None
        return (
            f"{above.st_ctime_ns} {file.st_ctime_ns} {file.st_mtime_ns} "
            f"{file.st_size} {file.st_ino}"
        )

    def holds(self, folder: str, sizes: Mapping[str, int], without: str) -> bool:
        path = f"{self._root}{folder}/"
        try:
            for name, size in sizes.items():
                found = os.stat(path + name)
                if found.st_size != size or not stat.S_ISREG(found.st_mode):
                    return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}") from error
        return not os.access(path + without, os.F_OK)

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            return os.stat(self._root + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreUnavailable(f"{self._root}{path}: {error.strerror}") from error


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

    def holds(self, folder: str, sizes: Mapping[str, int], without: str) -> bool:
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
