"""Counts what a store holds, by stage and by job; bytes that are shared are counted once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from artifacts.keys import Digest, Key
from artifacts.layout import ATTEMPTS, PROGRESS, RUNS
from artifacts.store import ArtifactStore
from artifacts.upkeep.survey import ActionFolder, actions, is_object, objects, stages_of


@dataclass(frozen=True)
class Amount:
    """Amounts of one row of the table.

    Attributes:
        actions: actions that have a record.
        known: those of them whose object has no bytes left.
        objects: different objects of their newest records.
        size: bytes of these objects as they lie in the store, each counted once.
        own: bytes of those objects that nothing else of the same table uses.
    """

    actions: int = 0
    known: int = 0
    objects: int = 0
    size: int = 0
    own: int = 0


@dataclass(frozen=True)
class Usage:
    """What a store holds.

    Attributes:
        stages: by stage.
        jobs: by the names given with their keys.
        total: of all stages.
        unnamed: objects that are not the newest of any action: superseded, or of no record.
        beside: bytes of checkpoints, attempts, runs and records, by folder.
    """

    stages: Mapping[str, Amount]
    jobs: Mapping[str, Amount]
    total: Amount
    unnamed: Amount
    beside: Mapping[str, int] = field(default_factory=dict)


def measure_usage(store: ArtifactStore, jobs: Mapping[str, Collection[Key]] | None = None) -> Usage:
    """Go through a store once and count its contents.

    Args:
        jobs: the action keys of jobs, by any name.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    backend = store.backend
    sizes = {Digest(f.name): f.size for f in objects(backend) if is_object(f)}
    found = {stage: list(actions(backend, stage)) for stage in stages_of(backend)}
    everything = [action for stage in found.values() for action in stage]
    by_key = {
        name: [action for action in everything if action.key in keys]
        for name, keys in (jobs or {}).items()
    }
    named = _newest_objects(everything)
    unnamed = [size for digest, size in sizes.items() if digest not in named]
    beside = {kind: sum(backend.sizes(kind).values()) for kind in (PROGRESS, ATTEMPTS, RUNS)}
    beside["actions"] = sum(action.folder.size for action in everything)
    return Usage(
        stages=_table(found, sizes),
        jobs=_table(by_key, sizes),
        total=_table({"": everything}, sizes)[""],
        unnamed=Amount(objects=len(unnamed), size=sum(unnamed), own=sum(unnamed)),
        beside=beside,
    )


def _table(
    rows: Mapping[str, Collection[ActionFolder]], sizes: Mapping[Digest, int]
) -> dict[str, Amount]:
    used = {name: _newest_objects(row) for name, row in rows.items()}
    users: dict[Digest, int] = {}
    for digests in used.values():
        for digest in digests:
            users[digest] = users.get(digest, 0) + 1
    return {name: _amount(row, used[name], users, sizes) for name, row in rows.items()}


def _amount(
    row: Collection[ActionFolder],
    used: Collection[Digest],
    users: Mapping[Digest, int],
    sizes: Mapping[Digest, int],
) -> Amount:
    newest = [action.newest for action in row if action.newest]
    there = [digest for digest in used if digest in sizes]
    return Amount(
        actions=len(newest),
        known=sum(record.object not in sizes for record in newest),
        objects=len(there),
        size=sum(sizes[digest] for digest in there),
        own=sum(sizes[digest] for digest in there if users[digest] == 1),
    )


def _newest_objects(found: Iterable[ActionFolder]) -> set[Digest]:
    return {action.newest.object for action in found if action.newest}
