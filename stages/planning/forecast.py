"""What the rest of a job will take: time and size, by what the store's records took.

Cheap on purpose: the records that a plan holds already are used first, and of other ones a few.
"""

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median, median_low
from typing import Any, NamedTuple, TypeAlias

from artifacts import Action, ArtifactStore, Key, Record
from stages.pipeline import BY_NAME, STAGES
from stages.planning.plan import EditPlan, JobPlan, Status
from stages.stage import Stage

SAMPLED = 32
"""The most records of a stage to look at."""


Kind: TypeAlias = tuple[str, Hashable]
"""A stage, and what its work has in common whose units take as long."""


class Missing(NamedTuple):
    """An artifact to make.

    Attributes:
        edits: ids of all edits that wait for it.
        units: what its time grows with: steps times pixels of the working image.
    """

    stage: str
    kind: Kind
    units: int
    edits: tuple[str, ...]


class Pace(NamedTuple):
    """What work of a kind takes.

    Attributes:
        seconds: per unit.
        size: bytes of an artifact.
    """

    seconds: float
    size: float


class Paces:
    """What work of each kind takes, by the latest of it that was seen."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        """Learn from records."""
        self._seen: dict[Kind, deque[Pace]] = {}
        for record in records:
            self.learn(record, record.circumstances.seconds)

    def learn(self, record: Record, seconds: float) -> None:
        """Learn from an artifact that took so long; work that was only resumed tells nothing."""
        if not record.summary.get("resumed_after"):
            stage = BY_NAME[record.stage]
            kind = _kind(stage, record, record.inputs)
            seen = self._seen.setdefault(kind, deque(maxlen=SAMPLED))
            seen.append(Pace(seconds / _units(stage, record.config), record.size))

    def of(self, kind: Kind) -> Pace | None:
        """Return what work of a kind takes, if any was seen."""
        return _typical(self._seen.get(kind, ()))

    def of_stage(self, stage: str) -> Pace | None:
        """Return what work of a stage takes, of whatever kind, if any was seen."""
        seen = [pace for kind, paces in self._seen.items() if kind[0] == stage for pace in paces]
        return _typical(seen)


def _typical(seen: Collection[Pace]) -> Pace | None:
    if not seen:
        return None
    # The first one of a process has waited for its model, too.
    return Pace(median_low(each.seconds for each in seen), median(each.size for each in seen))


@dataclass(frozen=True)
class StageForecast:
    """The missing artifacts of one stage.

    Attributes:
        missing: artifacts to make; one that several edits share counts once.
        unknown: those of them that no record in the store resembles.
        seconds: that the others will take.
        size: bytes that the others will take.
        records: how many this is estimated from.
    """

    missing: int = 0
    unknown: int = 0
    seconds: float = 0.0
    size: int = 0
    records: int = 0


@dataclass(frozen=True)
class Forecast:
    """The missing artifacts of a job.

    Attributes:
        device: the device whose records were used, as they name it; "" if there are none.
        free: bytes that are free where the store is; None on object storage.
        missing: what there is to make.
        paces: what work of each kind takes.
    """

    stages: Mapping[str, StageForecast]
    device: str
    free: int | None
    missing: tuple[Missing, ...]
    paces: Paces

    @property
    def total(self) -> StageForecast:
        """All stages together."""
        each = self.stages.values()
        return StageForecast(
            sum(stage.missing for stage in each),
            sum(stage.unknown for stage in each),
            sum(stage.seconds for stage in each),
            sum(stage.size for stage in each),
            sum(stage.records for stage in each),
        )


def forecast(
    plan: JobPlan,
    store: ArtifactStore,
    device: str = "cpu",
    wanted: Mapping[str, Collection[str]] | None = None,
) -> Forecast:
    """Estimate what the missing artifacts of a job will take on a device.

    Only records of the same kind of device, the same weights and the same precision count; where
    there are several kinds of GPU, those of the kind that has most. Per step of a stage's
    settings and pixel of the working image, the median of what was recorded counts.

    Args:
        device: as for a run: "cpu", "cuda", "cuda:1".
        wanted: ids of the edits that each stage is to run for; by default what is missing, without
            what is quarantined.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    missing = _missing(plan.edits, _wanted(plan.edits) if wanted is None else wanted)
    counts = Counter(each.stage for each in missing)
    samples = {
        stage.name: _samples(stage, plan.edits, store, device)
        for stage in STAGES
        if counts[stage.name]
    }
    devices = Counter(record.circumstances.device for each in samples.values() for record in each)
    ((named, _),) = devices.most_common(1) or [("", 0)]
    records = [
        record
        for each in samples.values()
        for record in each
        if record.circumstances.device == named
    ]
    used, paces = Counter(record.stage for record in records), Paces(records)
    stages = {
        stage.name: _of_stage(
            [m for m in missing if m.stage == stage.name], paces, used[stage.name]
        )
        for stage in STAGES
    }
    return Forecast(stages, named, store.backend.free_space, missing, paces)


