"""Checks a whole store against itself, byte by byte.

It changes nothing except that it marks damage, so that the next run makes those results again;
look-ups do not read every byte.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from artifacts.errors import ArtifactCorrupt
from artifacts.keys import Digest, Key, digest_json
from artifacts.layout import (
    ATTEMPTS,
    DAMAGED,
    FOLDERS,
    PROGRESS,
    object_folder,
)
from artifacts.payload import object_id
from artifacts.places.parallel import at_once
from artifacts.records import MANIFEST, Manifest, Record, StoredFile, unseal_object
from artifacts.store import ArtifactStore
from artifacts.upkeep.survey import (
    ActionFolder,
    Folder,
    RecordFile,
    actions,
    checkpoints,
    is_object,
    list_folders,
    objects,
    stages_of,
)


class Trouble(Enum):
    """Kinds of findings. The first group is damage; the second does no harm."""

    RECORD = "record"
    """A record that cannot be read, has another key, or is missing between others."""
    OBJECT = "object"
    """A file of an object is missing, changed, cut off, of another object, or not listed."""
    ATTEMPT = "attempt"
    """The description of a failed attempt cannot be read."""

    INPUT = "input"
    """No record of the input's stage made these values."""
    COLLECTED = "collected"
    """A record whose object has no files left: the state known."""
    ORPHAN = "orphan"
    """An object that no record names; perhaps one that is being written now."""
    CHECKPOINT = "checkpoint"
    """A checkpoint that is torn, or was left after its action was done."""
    LEFTOVER = "leftover"
    """A file of a writer that was killed, or one that no store writes."""

    @property
    def is_damage(self) -> bool:
        """Whether bytes are lost or wrong, so that work will be done again."""
        return self in (Trouble.RECORD, Trouble.OBJECT, Trouble.ATTEMPT)


@dataclass(frozen=True)
class Finding:
    """One problem: where and what, in one line."""

    trouble: Trouble
    path: str
    reason: str

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.trouble.value}: {self.path}: {self.reason}"


@dataclass
class Counts:
    """Numbers of what was checked."""

    records: int = 0
    objects: int = 0
    files: int = 0
    bytes: int = 0
    damage: int = 0
    notes: int = 0


@dataclass(frozen=True)
class _Named:
    """What a record says about an object, compactly: there may be a hundred thousand."""

    path: str
    logical: Digest
    files: Digest


