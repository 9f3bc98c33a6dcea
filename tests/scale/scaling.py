"""Two workers against one, with stages made of waiting.

Each worker has two shards of its own: one worker does two, two workers do four. Counted are the
edits per second, from the moment that the job is submitted to the end of its last stage.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.many_edits import EMBEDDED, write_dataset
from diary import wait_until_ended
from loopback import cluster, place
from support.report import Row, Stopwatch

from stages.pipeline import STAGES

ASKED = 1.9
WAIT = 0.25
EDITS_PER_SHARD = 30
SHARDS_EACH = 2
GIVE_UP = 600.0


@dataclass(frozen=True)
class Pace:
    """How fast some workers did a job, and how long the first of them took to begin."""

    edits: int
    seconds: float
    start: float

    @property
    def per_second(self) -> float:
        return self.edits / self.seconds


def rows(_seed: int) -> Iterator[Row]:
    yield scale(EDITS_PER_SHARD)


def scale(edits_per_shard: int) -> Row:
    """Do jobs whose size grows with the number of workers."""
    clock = Stopwatch()
    one, two = (pace_of(workers, edits_per_shard) for workers in (1, 2))
    ratio = two.per_second / one.per_second
    return Row(
        "2 workers against 1, stages made of waiting",
        f"at least {ASKED} times the edits per second",
        f"{ratio:.2f}",
        ratio >= ASKED,
        clock.seconds,
        f"{one.edits} edits in {one.seconds:.1f} s, {two.edits} edits in {two.seconds:.1f} s; "
        f"{one.start:.1f} and {two.start:.1f} s of it until the first stage began.",
    )


def pace_of(workers: int, edits_per_shard: int) -> Pace:
    """Do a job of `SHARDS_EACH` shards for each of some workers."""
    shards = SHARDS_EACH * workers
    with place(wait=WAIT) as at:
        edits = shards * edits_per_shard
        job = write_dataset(at.folder / "job", edits, models=EMBEDDED)
        with cluster(at, workers):
            at.call("submit", job, "--shards", shards, "--store", at.folder / "store")
            began = time.monotonic()
            diary = wait_until_ended(at.diary, edits * len(STAGES), GIVE_UP)
        first, last = diary[0].at, diary[-1].at
        return Pace(edits, last - began, first - began)
