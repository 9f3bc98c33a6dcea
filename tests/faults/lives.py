"""Processes that do a job and may be killed: the real stages on a real store, without Prefect.

A life is one such process. It is forked from one that has imported everything, so that it starts in
milliseconds.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from support.naive_store import NaiveStore

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from stages.jobs.reader import load_job
from stages.pipeline import BY_NAME, STAGES
from stages.planning.plan import bring_up_to_date, plan_edits
from stages.planning.work import work_for
from stages.stage import Made, Stage, Work
from stages.workbench import Workbench

IMPORTED = [
    "torch",
    "zarr",
    "safetensors.torch",
    "skimage.segmentation",
    "diffusers",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.schedulers.scheduling_ddim",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "peft",
    "adaptivedrag.model.diffusion",
    "adaptivedrag.model.lora",
    "adaptivedrag.drag",
    "adaptivedrag.sampling",
    "adaptivedrag.superpixels",
    "adaptivedrag.masks",
    "stages.workbench",
]

OPEN: dict[str, Callable] = {"ours": ArtifactStore.open, "naive": NaiveStore}


@dataclass(frozen=True)
class Errand:
    """What a life has to do.

    Attributes:
        diary: a file that notes the begin and the end of every execution of a stage.
        store: "ours" or "naive".
        edits: ids of the edits to do; all by default.
    """

    job: Path
    location: Path
    diary: Path
    store: str = "ours"
    edits: frozenset[str] | None = None


def live(errand: Errand) -> None:
    """Do what a job lacks, stage by stage, with a checkpoint after every step."""
    found = load_job(errand.job)
    edits = [edit for edit in found.edits if errand.edits is None or edit.id in errand.edits]
    store = OPEN[errand.store](errand.location)
    every = 1 if errand.store == "ours" else 0
    bench = Workbench(store, Runtime(threads=1, checkpoint_every=every))
    with noted(errand):
        plans = plan_edits(edits, store)
        for stage in BY_NAME.values():
            items, blocked = work_for(stage, plans)
            assert not blocked, f"{stage.name} of {[p.edit.id for p in blocked]} has no inputs"
            for item in items:
                (record,) = bench.make([item])
                if isinstance(record, Exception):
                    raise record
                bring_up_to_date(plans, stage, {item.key: record}, store)


@contextmanager
def noted(errand: Errand) -> Iterator[None]:
    """Note when a stage runs for a key, and how many records the key had by then."""
    before = dict(BY_NAME)
    diary = os.open(errand.diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    BY_NAME.update({name: _noting(stage, errand.location, diary) for name, stage in before.items()})
    try:
        yield
    finally:
        BY_NAME.update(before)
        os.close(diary)


def _noting(stage: Stage, location: Path, diary: int) -> Stage:
    def run(works: Sequence[Work]) -> Sequence[Made]:
        def note(word: str, work: Work) -> None:
            key = work.checkpoints.key
            there = len(list((location / "actions" / stage.name / key[:2] / key).glob("*.json")))
            os.write(diary, f"{word} {stage.name} {key} {there}\n".encode())

        for work in works:
            note("began", work)
        mades = stage.run(works)
        for work in works:
            note("ended", work)
        return mades

    return replace(stage, run=run)


@dataclass(frozen=True)
class Note:
    """A line of a diary: a stage began or ended, when its key had `there` records."""

    event: str
    stage: str
    key: str
    there: int


def notes(diary: Path) -> list[Note]:
    """Read a diary."""
    lines = diary.read_text().splitlines() if diary.exists() else []
    return [
        Note(event, stage, key, int(there)) for event, stage, key, there in map(str.split, lines)
    ]


@cache
def processes() -> multiprocessing.context.ForkServerContext:
    """Return the context that forks from a process that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def ready() -> None:
    """Wait until a life starts in milliseconds."""
    process = processes().Process(target=notes, args=(Path("nothing"),), daemon=True)
    process.start()
    process.join()


def begin(errand: Errand, function: Callable[[Errand], None] = live) -> ForkServerProcess:
    """Start a life."""
    process = processes().Process(target=function, args=(errand,), daemon=True)
    process.start()
    return process


def to_the_end(errand: Errand) -> None:
    """Do an errand undisturbed."""
    process = begin(errand)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the job could not be done: exit code {process.exitcode}")


def contents(location: Path) -> dict[str, str]:
    """Digest every file of all objects, and the outcome in every key's record."""
    found = {
        path.relative_to(location).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in (location / "objects").rglob("*")
        if path.is_file() and "#" not in path.name
    }
    store = ArtifactStore.open(location, create=False)
    for stage in STAGES:
        for record in store.records_of(stage.name):
            found[f"{record.stage} {record.key}"] = f"{record.object} {record.logical}"
    return found


def record_numbers(location: Path) -> list[str]:
    """Return the names of all records: 0001.json, and so on."""
    return [path.name for path in (location / "actions").rglob("*.json")]
