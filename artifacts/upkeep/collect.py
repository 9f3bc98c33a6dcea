"""Gives back the space of what is not wanted any more, while others go on working.

In two phases, by the store's own clock, so that there is no lock to be left behind. `mark` writes
down what may go. `sweep`, a grace period later, deletes what was marked, still may go, and was
not written to since: whoever uses an object again renews its manifest before committing
(`ArtifactStore.publish`), and looks once more after it. A collector that is stopped between its
last look and its deletion can still take bytes that were just used again: that costs making them
again, and is never a wrong result.

Bytes go, records stay, so that the keys of later stages still follow: the state known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from itertools import count

from artifacts.errors import ArtifactCorrupt, StoreUnavailable
from artifacts.keys import Digest, Key
from artifacts.layout import MARKS, PROGRESS, number_of, numbered
from artifacts.places.backend import Backend
from artifacts.places.parallel import at_once
from artifacts.records import MANIFEST, seal, unseal_object
from artifacts.store import ArtifactStore
from artifacts.upkeep.survey import (
    ActionFolder,
    Folder,
    RecordFile,
    actions,
    checkpoints,
    is_object,
    objects,
    references,
    stages_of,
)

GRACE = timedelta(hours=1)

_CLOCK = f"{MARKS}/clock"


class Kind(Enum):
    """What can be collected."""

    OBJECT = "object"
    RECORD = "record"
    CHECKPOINT = "checkpoint"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Policy:
    """What may go; each condition that is given must hold.

    With none, only what nobody can ask for goes: objects that no record names, checkpoints of
    actions that are done, files of writers that were killed. Those go in any case.

    Attributes:
        keep: keys of the actions whose results stay whatever else is said; None keeps no key.
        older_than: only what was neither made nor used by a writer for so long.
        at_most: bytes of objects that may stay; the oldest go first, until so many are left.
        forget: delete the records too, so that the actions are misses.
    """

    keep: Collection[Key] | None = None
    older_than: timedelta | None = None
    at_most: int | None = None
    forget: bool = False

    @property
    def takes_results(self) -> bool:
        """Whether results that can be asked for may go."""
        return not (self.keep is None and self.older_than is None and self.at_most is None)


@dataclass(frozen=True)
class Candidate:
    """What may go: a folder, or an unfinished file."""

    kind: Kind
    path: str
    size: int
    modified: datetime
    reason: str


@dataclass(frozen=True)
class Plan:
    """What may go by a policy, as things stand: nothing is touched yet.

    Attributes:
        kept: bytes of objects that stay.
    """

    candidates: tuple[Candidate, ...]
    kept: int

    @property
    def size(self) -> int:
        """Bytes that would be given back."""
        return sum(candidate.size for candidate in self.candidates)


@dataclass(frozen=True)
class Swept:
    """What was deleted, and what was marked but has been used again or is wanted now."""

    removed: tuple[Candidate, ...]
    spared: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that were given back."""
        return sum(candidate.size for candidate in self.removed)


@dataclass(frozen=True)
class Mark:
    """What was written down to go, and when, by the store's clock."""

    path: str
    modified: datetime
    paths: frozenset[str]


def plan_collection(store: ArtifactStore, policy: Policy) -> Plan:
    """Find what may go, and touch nothing.

    Raises:
        StoreUnavailable: if the store cannot be read or its clock not be asked.
    """
    backend = store.backend
    now = _now(backend)
    # Objects first: one that is published meanwhile is not listed, or has its record found.
    folders = [folder for folder in objects(backend) if is_object(folder)]
    found = [action for stage in stages_of(backend) for action in actions(backend, stage)]
    uses = _uses(folders, found, policy)
    taken = _taken(uses, policy, now)
    gone = {use.folder.path for use in taken}
    candidates = [use.candidate for use in taken]
    candidates += _checkpoints(backend, found, policy, now)
    candidates += _unfinished(backend)
    if policy.forget:
        candidates += _records(found, uses, gone, policy, now)
    kept = sum(use.folder.size for use in uses if use.folder.path not in gone)
    return Plan(tuple(candidates), kept)


def mark(store: ArtifactStore, plan: Plan) -> Mark | None:
    """Write down what may go; None if nothing may."""
    if not plan.candidates:
        return None
    data = seal({"paths": sorted(candidate.path for candidate in plan.candidates)})
    backend = store.backend
    first = max((number_of(name) or 0 for name in backend.sizes(MARKS)), default=0) + 1
    path = next(p for n in count(first) if backend.create(p := numbered(MARKS, n), data))
    backend.sync([path])
    modified = backend.modified(path)
    if modified is None:
        raise StoreUnavailable(f"{store.location}: {path} was deleted as it was written")
    return Mark(path, modified, frozenset(candidate.path for candidate in plan.candidates))


def marks(store: ArtifactStore) -> list[Mark]:
    """Return the marks of a store that can be read, oldest first."""
    found = (_read_mark(store.backend, path, at) for path, at in _mark_files(store.backend))
    return sorted(filter(None, found), key=lambda mark: mark.modified)


def sweep(store: ArtifactStore, policy: Policy, grace: timedelta = GRACE) -> Swept:
    """Delete what was marked a grace period ago or longer, and may still go.

    Can be cut off anywhere and called again; two at once do no harm.

    Args:
        policy: as things stand now, so that what a job has come to need since is kept.
        grace: longer than the longest publish.

    Raises:
        StoreUnavailable: if the store cannot be read or written.
    """
    backend = store.backend
    # The clock is asked before the marks are read, so that none looks older than it is.
    now = _now(backend)
    ripe = [mark for mark in marks(store) if now - mark.modified >= grace]
    marked = {path: mark.modified for mark in ripe for path in mark.paths}
    if not ripe:
        return Swept((), ())
    plan = plan_collection(store, policy)
    going = [candidate for candidate in plan.candidates if candidate.path in marked]
    remove = partial(_remove, backend, marked)
    done = list(at_once(remove, going, backend.parallel))
    removed = tuple(c for c, was_removed in zip(going, done, strict=True) if was_removed)
    spared = marked.keys() - {candidate.path for candidate in removed}
    backend.delete(mark.path for mark in ripe)
    return Swept(removed, tuple(sorted(spared)))


