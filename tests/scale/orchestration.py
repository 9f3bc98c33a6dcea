"""What a run costs an edit beside its stages.

Stages that do not even wait, on the local disk. A run has to look up, hand out, note and report;
stages alone are performed against the store one after the other, which is what is taken off. From
the first stage's begin to the last one's end, in one process with its own Prefect server, and at a
worker whose server is on PostgreSQL. The first ten edits of a run go through all stages alone and
so have a task of Prefect for each; later ones share tasks, as many as fit into a minute.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.many_edits import EMBEDDED, write_dataset
from diary import Note, notes, wait_until_ended
from loopback import Place, cluster, place
from support.report import Row, Stopwatch

from flows.dispatch import FIRST_EDITS
from stages.pipeline import STAGES

EDITS = 300
FIRST = "edit-00000?"
NOTES = 2 * len(STAGES)
"""Of an edit: each stage begins and ends."""
GIVE_UP = 300.0


def rows(_seed: int) -> Iterator[Row]:
    clock = Stopwatch()
    stages = mean(by_stages_alone())
    run = in_process()
    yield row("in one process", 50, run, stages, clock.seconds, told_of_first(run))
    clock = Stopwatch()
    shard = at_worker()
    yield row("server on PostgreSQL", 100, shard, stages, clock.seconds, "one shard of a worker.")


def row(
    where: str, asked: float, diary: list[Note], stages: float, seconds: float, more: str
) -> Row:
    """Judge what a run adds to its stages, in milliseconds of an edit."""
    added = mean(diary) - stages
    return Row(
        f"orchestration of an edit, all stages, {where}",
        f"under {asked} ms",
        f"{added:.0f} ms",
        added < asked,
        seconds,
        f"{len(diary) // NOTES} edits at {mean(diary):.0f} ms, of which stages that do nothing and "
        f"the store take {stages:.0f} ms; {more}",
    )


def mean(diary: list[Note]) -> float:
    """Return the milliseconds of an edit of one process, from its first note to its last."""
    return 1000 * (diary[-1].at - diary[0].at) * NOTES / len(diary)


def told_of_first(diary: list[Note]) -> str:
    """Tell what the first edits of a run take, each of whose stages is a task."""
    return f"{mean(diary[: NOTES * FIRST_EDITS]):.0f} ms where each stage of an edit is a task."


def by_stages_alone() -> list[Note]:
    """Do the stages of a job without a run."""
    with place(wait=0) as at:
        program = Path(__file__).with_name("bare.py")
        at.wait_for(at.start_python(program, dataset(at), at.folder / "store", log="bare"), "bare")
        return notes(at.diary)


def in_process() -> list[Note]:
    """Do a job by `run`."""
    with place(wait=0) as at:
        at.call("run", dataset(at), *kept(at))
        return notes(at.diary)


def at_worker() -> list[Note]:
    """Do a job by a worker, in one shard, since a run of ten edits has told how short it is."""
    with place(wait=0) as at, cluster(at, workers=1):
        job, first = dataset(at), at.beside("first")
        first.call("run", job, *kept(at), "--select", FIRST)
        at.call("submit", job, *kept(at))
        return wait_until_ended(at.diary, (EDITS - 10) * len(STAGES), GIVE_UP)


def dataset(at: Place) -> Path:
    return write_dataset(at.folder / "job", EDITS, models=EMBEDDED)


def kept(at: Place) -> list[object]:
    return ["--store", at.folder / "store", "--out", at.folder / "out"]
