"""The store: actions to records, records to objects. `artifacts.layout` has the paths.

Payload first, record last, and readers start at the record: nothing half-written is ever seen.
Nothing is edited or moved. A later record of a key gets the next number, and readers take the
highest that parses.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from obstore.store import MemoryStore

from artifacts.errors import ArtifactCorrupt, StoreAbsent, StoreUnavailable
from artifacts.keys import Action, Digest, Key, is_digest, readable_json
from artifacts.layout import (
    ACTIONS,
    ATTEMPTS,
    DAMAGED,
    FORMAT_FILE,
    PROGRESS,
    RUNS,
    action_folder,
    file_name,
    key_folder,
    number_of,
    numbered,
    numbers_of,
    object_folder,
    word,
)
from artifacts.lookup.glance import Glance, glance
from artifacts.lookup.index import Index, Row
from artifacts.payload import Encoded, Payload, check, decode, encode, object_id
from artifacts.places.backend import Backend
from artifacts.places.parallel import at_once
from artifacts.records import (
    MANIFEST,
    Circumstances,
    Lookup,
    Manifest,
    Progress,
    Record,
    seal,
    unseal_object,
)

if TYPE_CHECKING:
    from datetime import datetime

    from obstore.store import ObjectStore

FORMAT = {"store": "adaptivedrag", "version": 1}
_KEPT_STEPS = 2

A = TypeVar("A")


@dataclass(frozen=True)
class Produced:
    """What an action made, for publishing.

    Attributes:
        summary: what the stage says about its own work, as JSON.
    """

    payload: Payload
    circumstances: Circumstances
    summary: Mapping[str, Any] = field(default_factory=dict)


class ArtifactStore:
    """Names and keeps results. Safe to use from any number of threads and processes."""

    def __init__(self, backend: Backend, *, is_absent: bool = False) -> None:
        """Use a backend as it is; `open` and `absent` are the usual constructors."""
        self.backend = backend
        self.is_absent = is_absent
        # A store that was not opened by name cannot be distinguished from others.
        self._index = Index(backend.name) if backend.is_named else None

    @classmethod
    def open(cls, location: str | Path | ObjectStore, create: bool = True) -> ArtifactStore:
        """Open a store.

        Args:
            location: a folder, a URL such as s3://bucket/prefix, memory://, or an obstore store.
            create: create the store if there is none, and check that it can be written.

        Raises:
            StoreUnavailable: if it cannot be opened, or has another format.
        """
        store = cls(Backend.open(location, create))
        store._check_format(create)
        return store

    @classmethod
    def absent(cls, location: str | Path) -> ArtifactStore:
        """Return an empty store in memory, in place of one that does not exist yet."""
        return cls(Backend(MemoryStore(), str(location)), is_absent=True)

    @classmethod
    def open_to_read(cls, location: str | Path) -> ArtifactStore:
        """Open a store that may be read-only; one that does not exist yet counts as empty.

        Raises:
            StoreUnavailable: as `open`.
        """
        try:
            return cls.open(location, create=False)
        except StoreAbsent:
            return cls.absent(location)

    @property
    def location(self) -> str:
        """Where the store is, as given."""
        return self.backend.name

    def lookup(self, stage: str, key: Key) -> Lookup | None:
        """Find the highest record of a key that parses, and whether its object is there.

        This checks existence and sizes; `read` checks bytes.
        """
        numbers = self._numbers(action_folder(stage, key))
        record = self._newest_record(stage, key, numbers)
        if numbers and (record is None or record.number != numbers[-1]):
            self.forget(key)
        if record is None:
            return None
        return _lookup(record, self._is_complete(record), lambda _key, _number: record)

    def lookup_many(self, stage: str, keys: Iterable[Key]) -> dict[Key, Lookup]:
        """Look up many keys of a stage at once; unknown ones are left out.

        Raises:
            StoreUnavailable: if the store cannot be read.
        """
        folders = {key: action_folder(stage, key) for key in keys}
        rows = self._rows(stage, folders)
        objects = [(object_folder(row.object), row.files) for row in rows]
        there = glance(self.backend, (folder for folder, _ in objects))
        are_whole = there.whole(objects, without=DAMAGED)
        read = partial(self._record_numbered, stage)
        return {
            row.key: _lookup(row, is_whole, read)
            for row, is_whole in zip(rows, are_whole, strict=True)
        }

    def records_of(self, stage: str) -> Iterator[Record]:
        """Yield the newest record of each key of a stage."""
        numbers = self._numbers_by_key(f"{ACTIONS}/{word(stage)}")
        find = partial(self._newest_of, stage, numbers)
        yield from filter(None, at_once(find, sorted(numbers), self.backend.parallel))

    def ensure(
        self, action: Action, produce: Callable[[], Produced], *, replace: bool = False
    ) -> Record:
        """Return the record of an action; do its work first if the store has no result of it.

        Args:
            produce: does the work; called only if there is no hit. Its errors are passed on, and
                nothing is published then.
            replace: do the work in any case, and publish the next record.

        Raises:
            StoreUnavailable: if the store cannot be read or written; nothing was committed then.
        """
        found = None if replace else self.lookup(action.stage, action.key)
        if found and found.status == "hit":
            return found.record
        made = produce()
        return self.publish(action, made.payload, made.circumstances, made.summary, replace)

    def publish(
        self,
        action: Action,
        payload: Payload,
        circumstances: Circumstances,
        summary: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> Record:
        """Keep what an action made; return the record that counts from now on.

        The first writer wins: if a record is there and every byte of its object is right, that
        record is returned. Damaged files of an object with the same bytes are repaired.

        Args:
            summary: what the stage says about its own work, as JSON.
            replace: publish the next record in any case, as for a forced rerun.

        Raises:
            StoreUnavailable: if the store cannot be written; nothing was committed then.
        """
        winner = None if replace else self._winner(action)
        if winner:
            return winner
        encoded = encode(payload)
        return self._keep(_record(action, encoded, circumstances, summary or {}), encoded, replace)

    def verified(self, record: Record) -> Encoded:
        """Return the files of a record's object as stored, with every byte checked.

        Raises:
            ArtifactCorrupt: naming the file.
        """
        manifest, files = self._verified(record)
        return Encoded(files, manifest, record.object)

    def adopt(self, record: Record, encoded: Encoded | None) -> Record:
        """Keep a record of another store, with its object if that has bytes.

        Returns:
            The record that counts here from now on, numbered as this store numbers.

        Raises:
            ArtifactCorrupt: if the key does not match the work that the record describes.
            StoreUnavailable: if the store cannot be written; nothing was committed then.
        """
        if record.action.key != record.key:
            raise ArtifactCorrupt(f"the record of {record.stage} {record.key} is of other work")
        if encoded is not None:
            return self._winner(record.action) or self._keep(record, encoded, replace=False)
        found = self.lookup(record.stage, record.key)
        return found.record if found else self._commit(record, replace=False)

    def read(self, record: Record, only: Collection[str] | None = None) -> dict[str, Any]:
        """Read a payload, checking the sha256 of every byte.

        Args:
            only: the parts that are wanted, as far as they are there; all by default.

        Returns:
            By part: a numpy array for an array or a picture, a dict of arrays for a tensor
            file, a JSON value for a document.

        Raises:
            ArtifactCorrupt: naming the file; later lookups call the action known, not a hit.
        """
        folder = object_folder(record.object)
        try:
            manifest, files = self._verified(record)
            return decode(manifest, files, only)
        except ArtifactCorrupt as damage:
            if self._is_complete(record):
                self.mark_damaged(record.object, str(damage))
            raise ArtifactCorrupt(f"{self.location}: {folder}: {damage}") from damage

    def check_files(
        self, folder: str, expected: Digest | None = None
    ) -> tuple[Manifest, dict[str, bytes]]:
        """Read the files of an object or a checkpoint, checking every byte against its manifest.

        Args:
            folder: where they lie in the store.
            expected: the object's id, if the manifest must be that of an object.

        Raises:
            ArtifactCorrupt: naming the file.
        """
        data = self._needed(folder, MANIFEST)
        if expected and object_id(data) != expected:
            raise ArtifactCorrupt(f"{MANIFEST} has changed: its sha256 is another")
        try:
            manifest = Manifest.from_bytes(data)
        except ValueError as error:
            raise ArtifactCorrupt(f"{MANIFEST} cannot be read: {error}") from error
        sizes = self.backend.sizes(folder)
        files = {}
        for stored in manifest.files:
            # A wrong size is found before the file is loaded.
            if sizes.get(stored.path, stored.size) != stored.size:
                raise ArtifactCorrupt(
                    f"{stored.path} has {sizes[stored.path]} bytes instead of {stored.size}"
                )
            files[stored.path] = self._needed(folder, stored.path)
            check(stored, files[stored.path])
        return manifest, {**files, MANIFEST: data}

    def mark_damaged(self, object_: Digest, reason: str) -> None:
        """Mark an object as damaged, since later look-ups do not read its bytes."""
        with suppress(StoreUnavailable):  # a read-only store cannot be marked
            self._put_mark(object_folder(object_), reason)

    def forget(self, key: Key) -> None:
        """Read the records of a key again at the next look-up, whatever the index says."""
        if self._index:
            self._index.forget([key])

    def missing_bytes(self, record: Record) -> str:
        """Return why the object of a record cannot be served; "" if it can, judging by sizes."""
        folder = object_folder(record.object)
        sizes = self.backend.sizes(folder)
        if not sizes:
            return "its bytes are gone"
        if DAMAGED in sizes:
            # A torn mark counts as a mark.
            with suppress(ValueError, KeyError, ArtifactCorrupt):
                data = self.backend.get(f"{folder}/{DAMAGED}")
                return f"its bytes are damaged: {unseal_object(data or b'')['reason']!s:.300}"
            return "its bytes are damaged"
        wrong = [path for path, size in record.files.items() if sizes.get(path) != size]
        return f"its bytes are damaged: {wrong[0]} is missing or cut off" if wrong else ""

    def some_records(self, stage: str, most: int) -> list[Record]:
        """Return the newest records of a few keys of a stage, of any keys."""
        above, found = f"{ACTIONS}/{word(stage)}", list[Record]()
        for shard in self.backend.folders(above):
            numbers = self._numbers_by_key(f"{above}/{shard}")
            find = partial(self._newest_of, stage, numbers)
            keys = sorted(numbers)[: most - len(found)]
            found += filter(None, at_once(find, keys, self.backend.parallel))
            if len(found) >= most:
                break
        return found

    def put_progress(self, stage: str, key: Key, step: int, payload: Payload) -> None:
        """Keep a checkpoint of a stage at work and the one before it; delete older ones."""
        folder = key_folder(PROGRESS, stage, key)
        for path, data in encode(payload).files.items():
            self.backend.put(f"{folder}/{step:08d}/{path}", data)
        older = sorted({s for s in self._steps(folder) if s < step}, reverse=True)
        for old in older[_KEPT_STEPS - 1 :]:
            self._delete_below(f"{folder}/{old:08d}")

    def latest_progress(self, stage: str, key: Key) -> Progress | None:
        """Read the highest checkpoint that is whole."""
        folder = key_folder(PROGRESS, stage, key)
        for step in sorted(self._steps(folder), reverse=True):
            with suppress(ArtifactCorrupt):  # torn by a crash; the one before is whole
                return Progress(step, decode(*self.check_files(f"{folder}/{step:08d}")))
        return None

    def drop_progress(self, stage: str, key: Key) -> None:
        """Delete an action's checkpoints, once it is published."""
        self._delete_below(key_folder(PROGRESS, stage, key))

    def add_attempt(self, stage: str, key: Key, document: Mapping[str, Any]) -> int:
        """Keep a description of a failed attempt; return its number."""
        folder, data = key_folder(ATTEMPTS, stage, key), seal(document)
        first = max(self._numbers(folder), default=0) + 1
        return next(n for n in count(first) if self.backend.create(numbered(folder, n), data))

    def attempts(self, stage: str, key: Key) -> list[dict[str, Any]]:
        """Return the readable attempts of an action, oldest first."""
        folder = key_folder(ATTEMPTS, stage, key)
        found = (self._get_numbered(folder, n, unseal_object) for n in self._numbers(folder))
        return [document for document in found if document is not None]

    def last_attempts(self, stage: str, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
        """Return the newest readable attempt of each key that has one."""
        numbers = self._numbers_by_key(f"{ATTEMPTS}/{word(stage)}")
        tried = sorted(set(keys) & numbers.keys())

        def newest(key: Key) -> dict[str, Any] | None:
            folder = key_folder(ATTEMPTS, stage, key)
            found = (self._get_numbered(folder, n, unseal_object) for n in reversed(numbers[key]))
            return next(filter(None, found), None)

        found = zip(tried, at_once(newest, tried, self.backend.parallel), strict=True)
        return {key: document for key, document in found if document is not None}

    def put_run(self, run_id: str, name: str, data: bytes) -> None:
        """Keep a file of a run, over an older one of that name."""
        self.backend.put(f"{RUNS}/{word(run_id)}/{word(name)}", data)

    def get_run(self, run_id: str, name: str) -> bytes | None:
        """Return a file of a run."""
        return self.backend.get(f"{RUNS}/{word(run_id)}/{word(name)}")

    def run_written(self, run_id: str, name: str) -> datetime | None:
        """Return when a file of a run was written, by the store's own clock; None if it is gone."""
        return self.backend.modified(f"{RUNS}/{word(run_id)}/{word(name)}")

    def runs(self, having: str = "", lacking: str = "") -> list[str]:
        """Return the sorted ids of all runs, or of those that have one file and lack another."""
        files: defaultdict[str, set[str]] = defaultdict(set)
        for path in self.backend.sizes(RUNS):
            run_id, _, name = path.partition("/")
            files[run_id].add(name)
        return sorted(
            run_id
            for run_id, names in files.items()
            if (not having or having in names) and lacking not in names
        )

    def _check_format(self, create: bool) -> None:
        # Try first, since only a write shows whether the store can be written.
        if create and self.backend.create(FORMAT_FILE, readable_json(FORMAT)):
            return self.backend.sync([FORMAT_FILE])
        data = self.backend.get(FORMAT_FILE)
        # A kill or a power loss during the very first opening can leave a name without bytes.
        is_torn = data is not None and readable_json(FORMAT).startswith(data.rstrip(b"\0"))
        if create and is_torn and data != readable_json(FORMAT):
            return self.backend.put(FORMAT_FILE, readable_json(FORMAT))
        if not data or not data.strip(b"\0"):
            raise StoreAbsent(f"{self.location}: there is no store here")
        if data != readable_json(FORMAT):
            raise StoreUnavailable(f"{self.location}: {_other_format(data)}")
        return None

    def _rows(self, stage: str, folders: Mapping[Key, str]) -> list[Row]:
        """Find the newest record of each key; read only those that the index does not have."""
        seen = glance(self.backend, folders.values())
        known = list(self._index.recall(stage, folders)) if self._index else []
        now = seen.stamps([(folders[row.key], file_name(row.number)) for row in known])
        rows = [row for row, stamp in zip(known, now, strict=True) if row.stamp == stamp]
        remembered = {row.key for row in rows}
        new = [key for key in folders if key not in remembered and seen.names(folders[key])]
        read = at_once(lambda key: self._row(stage, key, seen), new, self.backend.parallel)
        fresh = [row for row in read if row]
        if self._index and fresh:
            self._index.keep(stage, (row for row in fresh if row.stamp))
        return rows + fresh

    def _row(self, stage: str, key: Key, seen: Glance) -> Row | None:
        """Read the newest record of a key."""
        folder = action_folder(stage, key)
        numbers = numbers_of(seen.names(folder))
        for number in reversed(numbers):
            # Taken before reading: if the file changes meanwhile, the stamp is the old one.
            (stamp,) = seen.stamps([(folder, file_name(number))])
            if record := self._newest_record(stage, key, [number]):
                # A later one that cannot be read may be half written.
                return Row.of(record, stamp if number == numbers[-1] else None)
        return None

    def _record_numbered(self, stage: str, key: Key, number: int) -> Record:
        record = self._newest_record(stage, key, [number])
        if record is None:
            self.forget(key)
            path = numbered(action_folder(stage, key), number)
            raise ArtifactCorrupt(f"{self.location}: {path} is gone or has changed just now")
        return record

    def _newest_of(self, stage: str, numbers: Mapping[Key, list[int]], key: Key) -> Record | None:
        return self._newest_record(stage, key, numbers[key])

    def _newest_record(self, stage: str, key: Key, numbers: list[int]) -> Record | None:
        """Return the highest record that parses and is this key's; others are ignored."""
        folder = action_folder(stage, key)
        for number in reversed(numbers):
            record = self._get_numbered(folder, number, Record.from_bytes)
            if record and (record.stage, record.key, record.number) == (stage, key, number):
                return record
        return None

    def _is_complete(self, record: Record) -> bool:
        sizes = self.backend.sizes(object_folder(record.object))
        return DAMAGED not in sizes and record.files.items() <= sizes.items()

    def _winner(self, action: Action) -> Record | None:
        """Return the record to which a second writer has to yield: one that can be served."""
        found = self.lookup(action.stage, action.key)
        if found is None or found.status != "hit":
            return None
        try:
            self._verified(found.record)
        except ArtifactCorrupt:
            return None
        return found.record

    def _keep(self, record: Record, encoded: Encoded, replace: bool) -> Record:
        self._put_object(encoded)
        kept = self._commit(record, replace)
        if kept.object == encoded.object and not self._is_complete(kept):
            # Collected between our check and our commit, while no record named it.
            self._put_object(encoded)
        return kept

    def _put_object(self, encoded: Encoded) -> None:
        """Write the files that are not there with these bytes, the manifest last, durably.

        A record may name the object already, so nothing may look whole before it is, not even after
        a power loss: payload is synced before the manifest gets its name, and an object with a
        manifest is marked before it is repaired. The manifest is always renewed: its new time tells
        a collector that the object is in use again.
        """
        folder = object_folder(encoded.object)
        sizes = self.backend.sizes(folder)
        payload = {name: data for name, data in encoded.files.items() if name != MANIFEST}
        wrong = [name for name, data in payload.items() if not self._has(folder, name, data, sizes)]
        if wrong and MANIFEST in sizes and DAMAGED not in sizes:
            self._put_mark(folder, "it is being repaired")
            self.backend.sync([f"{folder}/{DAMAGED}"])
        for name in wrong:
            self.backend.put(f"{folder}/{name}", payload[name])
        self.backend.sync((f"{folder}/{name}" for name in payload), folders=False)
        self.backend.renew(f"{folder}/{MANIFEST}", encoded.files[MANIFEST])
        self.backend.sync(f"{folder}/{name}" for name in encoded.files)
        if DAMAGED in sizes or (wrong and MANIFEST in sizes):
            self.backend.delete([f"{folder}/{DAMAGED}"])

    def _has(self, folder: str, name: str, data: bytes, sizes: Mapping[str, int]) -> bool:
        return sizes.get(name) == len(data) and self.backend.get(f"{folder}/{name}") == data

    def _commit(self, record: Record, replace: bool) -> Record:
        folder = action_folder(record.stage, record.key)
        taken = 0
        while True:
            # Listed before looking for the winner: whoever commits after that takes this
            # number, so ours is refused and we look again.
            taken = max([taken, *self._numbers(folder)]) + 1
            winner = None if replace else self._winner(record.action)
            if winner:
                return winner
            candidate = record.model_copy(update={"number": taken})
            if self.backend.create(numbered(folder, taken), candidate.to_bytes()):
                self.backend.sync([numbered(folder, taken)])
                return candidate

    def _verified(self, record: Record) -> tuple[Manifest, dict[str, bytes]]:
        manifest, files = self.check_files(object_folder(record.object), record.object)
        if manifest.logical != record.logical:
            raise ArtifactCorrupt(f"{MANIFEST} does not belong to the object that the record names")
        return manifest, files

    def _needed(self, folder: str, path: str) -> bytes:
        data = self.backend.get(f"{folder}/{path}")
        if data is None:
            raise ArtifactCorrupt(f"{path} is missing")
        return data

    def _put_mark(self, folder: str, reason: str) -> None:
        self.backend.put(f"{folder}/{DAMAGED}", seal({"reason": reason}))

    def _steps(self, folder: str) -> set[int]:
        names = {path.partition("/")[0] for path in self.backend.sizes(folder)}
        return {int(name) for name in names if re.fullmatch(r"[0-9]{8}", name)}

    def _delete_below(self, folder: str) -> None:
        self.backend.delete([f"{folder}/{path}" for path in self.backend.sizes(folder)])

    def _numbers(self, folder: str) -> list[int]:
        """Return the sorted numbers of the numbered files of a folder."""
        return self._numbers_by_folder(folder).get(folder, [])

    def _numbers_by_folder(self, above: str) -> dict[str, list[int]]:
        """Return the numbered files of all folders below one, in one listing."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for path in self.backend.sizes(above):
            folder, _, name = f"{above}/{path}".rpartition("/")
            if (number := number_of(name)) is not None:
                found[folder].append(number)
        return {folder: sorted(numbers) for folder, numbers in found.items()}

    def _numbers_by_key(self, above: str) -> dict[Key, list[int]]:
        folders = self._numbers_by_folder(above).items()
        named = ((Key(folder.rpartition("/")[2]), numbers) for folder, numbers in folders)
        return {key: numbers for key, numbers in named if is_digest(key)}

    def _get_numbered(self, folder: str, number: int, parse: Callable[[bytes], A]) -> A | None:
        """Parse a numbered file; None if it is gone, torn or not ours."""
        with suppress(ValueError, ArtifactCorrupt):
            data = self.backend.get(numbered(folder, number))
            return None if data is None else parse(data)
        return None


def _lookup(found: Row | Record, is_whole: bool, read: Callable[[Key, int], Record]) -> Lookup:
    status: Literal["hit", "known"] = "hit" if is_whole else "known"
    return Lookup(status, found.key, found.number, found.object, found.logical, read)


def _other_format(data: bytes) -> str:
    """Return why a store with this format.json cannot be used."""
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict) and found.get("store") == FORMAT["store"]:
            version = f"{found.get('version')!r:.40}"
            return (
                f"format.json says version {version}, and this program uses version "
                f"{FORMAT['version']}: use the program that made it, or another store"
            )
    return f"{FORMAT_FILE} says it is not a store of ours"


def _record(
    action: Action, encoded: Encoded, circumstances: Circumstances, summary: Mapping[str, Any]
) -> Record:
    return Record(
        stage=action.stage,
        version=action.version,
        key=action.key,
        config=dict(action.config),
        inputs=dict(action.inputs),
        models=dict(action.models),
        object=encoded.object,
        logical=encoded.manifest.logical,
        files={path: len(data) for path, data in encoded.files.items()},
        circumstances=circumstances,
        summary=dict(summary),
    )
