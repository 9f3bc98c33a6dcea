"""An SQLite file in the user's cache, for facts that can always be computed again."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

_BUSY_SECONDS = 5.0
_ROOM = 16 << 20
"""Free bytes below which a disk counts as full."""


def cache_path(name: str) -> Path:
    """Return the path of a file in the user's cache.

    Without a home, or where that cannot be written or is full, it lies in the temporary folder.
    """
    with suppress(RuntimeError, OSError):  # no home; cannot be made
        folder = platformdirs.user_cache_path("adaptivedrag")
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _ROOM:
            return folder / name
    return _temporary_folder() / name


def _temporary_folder() -> Path:
    """Return a folder in the temporary folder that nobody else can write."""
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"adaptivedrag-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if (found.st_uid, found.st_mode) == (os.getuid(), stat.S_IFDIR | 0o700):
            return folder
    return Path(os.devnull) / "adaptivedrag"  # no file can be made there: nothing is remembered


class CacheFile:
    """One table, which any number of threads and processes may use at once.

    A file that is lost, broken or locked costs time and nothing else: queries then find nothing,
    and a broken file is replaced. Readers have to check single rows themselves.
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Use the file at a path; it is created when it is first needed.

        Args:
            schema: SQL that creates the table if there is none.
        """
        self._path = path
        self._schema = schema
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_patient = True

    def query(self, query: str, *values: object) -> list[Any]:
        """Return the rows that a query finds; none if the file cannot be used."""
        return self._try(lambda connection: connection.execute(query, values).fetchall())

    def write(self, query: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run a query for each row of values, in one transaction."""
        listed = list(rows)

        def write(connection: sqlite3.Connection) -> list[Any]:
            with connection:
                connection.executemany(query, listed)
            return []

        self._try(write)

    def _try(self, work: Any) -> list[Any]:
        with self._lock:
            for _ in range(2):
                try:
                    found: list[Any] = work(self._connected())
                except sqlite3.OperationalError as error:
                    # Another process may have replaced the file, without the table so far.
                    if "locked" in str(error):
                        self._wait_for(0)
                    if "no such table" not in str(error):
                        return []
                    self._disconnect()
                except sqlite3.DatabaseError:
                    self._discard()
                else:
                    if not self._is_patient:
                        self._wait_for(_BUSY_SECONDS)
                    return found
        return []

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            with suppress(OSError):  # then connecting fails, and nothing is found
                self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, _BUSY_SECONDS, check_same_thread=False)
            self._connection, self._is_patient = connection, True
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(self._schema)
        return self._connection

    def _wait_for(self, seconds: float) -> None:
        """Wait `seconds` when the file is locked: once, since it may be locked forever."""
        if self._connection is not None:
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
            self._is_patient = seconds > 0

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _discard(self) -> None:
        self._disconnect()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
