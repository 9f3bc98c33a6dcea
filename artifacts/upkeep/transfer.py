"""Copying of artifacts between any two stores: export, import, and moving a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from artifacts.errors import ArtifactCorrupt
from artifacts.keys import Key
from artifacts.places.parallel import at_once
from artifacts.records import Lookup
from artifacts.store import ArtifactStore

# Whole objects are in memory, and writes wait for the disk.
_THREADS = 4


class Outcome(Enum):
    """Outcome of one action."""

    COPIED = "copied"
    """Its object and a record are in the target now."""
    THERE = "there"
    """The target had it already."""
    KNOWN = "known"
    """The source has no bytes of it, so only its record was copied."""
    MISSING = "missing"
    """The source has no record of it."""
    DAMAGED = "damaged"
    """The source's bytes are damaged; nothing was copied."""

    @property
    def is_failure(self) -> bool:
        """Whether the target lacks the action now."""
        return self in (Outcome.MISSING, Outcome.DAMAGED)


@dataclass(frozen=True)
class Transferred:
    """The outcome of one action, the bytes written, and the problem if there was one."""

    stage: str
    key: Key
    outcome: Outcome
    size: int = 0
    reason: str = ""


def transfer(
    source: ArtifactStore,
    target: ArtifactStore,
    wanted: Iterable[tuple[str, Key]],
) -> Iterator[Transferred]:
    """Copy the newest records of actions with their objects; yield each outcome.

    Every byte is checked as it is read. What the target has is skipped, so an interrupted transfer
    can be repeated; the source is never changed.

    Args:
        wanted: stage and key of each action.

    Raises:
        StoreUnavailable: if either store fails; outcomes yielded until then are in the target.
    """
    by_stage: defaultdict[str, dict[Key, None]] = defaultdict(dict)
    for stage, key in wanted:
        by_stage[stage][key] = None
    for stage, keys in by_stage.items():
        have = source.lookup_many(stage, keys)
        there = target.lookup_many(stage, keys)
        copy = partial(_copy, source, target, stage, have, there)
        yield from at_once(copy, keys, _THREADS)


def _copy(
    source: ArtifactStore,
    target: ArtifactStore,
    stage: str,
    have: dict[Key, Lookup],
    there: dict[Key, Lookup],
    key: Key,
) -> Transferred:
    outcome = partial(Transferred, stage, key)
    if key in there and there[key].status == "hit":
        return outcome(Outcome.THERE)
    if key not in have:
        return outcome(Outcome.MISSING, reason="the source has no record of it")
    try:
        record = have[key].record
        if have[key].status == "known":
            target.adopt(record, None)
            return outcome(Outcome.KNOWN, reason="the source has no bytes of it")
        target.adopt(record, source.verified(record))
    except ArtifactCorrupt as damage:
        return outcome(Outcome.DAMAGED, reason=str(damage))
    return outcome(Outcome.COPIED, record.size)
