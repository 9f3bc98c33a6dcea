"""A cache of what was computed from files, valid while a file stays the same."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from artifacts.lookup.cache_file import CacheFile, cache_path
from artifacts.lookup.disk import SETTLED_NS

T = TypeVar("T")

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS files (
        path TEXT, kind TEXT, stamp TEXT, value TEXT, checksum INTEGER, PRIMARY KEY (path, kind)
    ) WITHOUT ROWID
"""


class StatCache:
    """Values computed from files, by path, size, times and inode.

    Kept in an SQLite file that any number of processes may use at once. A cache that is lost,
    broken or locked costs time, and nothing else.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Use the cache at a path, by default in the user's cache folder."""
        self._file = CacheFile(path or cache_path("files.sqlite"), _SCHEMA)
        self._recalled: dict[tuple[str, str], tuple[str, str, int]] = {}

    def recall(self, files: Iterable[str], kind: str) -> None:
        """Load what is known of these files at once, by absolute path."""
        query = (
            "SELECT path, stamp, value, checksum FROM files "
            "WHERE path IN (SELECT value FROM json_each(?)) AND kind = ?"
        )
        named = json.dumps(sorted(_text(file) for file in set(files)))
        for name, *known in self._file.query(query, named, kind):
            self._recalled[name, kind] = tuple(known)

    def value(self, file: Path, kind: str, compute: Callable[[Path], T]) -> T:
        """Return the result of `compute` for a file; compute only if the file is not known.

        Args:
            kind: name of the computed value; a file has one value of each kind.
            compute: must return JSON.

        Raises:
            OSError: if there is no such file.
        """
        name = _text(os.path.abspath(file))
        stamp = _stamp(file)
        known = self._get(name, kind, stamp)
        if known is not None:
            return json.loads(known)  # type: ignore[no-any-return]
        value = compute(file)
        if stamp == _stamp(file) and _is_settled(file):
            self._put(name, kind, stamp, json.dumps(value))
        return value

    def _get(self, name: str, kind: str, stamp: str) -> str | None:
        known = self._recalled.pop((name, kind), None)
        if known is None:
            query = "SELECT stamp, value, checksum FROM files WHERE path = ? AND kind = ?"
            known = next(iter(self._file.query(query, name, kind)), ("", "", 0))
        found, value, checksum = known
        # A flipped bit can turn text into bytes.
        is_text = found == stamp and type(value) is str
        return value if is_text and checksum == _checksum(name, kind, stamp, value) else None

    def _put(self, name: str, kind: str, stamp: str, value: str) -> None:
        checksum = _checksum(name, kind, stamp, value)
        query = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)"
        self._file.write(query, [(name, kind, stamp, value, checksum)])


def _text(path: str) -> str:
    # SQLite takes only text, and a file's name need not be valid text.
    return path if path.isascii() else path.encode(errors="backslashreplace").decode()


def _stamp(file: Path) -> str:
    stat = os.stat(file)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _is_settled(file: Path) -> bool:
    stat = os.stat(file)
    return time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS


def _checksum(*texts: str) -> int:
    return zlib.crc32("\0".join(texts).encode(errors="surrogateescape"))