@dataclass(frozen=True)
class _Use:
    """An object, and the records that name it."""

    folder: Folder
    files: tuple[RecordFile, ...]
    kept: bool

    @property
    def last(self) -> datetime:
        return max(self.folder.modified, *(file.entry.modified for file in self.files))

    @property
    def candidate(self) -> Candidate:
        if self.files:
            makers = sorted({file.stage for file in self.files})
            reason = f"made by {', '.join(makers)}, last written {self.last:%Y-%m-%d %H:%M}"
        else:
            reason = "no record names it"
        return Candidate(
            Kind.OBJECT, self.folder.path, self.folder.size, self.folder.modified, reason
        )


def _uses(folders: Iterable[Folder], found: Collection[ActionFolder], policy: Policy) -> list[_Use]:
    naming = references(found)
    wanted = policy.keep or ()
    kept = {action.newest.object for action in found if action.key in wanted and action.newest}
    return [
        _Use(folder, tuple(naming.get(Digest(folder.name), ())), folder.name in kept)
        for folder in folders
    ]


def _taken(uses: Iterable[_Use], policy: Policy, now: datetime) -> list[_Use]:
    """Choose the objects that may go: what no record names, then the oldest that may."""
    unnamed = [use for use in uses if not use.files]
    if not policy.takes_results:
        return unnamed
    named = [use for use in uses if use.files]
    left = sum(use.folder.size for use in named)
    taken = []
    for use in sorted((use for use in named if not use.kept), key=lambda use: use.last):
        if policy.at_most is not None and left <= policy.at_most:
            break
        if policy.older_than is None or now - use.last > policy.older_than:
            taken.append(use)
            left -= use.folder.size
    return unnamed + taken


def _checkpoints(
    backend: Backend, found: Iterable[ActionFolder], policy: Policy, now: datetime
) -> Iterator[Candidate]:
    done = {(action.stage, action.key) for action in found if action.newest}
    for stage in stages_of(backend, PROGRESS):
        for folder in checkpoints(backend, stage):
            what = partial(Candidate, Kind.CHECKPOINT, folder.path, folder.size, folder.modified)
            if (stage, folder.name) in done:
                yield what("its action is done")
            elif folder.name not in (policy.keep or ()) and _is_old(folder.modified, policy, now):
                yield what(f"last written {folder.modified:%Y-%m-%d %H:%M}")


def _is_old(modified: datetime, policy: Policy, now: datetime) -> bool:
    return policy.older_than is not None and now - modified > policy.older_than


def _unfinished(backend: Backend) -> Iterator[Candidate]:
    for entry in backend.unfinished():
        yield Candidate(
            Kind.UNFINISHED, entry.path, entry.size, entry.modified, "its writer was killed"
        )


def _records(
    found: Iterable[ActionFolder],
    uses: Iterable[_Use],
    gone: Collection[str],
    policy: Policy,
    now: datetime,
) -> Iterator[Candidate]:
    """Choose the actions to forget: those whose bytes go, or are gone."""
    staying = {use.folder.name for use in uses if use.folder.path not in gone}
    for action in found:
        newest, folder = action.newest, action.folder
        if not action.records or action.key in (policy.keep or ()):
            continue
        is_old = policy.older_than is None or now - folder.modified > policy.older_than
        if is_old and (newest is None or newest.object not in staying):
            yield Candidate(Kind.RECORD, folder.path, folder.size, folder.modified, "its bytes go")


def _remove(backend: Backend, marked: Mapping[str, datetime], candidate: Candidate) -> bool:
    """Delete a candidate, unless it was written to since it was marked."""
    since = marked[candidate.path]
    if candidate.kind is Kind.UNFINISHED:
        if candidate.modified < since:
            backend.delete_unfinished(candidate.path)
        return candidate.modified < since
    entries = list(backend.entries(candidate.path))
    if any(entry.modified >= since for entry in entries):
        return False
    # The manifest goes first, and for good: without it, whatever a kill or a power loss leaves is
    # no hit. The newest record goes last: an older one must not come to count again.
    names = sorted((entry.path for entry in entries), key=lambda path: (path != MANIFEST, path))
    paths = [f"{candidate.path}/{name}" for name in names]
    backend.delete(paths[:1], lasting=candidate.kind is Kind.OBJECT)
    backend.delete(paths[1:])
    return True


def _mark_files(backend: Backend) -> list[tuple[str, datetime]]:
    return [
        (f"{MARKS}/{entry.path}", entry.modified)
        for entry in backend.entries(MARKS)
        if number_of(entry.path) is not None
    ]


def _read_mark(backend: Backend, path: str, modified: datetime) -> Mark | None:
    """Read a mark; one that is gone or torn marks nothing."""
    with suppress(ValueError, KeyError, TypeError, ArtifactCorrupt):
        data = backend.get(path)
        if data is not None:
            return Mark(path, modified, frozenset(unseal_object(data)["paths"]))
    return None


def _now(backend: Backend) -> datetime:
    """Ask the store's own clock, which no clock of a worker has to agree with."""
    backend.put(_CLOCK, b"now")
    now = backend.modified(_CLOCK)
    if now is None:
        raise StoreUnavailable(f"{backend.name}: {_CLOCK} was deleted as it was written")
    return now