class Verification:
    """A check of a store: iterate over it for the findings as they come; `counts` grows meanwhile.

    What other processes write at the same time does not count as damage; it may show as an orphan
    or a leftover.
    """

    def __init__(self, store: ArtifactStore, stages: Collection[str] = ()) -> None:
        """Prepare to check a store.

        Args:
            stages: stages that inputs may come from, besides those that have records here. An
                input with a stage's name is what that stage made.
        """
        self.counts = Counts()
        self._store = store
        self._backend = store.backend
        self._stages = {*stages, *stages_of(store.backend)}
        self._named: defaultdict[Digest, list[_Named]] = defaultdict(list)
        self._made: defaultdict[str, set[Digest]] = defaultdict(set)
        self._wanted: defaultdict[tuple[str, Digest], list[str]] = defaultdict(list)
        self._done: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[Finding]:
        """Yield every finding.

        Raises:
            StoreUnavailable: if the store cannot be read.
        """
        for finding in self._findings():
            if finding.trouble.is_damage:
                self.counts.damage += 1
            else:
                self.counts.notes += 1
            yield finding

    def _findings(self) -> Iterator[Finding]:
        for stage in stages_of(self._backend):
            for action in actions(self._backend, stage):
                yield from self._check_action(action)
        yield from self._unknown_inputs()
        yield from self._check_objects()
        yield from self._check_checkpoints()
        yield from self._check_attempts()
        yield from self._strays()

    def _check_action(self, action: ActionFolder) -> Iterator[Finding]:
        for stray in action.strays:
            path = f"{action.folder.path}/{stray}".rstrip("/")
            yield Finding(Trouble.LEFTOVER, path, "is not a record")
        numbers = {file.number for file in action.records}
        for number in sorted(set(range(1, max(numbers, default=0))) - numbers):
            path = f"{action.folder.path}/{number:04d}.json"
            yield Finding(Trouble.RECORD, path, "is missing: later ones are there")
        for file in action.records:
            self._count(1, file.entry.size)
            self.counts.records += 1
            problem = file.problem or (file.record and _false_key(file.record))
            if problem:
                self._store.forget(Key(action.folder.name))
                yield Finding(Trouble.RECORD, file.path, problem)
            elif file.record:
                self._remember(file, file.record)

    def _remember(self, file: RecordFile, record: Record) -> None:
        named = _Named(file.path, record.logical, digest_json("files", record.files))
        self._named[record.object].append(named)
        self._done.add((record.stage, record.key))
        self._made[record.stage].add(record.logical)
        for name, digest in record.inputs.items():
            if name in self._stages:
                self._wanted[name, digest].append(file.path)

    def _unknown_inputs(self) -> Iterator[Finding]:
        for (stage, digest), paths in self._wanted.items():
            if digest not in self._made[stage]:
                for path in paths:
                    reason = f"no record of {stage} made its input {digest}"
                    yield Finding(Trouble.INPUT, path, reason)

    def _check_objects(self) -> Iterator[Finding]:
        seen = set()
        listed = objects(self._backend)
        for folder, findings in at_once(self._check_object, listed, self._backend.parallel):
            if is_object(folder):
                seen.add(Digest(folder.name))
                self.counts.objects += 1
            self._count(len(folder.files), folder.size)
            yield from findings
        for digest in self._named.keys() - seen:
            for named in self._named[digest]:
                reason = f"its object {object_folder(digest)} has no files left"
                yield Finding(Trouble.COLLECTED, named.path, reason)

    def _check_object(self, folder: Folder) -> tuple[Folder, list[Finding]]:
        if not is_object(folder):
            paths = (f"{folder.path}/{path}".rstrip("/") for path in folder.files)
            reason = "is not of an object"
            return folder, [Finding(Trouble.LEFTOVER, path, reason) for path in paths]
        named = self._named.get(Digest(folder.name), [])
        if not named:
            reason = f"no record names it ({folder.size} bytes)"
            return folder, [Finding(Trouble.ORPHAN, folder.path, reason)]
        problems = list(self._problems(folder, named))
        if problems and DAMAGED not in folder.files:
            self._mark(Digest(folder.name))
        elif DAMAGED in folder.files and not problems:
            problems = [(DAMAGED, "damage was found here before; publishing again repairs it")]
        return folder, [
            Finding(Trouble.OBJECT, f"{folder.path}/{path}", reason) for path, reason in problems
        ]

    def _mark(self, digest: Digest) -> None:
        """Mark an object whose use would fail; an extra file does not make it fail."""
        try:
            self._store.check_files(object_folder(digest), digest)
        except ArtifactCorrupt as damage:
            self._store.mark_damaged(digest, str(damage))

    def _problems(self, folder: Folder, named: list[_Named]) -> Iterator[tuple[str, str]]:
        """Yield the relative path of each problem, and its description."""
        try:
            data = self._backend.get(f"{folder.path}/{MANIFEST}")
        except ArtifactCorrupt as error:
            yield MANIFEST, str(error)
            return
        if data is None:
            yield MANIFEST, "is missing"
            return
        if object_id(data) != folder.name:
            yield MANIFEST, "has changed: its sha256 is another"
            return
        try:
            manifest = Manifest.from_bytes(data)
        except ValueError as error:
            yield MANIFEST, f"cannot be read: {' '.join(str(error).split())[:200]}"
            return
        for stored in manifest.files:
            if problem := self._problem_of(folder, stored):
                yield stored.path, problem
        listed = {stored.path: stored.size for stored in manifest.files}
        for path in sorted(folder.files.keys() - listed.keys() - {MANIFEST, DAMAGED}):
            yield path, "is not listed in the manifest"
        files = digest_json("files", {**listed, MANIFEST: len(data)})
        for other in named:
            if (other.logical, other.files) != (manifest.logical, files):
                yield MANIFEST, f"does not hold what {other.path} says"

    def _problem_of(self, folder: Folder, stored: StoredFile) -> str:
        entry = folder.files.get(stored.path)
        if entry is None:
            return "is missing"
        if entry.size != stored.size:
            return f"has {entry.size} bytes instead of {stored.size}"
        try:
            data = self._backend.get(f"{folder.path}/{stored.path}")
        except ArtifactCorrupt as error:
            return str(error)
        if data is None:
            return "is missing"
        if hashlib.sha256(data).hexdigest() != stored.sha256:
            return "has changed: its sha256 is another"
        return ""

    def _check_checkpoints(self) -> Iterator[Finding]:
        for stage in stages_of(self._backend, PROGRESS):
            for folder in checkpoints(self._backend, stage):
                self._count(len(folder.files), folder.size)
                if (stage, folder.name) in self._done:
                    yield Finding(
                        Trouble.CHECKPOINT, folder.path, f"left behind ({folder.size} bytes)"
                    )
                else:
                    yield from self._torn_steps(folder)

    def _torn_steps(self, folder: Folder) -> Iterator[Finding]:
        for step in sorted({path.partition("/")[0] for path in folder.files}):
            try:
                self._store.check_files(f"{folder.path}/{step}")
            except ArtifactCorrupt as damage:
                yield Finding(Trouble.CHECKPOINT, f"{folder.path}/{step}", f"is torn: {damage}")

    def _check_attempts(self) -> Iterator[Finding]:
        stages = [f"{ATTEMPTS}/{stage}" for stage in stages_of(self._backend, ATTEMPTS)]
        listed = (folder for stage in stages for folder in list_folders(self._backend, stage))
        paths = (f"{folder.path}/{path}" for folder in listed for path in folder.files)
        for finding in at_once(self._check_attempt, paths, self._backend.parallel):
            if finding:
                yield finding

    def _check_attempt(self, path: str) -> Finding | None:
        try:
            data = self._backend.get(path)
            if data is not None:
                unseal_object(data)
        except (ValueError, ArtifactCorrupt) as error:
            return Finding(Trouble.ATTEMPT, path, f"cannot be read: {error}")
        return None

    def _strays(self) -> Iterator[Finding]:
        for name in self._backend.folders(""):
            if name not in FOLDERS:
                yield Finding(Trouble.LEFTOVER, name, "no store writes such a folder")
        for entry in self._backend.unfinished():
            reason = f"was not finished by its writer ({entry.size} bytes)"
            yield Finding(Trouble.LEFTOVER, entry.path, reason)

    def _count(self, files: int, size: int) -> None:
        self.counts.files += files
        self.counts.bytes += size


def _false_key(record: Record) -> str:
    try:
        key = record.action.key
    except (TypeError, ValueError) as error:
        return f"has no key: {error}"
    return "" if key == record.key else f"is of other work: its fields make the key {key}"
