"""Where the results of an edit come from: its artifacts and their ingredients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.filesize import decimal

from adaptivedrag.model.lora_files import LoraFile
from adaptivedrag.points import Drag
from artifacts import ArtifactStore, Digest, Record
from stages.jobs.edit import Edit
from stages.pipeline import STAGES
from stages.planning.models import diffusion_files, segmenter_files
from stages.planning.plan import EditPlan, StagePlan, plan_edits
from stages.planning.sources import code_of
from stages.reports.wording import count

SCHEMA = 1


@dataclass(frozen=True)
class Ingredient:
    """An input or a model of an artifact.

    Attributes:
        source: what it is: a file, a text, or the record of a stage.
    """

    name: str
    digest: Digest
    source: str


@dataclass(frozen=True)
class Provenance:
    """An artifact of an edit, and its ingredients.

    Attributes:
        code_now: the code that would make it now; if it is not the record's, bytes may differ.
    """

    plan: StagePlan
    inputs: tuple[Ingredient, ...]
    models: tuple[Ingredient, ...]
    code_now: str

    @property
    def record(self) -> Record | None:
        """What the store knows of it."""
        return self.plan.record


def provenance(edit: Edit, store: ArtifactStore) -> tuple[Provenance, ...]:
    """Return the chain of an edit's artifacts, in the order of the stages; those that are off too.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    (plan,) = plan_edits([edit], store)
    return chain_of(plan)


def chain_of(plan: EditPlan) -> tuple[Provenance, ...]:
    """Return the chain of artifacts that a plan has found; see `provenance`."""
    return tuple(
        Provenance(
            plan.stages[stage.name],
            _inputs(plan, plan.stages[stage.name].record),
            _models(plan.edit, plan.stages[stage.name].record),
            code_of(stage.name),
        )
        for stage in STAGES
    )


def provenance_document(
    edit: Edit, chain: Sequence[Provenance], store: ArtifactStore
) -> dict[str, Any]:
    """Return a chain as JSON; docs/reproducing.md says what its fields mean."""
    return {
        "schema": SCHEMA,
        "edit": edit.id,
        "store": store.location,
        "stages": {each.plan.stage: _document(each) for each in chain},
    }


def provenance_lines(chain: Sequence[Provenance]) -> Iterator[str]:
    """Return lines that say what each artifact is made of."""
    for each in chain:
        why = f": {each.plan.why}" if each.plan.why else ""
        yield f"{each.plan.stage} {each.plan.status}{why}"
        if each.record:
            for title, text in facts(each, each.record):
                yield f"  {title:<10}{text}"


def facts(each: Provenance, record: Record) -> Iterator[tuple[str, str]]:
    """Return what an artifact was made from, and how: titles and texts."""
    worked = record.circumstances
    yield "key", record.key
    yield "record", f"{record.number}, stage version {record.version}"
    yield "object", f"{record.object} ({count(len(record.files), 'file')}, {decimal(record.size)})"
    for title, ingredients in (("input", each.inputs), ("model", each.models)):
        for one in ingredients:
            yield title, f"{one.name} {one.digest}: {one.source}"
    for title, settings in _settings(record.config):
        yield title, settings
    now = "as now" if worked.code == each.code_now else f"now {each.code_now}"
    yield "code", f"{worked.code} ({now})"
    yield "libraries", ", ".join(f"{name} {version}" for name, version in worked.libraries.items())
    yield "device", f"{worked.device}, {count(worked.threads, 'thread')}"
    begun = record.summary.get("resumed_after")
    resumed = f" after a checkpoint of step {begun}" if begun else ""
    peak = f", at most {decimal(worked.peak_memory)} of memory" if worked.peak_memory else ""
    yield "started", f"{worked.started}, {worked.seconds} s{resumed}{peak}"
    if worked.memory_saved_by:
        yield "memory", f"was short: {', '.join(worked.memory_saved_by)}"


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    plain = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    if "seed" in plain:
        yield "seed", str(plain.pop("seed"))
    nested = {name: value for name, value in config.items() if isinstance(value, Mapping)}
    for title, settings in {"config": plain, **nested}.items():
        if settings:
            yield title, ", ".join(f"{name} {value}" for name, value in settings.items())


def _document(each: Provenance) -> dict[str, Any]:
    found: dict[str, Any] = {"status": str(each.plan.status), "key": each.plan.key}
    record = each.record
    if record is None:
        return found
    worked = record.circumstances
    return found | {
        "record": record.number,
        "object": record.object,
        "logical": record.logical,
        "bytes": record.size,
        "version": record.version,
        "inputs": {one.name: {"digest": one.digest, "is": one.source} for one in each.inputs},
        "models": {one.name: {"digest": one.digest, "is": one.source} for one in each.models},
        "config": record.config,
        "seed": record.config.get("seed"),
        "code": worked.code,
        "code_now": each.code_now,
        "libraries": worked.libraries,
        "device": worked.device,
        "threads": worked.threads,
        "started": worked.started,
        "seconds": worked.seconds,
        "peak_memory": worked.peak_memory,
        "memory_saved_by": list(worked.memory_saved_by),
    }


def _inputs(plan: EditPlan, record: Record | None) -> tuple[Ingredient, ...]:
    found = record.inputs if record else {}
    return tuple(Ingredient(name, digest, _source(name, plan)) for name, digest in found.items())


def _source(name: str, plan: EditPlan) -> str:
    edit = plan.edit
    match name:
        case "image" | "relocated_image":
            return f"{edit.image_path}, {edit.image.width}x{edit.image.height} pixels"
        case "prompt":
            return repr(edit.prompt)
        case "drags":
            return ", ".join(map(_drag, edit.drags))
        case "user_mask":
            return str(edit.mask_path)
        case "lora_file" | "lora_config" | "lora_header" if isinstance(edit.lora, LoraFile):
            return str(edit.lora.inputs.get(name))
    made = plan.stages[name].record
    return f"record {made.number} of {name}, {made.key}" if made else name


def _drag(drag: Drag) -> str:
    (x, y), (to_x, to_y) = drag
    return f"({x:g}, {y:g}) → ({to_x:g}, {to_y:g})"


def _model_of(edit: Edit) -> str:
    """Say which model an edit is made with, and where it is."""
    source = diffusion_files(edit.model, edit.vae).source
    other = f", with the VAE {edit.vae} at {source.settings('vae')}" if edit.vae else ""
    return f"{edit.model} at {source.path}{other}"


def _models(edit: Edit, record: Record | None) -> tuple[Ingredient, ...]:
    places = {
        "diffusion": lambda: _model_of(edit),
        "segmenter": lambda: f"{edit.segmenter} at {segmenter_files(edit.segmenter).path}",
    }
    found = record.models if record else {}
    return tuple(Ingredient(name, digest, places[name]()) for name, digest in found.items())
