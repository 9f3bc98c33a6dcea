"""Frees the space of what is no longer wanted, while others go on working.

What was written within a grace period, by the store's own clock, stays: it may belong to a publish
that is under way. Whoever uses an object again renews its manifest before the commit
(`ArtifactStore.publish`), and looks once more after it. So no lock is needed that could be left
behind. A collector that is stopped between its last look and a deletion can still delete bytes
that were just used again: that costs the work of making them again, and never serves anything
wrong.

Bytes go, records stay, so that the keys of later stages can still be computed: the state known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial

from artifacts.errors import StoreUnavailable
from artifacts.keys import Digest, Key
from artifacts.layout import CLOCK, PROGRESS
from artifacts.places.backend import Backend
from artifacts.places.parallel import at_once
from artifacts.records import MANIFEST
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
"""Longer than the longest publish."""


class Kind(Enum):
    """What can be collected."""

    OBJECT = "object"
    RECORD = "record"
    CHECKPOINT = "checkpoint"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Policy:
    """What may go; each condition that is given must hold.

    Without conditions, only what nobody can ask for goes: objects that no record names,
    checkpoints of actions that are done, files of writers that were killed. Those go under every
    policy.

    Attributes:
        keep: keys of the actions whose results stay in any case; None keeps no key.
        older_than: delete only what no writer made or used for this long.
        at_most: bytes of objects that may stay; the oldest go first, until no more are left.
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
    """What a policy allows to go, as things stand.

    Attributes:
        candidates: what may be deleted now.
        recent: what may go later: it was written within the grace period.
        kept: bytes of the objects that stay.
        grace_began: when the grace period began, by the store's clock.
    """

    candidates: tuple[Candidate, ...]
    recent: tuple[Candidate, ...]
    kept: int
    grace_began: datetime

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(candidate.size for candidate in self.candidates)


@dataclass(frozen=True)
class Collected:
    """What became of a plan: what was deleted, and what was written again just before."""

    plan: Plan
    removed: tuple[Candidate, ...]
    spared: tuple[Candidate, ...]


def plan_collection(store: ArtifactStore, policy: Policy, grace: timedelta = GRACE) -> Plan:
    """Find what may go, and delete nothing.

    Args:
        grace: what was written less than this ago stays; unfinished files stay at least for
            `GRACE`.

    Raises:
        StoreUnavailable: if the store cannot be read, or its clock cannot be asked.
    """
    backend = store.backend
    # Before anything is listed, so that nothing looks older than it is.
    now = _now(backend)
    # Objects first: one that is published meanwhile is not listed, or its record is found.
    folders = [folder for folder in objects(backend) if is_object(folder)]
    found = [action for stage in stages_of(backend) for action in actions(backend, stage)]
    uses = _uses(folders, found, policy)
    taken = _taken(uses, policy, now)
    going = {use.folder.path for use in taken}
    allowed = [use.candidate for use in taken]
    allowed += _checkpoints(backend, found, policy, now)
    allowed += _unfinished(backend)
    if policy.forget:
        allowed += _records(found, uses, going, policy, now)
    began = dict.fromkeys(Kind, now - grace)
    # A writer repairs anything else that it loses, but cannot finish a file that is gone.
    began[Kind.UNFINISHED] = now - max(grace, GRACE)
    candidates = tuple(each for each in allowed if each.modified < began[each.kind])
    recent = tuple(each for each in allowed if each.modified >= began[each.kind])
    deleted = {candidate.path for candidate in candidates}
    kept = sum(use.folder.size for use in uses if use.folder.path not in deleted)
    return Plan(candidates, recent, kept, now - grace)


def collect(store: ArtifactStore, policy: Policy, grace: timedelta = GRACE) -> Collected:
    """Delete what may go and was not written within the grace period.

    It can be stopped anywhere and called again; two at once do no harm.

    Raises:
        StoreUnavailable: if the store cannot be read or written.
    """
    plan = plan_collection(store, policy, grace)
    remove = partial(_remove, store.backend, plan.grace_began)
    done = list(at_once(remove, plan.candidates, store.backend.parallel))
    outcomes = list(zip(plan.candidates, done, strict=True))
    return Collected(
        plan,
        removed=tuple(candidate for candidate, is_removed in outcomes if is_removed),
        spared=tuple(candidate for candidate, is_removed in outcomes if not is_removed),
    )


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


def _remove(backend: Backend, grace_began: datetime, candidate: Candidate) -> bool:
    """Delete a candidate, unless it was written again since it was listed."""
    if candidate.kind is Kind.UNFINISHED:
        backend.delete_unfinished(candidate.path)
        return True
    entries = list(backend.entries(candidate.path))
    if any(entry.modified >= grace_began for entry in entries):
        return False
    # The manifest goes first, and for good: without it, nothing that a kill or a power loss leaves
    # is a hit. The newest record goes last: an older one must not come to count again.
    names = sorted((entry.path for entry in entries), key=lambda path: (path != MANIFEST, path))
    paths = [f"{candidate.path}/{name}" for name in names]
    backend.delete(paths[:1], lasting=candidate.kind is Kind.OBJECT)
    backend.delete(paths[1:])
    return True


def _now(backend: Backend) -> datetime:
    """Ask the store's own clock, which may differ from the clock of any worker."""
    backend.put(CLOCK, b"now")
    now = backend.modified(CLOCK)
    if now is None:
        raise StoreUnavailable(f"{backend.name}: {CLOCK} was deleted as it was written")
    return now
