"""What making the rest of a job will take: time and room, by what the store's records took.

Cheap on purpose: the records that a plan holds already are used first, and of other ones a few.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median, median_low
from typing import Any

from artifacts import ArtifactStore, Key, Record
from stages.jobs.edit import Edit
from stages.pipeline import STAGES
from stages.planning.models import diffusion_files, segmenter_files
from stages.planning.plan import EditPlan, JobPlan, Status
from stages.stage import Stage

SAMPLED = 32
"""So many records of a stage are looked at."""

STEPS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "train_lora": lambda config: config["steps"] * config["batch_size"],
    "invert_image": lambda config: config["inverted_steps"],
    "optimize_latent": lambda config: config.get("steps", config["inversion"]["inverted_steps"]),
    "sample_image": lambda config: config["inversion"]["inverted_steps"],
}
"""What the time of a stage grows with, by its settings; others take the same time each."""


@dataclass(frozen=True)
class StageForecast:
    """What is to be made of one stage.

    Attributes:
        missing: artifacts to make; one that several edits share counts once.
        unknown: those of them whose like the store has no record of.
        seconds: that the others will take.
        size: bytes that the others will take.
        records: that this was told from.
    """

    missing: int = 0
    unknown: int = 0
    seconds: float = 0.0
    size: int = 0
    records: int = 0


@dataclass(frozen=True)
class Forecast:
    """What is to be made of a job.

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
    """Tell what the missing artifacts of a job will take on a device.

    Only records of the same kind of device, the same weights and the same precision count; where
    there are several kinds of GPU, those of the kind that has most. Per step of a stage's
    settings, the median of what was recorded is taken, whatever the size of the image.

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

    Edits that are quarantined are left out, as in a run. An artifact without a key yet is told
    apart by what it is made of, as the job has it.
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
    edit = plan.edit
    config = edit.config
    reads = (
        edit.image.digest if {"image", "relocated_image"} & {*stage.reads} else None,
        edit.prompt if "prompt" in stage.reads else None,
        edit.drags if "drags" in stage.reads else None,
        edit.mask_digest if "user_mask" in stage.reads else None,
    )
    shared = (config.dtype, config.working_size, edit.model, edit.segmenter)
    needs = tuple(identities[name] for name in stage.needs)
    return (getattr(config, stage.name), shared, reads, needs)


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
        alike.setdefault(_kind(record.models, record.config), []).append(record)
    rates = {
        kind: (
            # The first one of a process has waited for its model, too.
            median_low(r.circumstances.seconds / _steps(stage.name, r.config) for r in group),
            median(r.size for r in group),
        )
        for kind, group in alike.items()
    }
    seconds, size, unknown = 0.0, 0.0, 0
    for edit, number in _by_settings(missing):
        models, config = _asked(stage, edit)
        rate = rates.get(_kind(models, config))
        if rate is None:
            unknown += number
        else:
            seconds += number * rate[0] * _steps(stage.name, config)
            size += number * rate[1]
    return StageForecast(len(missing), unknown, round(seconds, 3), round(size), len(records))


def _by_settings(missing: Sequence[EditPlan]) -> Iterator[tuple[Edit, int]]:
    """Yield an edit for each group with the same settings, and how many the group has."""
    groups: dict[Hashable, list[Edit]] = {}
    for plan in missing:
        edit = plan.edit
        # Edits without settings of their own share the job's, as the same object.
        same = (id(edit.config), edit.model, edit.segmenter, edit.lora)
        groups.setdefault(same, []).append(edit)
    for group in groups.values():
        yield group[0], len(group)


def _asked(stage: Stage, edit: Edit) -> tuple[dict[str, str], Mapping[str, Any]]:
    """Return the weights and the settings that a missing artifact will be made with."""
    if stage.name == "train_lora" and edit.lora != "train":
        return {}, {"source": "file"}
    models: dict[str, str] = {}
    if "diffusion" in stage.models:
        models["diffusion"] = diffusion_files(edit.model).digest
    if "segmenter" in stage.models and edit.config.needs_segmenter:
        models["segmenter"] = segmenter_files(edit.segmenter).digest
    return models, edit.config.for_stage(stage.name)


def _kind(models: Mapping[str, str], config: Mapping[str, Any]) -> Hashable:
    deciding = tuple(
        config.get(name) for name in ("dtype", "source", "segments", "method", "relocation")
    )
    return tuple(sorted(models.items())), deciding


def _steps(stage: str, config: Mapping[str, Any]) -> int:
    counted = stage in STEPS and "source" not in config
    return max(1, STEPS[stage](config)) if counted else 1
