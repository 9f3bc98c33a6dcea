"""Remembers what was computed from a file for as long as the file stays the same."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

T = TypeVar("T")

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS files (
        path TEXT, kind TEXT, stamp TEXT, value TEXT, checksum INTEGER, PRIMARY KEY (path, kind)
    ) WITHOUT ROWID
"""
# A file can be written again within one tick of its file system's clock; two seconds is FAT's.
_SETTLED_NS = 2_000_000_000
_BUSY_SECONDS = 5.0


class StatCache:
    """Values computed from files, by path, size, times and inode.

    Kept in an SQLite file that any number of processes may use at once. A cache that is lost,
    broken or locked costs time, and nothing else.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Use the cache at a path, by default in the user's cache folder."""
        self._path = path or Path(platformdirs.user_cache_dir("adaptivedrag")) / "files.sqlite"
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def digest(self, file: Path, kind: str, compute: Callable[[Path], T]) -> T:
        """Return what compute makes of the file, computing only if the file is not known.

        Args:
            kind: what is computed; a file has one value of each kind.
            compute: must return JSON.

        Raises:
            OSError: if there is no such file.
        """
        # SQLite takes text only, and the name of a file need not be any.
        name = str(file.absolute()).encode(errors="backslashreplace").decode()
        stamp = _stamp(file)
        known = self._get(name, kind, stamp)
        if known is not None:
            return json.loads(known)  # type: ignore[no-any-return]
        value = compute(file)
        if stamp == _stamp(file) and _is_settled(file):
            self._put(name, kind, stamp, json.dumps(value))
        return value

    def _get(self, name: str, kind: str, stamp: str) -> str | None:
        query = "SELECT value, checksum FROM files WHERE path = ? AND kind = ? AND stamp = ?"
        for value, checksum in self._run(query, name, kind, stamp):
            if checksum == _checksum(name, kind, stamp, value):
                return str(value)
        return None

    def _put(self, name: str, kind: str, stamp: str, value: str) -> None:
        checksum = _checksum(name, kind, stamp, value)
        query = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)"
        self._run(query, name, kind, stamp, value, checksum)

    def _run(self, query: str, *values: object) -> list[Any]:
        """Run a query; a locked or unreachable cache gives nothing, a broken one is begun anew."""
        with self._lock:
            for _ in range(2):
                try:
                    return self._connected().execute(query, values).fetchall()
                except sqlite3.OperationalError:
                    return []
                except sqlite3.DatabaseError:
                    self._discard()
        return []

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            with suppress(OSError):  # then connecting fails, and the cache stays empty
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self._path, _BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        # Cheap, and every time: another process may have begun the file anew.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(_SCHEMA)
        return self._connection

    def _discard(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _is_settled(file: Path) -> bool:
    stat = file.stat()
    return time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS


def _checksum(*texts: str) -> int:
    return zlib.crc32("\0".join(texts).encode(errors="surrogateescape"))
