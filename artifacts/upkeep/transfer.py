"""Copying of artifacts between any two stores: export, import, and moving a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from artifacts.errors import ArtifactCorrupt
from artifacts.keys import Digest, Key
from artifacts.places.parallel import at_once
from artifacts.records import Lookup, Record
from artifacts.store import ArtifactStore
from artifacts.upkeep.survey import stages_of

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
    *,
    upstream: bool = False,
) -> Iterator[Transferred]:
    """Copy the newest records of actions with their objects; yield each outcome.

    Every byte is checked as it is read. What the target has is skipped, so an interrupted transfer
    can be repeated; the source is never changed.

    Args:
        wanted: stage and key of each action.
        upstream: also copy the actions that made their inputs, as far as the source knows.

    Raises:
        StoreUnavailable: if either store fails; outcomes yielded until then are in the target.
    """
    for stage, keys in _by_stage(source, wanted, upstream).items():
        have = source.lookup_many(stage, keys)
        there = target.lookup_many(stage, keys)
        copy = partial(_copy, source, target, stage, have, there)
        yield from at_once(copy, keys, _THREADS)


def _by_stage(
    source: ArtifactStore, wanted: Iterable[tuple[str, Key]], upstream: bool
) -> dict[str, list[Key]]:
    found: defaultdict[str, dict[Key, None]] = defaultdict(dict)
    for stage, key in wanted:
        found[stage][key] = None
    if upstream:
        for record in _upstream(source, found):
            found[record.stage][record.key] = None
    return {stage: list(keys) for stage, keys in found.items()}


def _upstream(source: ArtifactStore, wanted: dict[str, dict[Key, None]]) -> list[Record]:
    """Return all records that inputs came from, inputs of inputs too.

    An input with a stage's name holds values that the stage made. If several actions made the same
    values, all of them are returned.
    """
    makers: defaultdict[tuple[str, Digest], list[Record]] = defaultdict(list)
    records: dict[tuple[str, Key], Record] = {}
    for stage in stages_of(source.backend):
        for record in source.records_of(stage):
            makers[stage, record.logical].append(record)
            records[stage, record.key] = record
    asked = [(stage, key) for stage, keys in wanted.items() for key in keys]
    waiting = [records[name] for name in asked if name in records]
    found: dict[tuple[str, Key], Record] = {}
    while waiting:
        for named in waiting.pop().inputs.items():
            for maker in makers.get(named, ()):
                if (maker.stage, maker.key) not in found:
                    found[maker.stage, maker.key] = maker
                    waiting.append(maker)
    return list(found.values())


def _copy(
    source: ArtifactStore,
    target: ArtifactStore,
    stage: str,
    have: dict[Key, Lookup],
    there: dict[Key, Lookup],
    key: Key,
) -> Transferred:
    told = partial(Transferred, stage, key)
    if key in there and there[key].status == "hit":
        return told(Outcome.THERE)
    if key not in have:
        return told(Outcome.MISSING, reason="the source has no record of it")
    try:
        record = have[key].record
        if have[key].status == "known":
            target.adopt(record, None)
            return told(Outcome.KNOWN, reason="the source has no bytes of it")
        target.adopt(record, source.verified(record))
    except ArtifactCorrupt as damage:
        return told(Outcome.DAMAGED, reason=str(damage))
    return told(Outcome.COPIED, record.size)
