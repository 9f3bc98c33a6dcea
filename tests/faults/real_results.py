"""A small store filled by the real stages, and its payloads to publish elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.tiny_job import write_job
from support.tiny_models import write_model

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore, Document, Payload, Picture, Record, TensorFile
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job
from stages.pipeline import STAGES
from stages.workbench import Workbench


@dataclass(frozen=True)
class Result:
    """One record, the edit and stage that made it, and what it holds."""

    record: Record
    edit: Edit
    payload: Payload


@dataclass(frozen=True)
class Results:
    """A job that is done, by the stages on a bench."""

    job: Path
    root: Path
    bench: Workbench
    all: tuple[Result, ...]

    @property
    def store(self) -> ArtifactStore:
        return self.bench.store

    @property
    def of_each_stage(self) -> list[Result]:
        """The first result of each stage, in order."""
        first: dict[str, Result] = {}
        for result in self.all:
            first.setdefault(result.record.stage, result)
        return list(first.values())


def make_results(place: Path, images: int, each: int) -> Results:
    """Do a tiny job in a folder; results come in the order of the stages."""
    job = write_job(place / "job", write_model(place / "model"), images=images, each=each)
    store = ArtifactStore.open(place / "store")
    bench = Workbench(store, Runtime(threads=1))
    made: dict[str, Result] = {}
    edits = load_job(job).edits
    for stage in STAGES:
        for edit in edits:
            record = bench.perform(stage.name, edit)
            made.setdefault(record.key, Result(record, edit, payload_of(store, record)))
    return Results(job, place / "store", bench, tuple(made.values()))


def payload_of(store: ArtifactStore, record: Record) -> Payload:
    """Read a payload in the form in which it can be published again."""
    kinds = store.verified(record).manifest.parts
    parts = store.read(record)
    return {name: _part(kinds[name].kind, parts[name]) for name in parts}


def _part(kind: str, value: Any) -> Any:
    wraps = {"tensors": TensorFile, "picture": Picture, "document": Document}
    return wraps[kind](value) if kind in wraps else value
