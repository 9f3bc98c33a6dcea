"""What the newest records of a store say about their objects, kept in the user's cache.

The index saves reading a record again, and never decides what is there: each row has the stamp of
the record's file from when it was read, and is used only while the file has that stamp. So a store
may change in any way behind it, and a lost, broken or old index costs only time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from artifacts.keys import Digest, Key, digest_bytes
from artifacts.lookup.cache_file import CacheFile, cache_path
from artifacts.records import Record

_FORM = 1
"""Version of the rows; raise it when they change, so that old ones are not read."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, row BLOB, checksum INTEGER)
    WITHOUT ROWID
"""


class Row(NamedTuple):
    """One record, in short.

    Attributes:
        stamp: of the record's file, see `artifacts.lookup.glance`; None if it has none yet.
        files: sizes of the object's files, by path.
    """

    key: Key
    number: int
    stamp: str | None
    object: Digest
    logical: Digest
    files: Mapping[str, int]

    @classmethod
    def of(cls, record: Record, stamp: str | None) -> Row:
        """Make a row of a record that was read while its file had this stamp."""
        return cls(
            record.key, record.number, stamp, record.object, record.logical, dict(record.files)
        )


class Index:
    """The rows of one store. Safe to use from any number of threads and processes."""

    def __init__(self, location: str) -> None:
        """Use the index of the store at a location."""
        name = digest_bytes("store", location.encode(errors="surrogateescape"))
        self._file = CacheFile(cache_path(f"stores/{name[:32]}.{_FORM}.sqlite"), _SCHEMA)

    def recall(self, stage: str, keys: Iterable[Key]) -> Iterator[Row]:
        """Yield the rows of a stage, in any order."""
        query = (
            "SELECT records.key, row, checksum FROM json_each(?) AS wanted "
            "CROSS JOIN records ON records.key = wanted.value"
        )
        for key, row, checksum in self._file.query(query, json.dumps(sorted(keys))):
            # A flipped bit can turn bytes into text.
            if type(row) is bytes and checksum == _checksum(stage, key, row):
                yield Row(key, *json.loads(row))

    def keep(self, stage: str, rows: Iterable[Row]) -> None:
        """Store rows, over older ones."""
        written = ((key, json.dumps(columns).encode()) for key, *columns in rows)
        self._file.write(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?)",
            ((key, row, _checksum(stage, key, row)) for key, row in written),
        )

    def forget(self, keys: Iterable[Key]) -> None:
        """Drop the rows of keys whose records turned out to differ."""
        self._file.write("DELETE FROM records WHERE key = ?", ((key,) for key in keys))


def _checksum(stage: str, key: Key, row: bytes) -> int:
    return zlib.crc32(f"{stage} {key} ".encode() + row)
