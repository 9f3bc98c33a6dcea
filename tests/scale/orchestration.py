"""What a run costs an edit beside its stages.

Stages that do not even wait, on the local disk. A run has to look up, hand out, note and report;
stages alone are performed against the store one after the other, which is what is taken off. From
the first stage's begin to the last one's end, in one process with its own Prefect server, and at a
worker whose server is on PostgreSQL. The first ten edits of a run go through all stages alone and
so have a task of Prefect for each; later ones share tasks, as many as fit into 20 s of work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many_edits import EMBEDDED, write_dataset
from diary import Note, notes, wait_until_ended
from loopback import Place, cluster, place
from support.report import Row, Stopwatch

from flows.dispatch import FIRST_EDITS
from stages.pipeline import STAGES

EDITS = 300
GIVE_UP = 300.0


@dataclass(frozen=True)
class Cost:
    """Milliseconds of an edit: on average, and of the first ones."""

    mean: float
    first: float

    @classmethod
    def of(cls, diary: list[Note]) -> "Cost":
        """Read the costs from the notes about one process."""
        at, each = [1000 * note.at for note in diary], 2 * len(STAGES)
        return cls(
            (at[-1] - at[0]) * each / len(at), (at[each * FIRST_EDITS - 1] - at[0]) / FIRST_EDITS
        )


def rows(_seed: int) -> Iterator[Row]:
    clock = Stopwatch()
    stages = by_stages_alone()
    yield row("in one process", 50, in_process(), stages, clock)
    clock = Stopwatch()
    yield row("server on PostgreSQL", 100, at_worker(), stages, clock)


def row(where: str, asked: float, run: Cost, stages: Cost, clock: Stopwatch) -> Row:
    """Judge what a run adds to its stages; `asked` is in milliseconds."""
    added = run.mean - stages.mean
    return Row(
        f"orchestration of an edit, all stages, {where}",
        f"under {asked} ms",
        f"{added:.0f} ms",
        added < asked,
        clock.seconds,
        f"{EDITS} edits at {run.mean:.0f} ms, stages that do nothing and the store take "
        f"{stages.mean:.0f} ms of it; {run.first:.0f} ms with a task for each stage.",
    )


def by_stages_alone() -> Cost:
    """Do the stages of a job without a run."""
    with place(wait=0) as at:
        program = Path(__file__).with_name("bare.py")
        at.wait_for(at.start_python(program, dataset(at), at.folder / "store", log="bare"), "bare")
        return Cost.of(notes(at.diary))


def in_process() -> Cost:
    """Do a job by `run`."""
    with place(wait=0) as at:
        at.call("run", dataset(at), "--store", at.folder / "store", "--out", at.folder / "out")
        return Cost.of(notes(at.diary))


def at_worker() -> Cost:
    """Do a job by a worker, in one shard."""
    with place(wait=0) as at, cluster(at, workers=1):
        keep = ["--store", at.folder / "store", "--out", at.folder / "out"]
        at.call("submit", dataset(at), *keep)
        return Cost.of(wait_until_ended(at.diary, EDITS * len(STAGES), GIVE_UP))


def dataset(at: Place) -> Path:
    return write_dataset(at.folder / "job", EDITS, models=EMBEDDED)