def _wanted(plans: Sequence[EditPlan]) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = {stage.name: set() for stage in STAGES}
    for plan in plans:
        for name in () if plan.quarantined else plan.to_make:
            wanted[name].add(plan.edit.id)
    return wanted


def _missing(
    plans: Sequence[EditPlan], wanted: Mapping[str, Collection[str]]
) -> tuple[Missing, ...]:
    """Return the artifacts to make, each once.

    One without a key yet is identified by what it is made of, as the job has it.
    """
    ids = {name: frozenset(edits) for name, edits in wanted.items()}
    anyone = frozenset[str]().union(*ids.values())
    numbers: dict[Hashable, int] = {}
    found: dict[tuple[str, int], list[EditPlan]] = {}
    for plan in plans:
        identities: dict[str, int] = {}
        for stage in STAGES if plan.edit.id in anyone else ():
            identity = plan.stages[stage.name].key or _ingredients(stage, plan, identities)
            number = numbers.setdefault((stage.name, identity), len(numbers))
            identities[stage.name] = number
            if plan.edit.id in ids.get(stage.name, ()):
                found.setdefault((stage.name, number), []).append(plan)
    return tuple(_artifact(BY_NAME[name], sharing) for (name, _), sharing in found.items())


def _artifact(stage: Stage, sharing: Sequence[EditPlan]) -> Missing:
    plan = sharing[0]
    action, off = plan.action(stage), Status.OFF
    inputs = [name for name in stage.needs if plan.stages[name].status is not off]
    edits = tuple(each.edit.id for each in sharing)
    return Missing(stage.name, _kind(stage, action, inputs), _units(stage, action.config), edits)


def _ingredients(stage: Stage, plan: EditPlan, identities: Mapping[str, int]) -> Hashable:
    """Return what an artifact without a key is made of, its inputs named by their numbers."""
    action = plan.action(stage)
    own = tuple(sorted(action.inputs.items()))
    needs = tuple(identities[name] for name in stage.needs)
    return _frozen(action.config), tuple(action.models.items()), own, needs


def _frozen(value: Any) -> Hashable:
    """Return JSON as something that can be compared by its hash."""
    if isinstance(value, Mapping):
        return tuple((name, _frozen(each)) for name, each in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _samples(
    stage: Stage, plans: Sequence[EditPlan], store: ArtifactStore, device: str
) -> list[Record]:
    """Return a few records of a stage that were made on such a device, whole and from nothing."""
    own = {
        record.key: record
        for record in islice(_records(stage, plans), SAMPLED)
        if _tells(record, device)
    }
    if len(own) < SAMPLED:
        others = store.some_records(stage.name, SAMPLED)
        own |= {record.key: record for record in others if _tells(record, device)}
    return list(own.values())


def _records(stage: Stage, plans: Sequence[EditPlan]) -> Iterator[Record]:
    seen = set[Key | None]()
    for plan in plans:
        staged = plan.stages[stage.name]
        if staged.status in (Status.HIT, Status.KNOWN) and staged.key not in seen:
            seen.add(staged.key)
            if staged.found:
                yield staged.found.record


def _tells(record: Record, device: str) -> bool:
    on_cpu = record.circumstances.device == "cpu"
    return on_cpu == (device == "cpu") and not record.summary.get("resumed_after")


def _of_stage(missing: Sequence[Missing], paces: Paces, records: int) -> StageForecast:
    known = [(each, pace) for each in missing if (pace := paces.of(each.kind))]
    return StageForecast(
        len(missing),
        len(missing) - len(known),
        round(sum(pace.seconds * each.units for each, pace in known), 3),
        round(sum(pace.size for _, pace in known)),
        records,
    )


def _kind(stage: Stage, work: Action | Record, inputs: Collection[str]) -> Kind:
    names = ("dtype", "source", "segments", "method", "relocation", "holes")
    deciding = tuple(work.config.get(name) for name in names)
    return stage.name, (tuple(sorted(work.models.items())), deciding, stage.alike(inputs))


def _units(stage: Stage, config: Mapping[str, Any]) -> int:
    if config.get("source") == "file":
        return 1
    height, width = int(config["frame"]["height"]), int(config["frame"]["width"])
    return max(1, stage.steps(config)) * height * width
