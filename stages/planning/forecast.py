"""What the rest of a job will take: time and size, by what the store's records took.

Cheap on purpose: the records that a plan holds already are used first, and of other ones a few.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median, median_low
from typing import Any

from artifacts import Action, ArtifactStore, Key, Record
from stages.pipeline import STAGES
from stages.planning.plan import EditPlan, JobPlan, Status
from stages.stage import Stage

SAMPLED = 32
"""The most records of a stage to look at."""


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
    """

    stages: Mapping[str, StageForecast]
    device: str
    free: int | None

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


def forecast(plan: JobPlan, store: ArtifactStore, device: str = "cpu") -> Forecast:
    """Estimate what the missing artifacts of a job will take on a device.

    Only records of the same kind of device, the same weights and the same precision count; where
    there are several kinds of GPU, those of the kind that has most. Per step of a stage's
    settings, the median of what was recorded counts, for images of any size.

    Args:
        device: as for a run: "cpu", "cuda", "cuda:1".

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    missing = _missing(plan.edits)
    samples = {
        stage.name: _samples(stage, plan.edits, store, device)
        for stage in STAGES
        if missing[stage.name]
    }
    devices = Counter(record.circumstances.device for each in samples.values() for record in each)
    ((named, _),) = devices.most_common(1) or [("", 0)]
    stages = {
        stage.name: _of_stage(
            stage,
            missing[stage.name],
            [r for r in samples.get(stage.name, ()) if r.circumstances.device == named],
        )
        for stage in STAGES
    }
    return Forecast(stages, named, store.backend.free_space)


def _missing(plans: Sequence[EditPlan]) -> dict[str, list[EditPlan]]:
    """Return an edit for each artifact to make, by stage.

    Edits that are quarantined are left out, as in a run. An artifact without a key yet is
    identified by what it is made of, as the job has it.
    """
    numbers: dict[Hashable, int] = {}
    found: dict[str, dict[int, EditPlan]] = {stage.name: {} for stage in STAGES}
    for plan in plans:
        identities: dict[str, int] = {}
        to_make = () if plan.quarantined else plan.to_make
        for stage in STAGES if to_make else ():
            identity = plan.stages[stage.name].key or _ingredients(stage, plan, identities)
            number = numbers.setdefault((stage.name, identity), len(numbers))
            identities[stage.name] = number
            if stage.name in to_make:
                found[stage.name].setdefault(number, plan)
    return {name: list(edits.values()) for name, edits in found.items()}


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


def _of_stage(
    stage: Stage, missing: Sequence[EditPlan], records: Sequence[Record]
) -> StageForecast:
    alike: dict[Hashable, list[Record]] = {}
    for record in records:
        alike.setdefault(_kind(stage, record, record.inputs), []).append(record)
    rates = {
        kind: (
            # The first one of a process has waited for its model, too.
            median_low(r.circumstances.seconds / _steps(stage, r.config) for r in group),
            median(r.size for r in group),
        )
        for kind, group in alike.items()
    }
    seconds, size, unknown = 0.0, 0.0, 0
    for plan in missing:
        action, off = plan.action(stage), Status.OFF
        inputs = [name for name in stage.needs if plan.stages[name].status is not off]
        rate = rates.get(_kind(stage, action, inputs))
        if rate is None:
            unknown += 1
        else:
            seconds += rate[0] * _steps(stage, action.config)
            size += rate[1]
    return StageForecast(len(missing), unknown, round(seconds, 3), round(size), len(records))


def _kind(stage: Stage, work: Action | Record, inputs: Collection[str]) -> Hashable:
    """Return what work has in common whose steps take as long."""
    names = ("dtype", "source", "segments", "method", "relocation", "holes")
    deciding = tuple(work.config.get(name) for name in names)
    return tuple(sorted(work.models.items())), deciding, stage.alike(inputs)


def _steps(stage: Stage, config: Mapping[str, Any]) -> int:
    return 1 if "source" in config and config["source"] == "file" else max(1, stage.steps(config))
