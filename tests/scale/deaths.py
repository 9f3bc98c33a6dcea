"""How long the shard of a dead worker lies idle.

Workers with a process each do long shards of stages that only wait. Again and again one of them,
its process, or both are killed with -9 in the middle of a shard, up to six shards at a time; each
is started again as a service manager does. Counted are the seconds from the kill until another
process begins a stage of an edit of that shard.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.many_edits import EMBEDDED, write_dataset
from diary import Note, notes
from loopback import Place, cluster, place
from support.report import Row, Stopwatch, on_seed
from workers import KilledWorker, draw_victim

DEATHS = 20
WITHIN = 120.0
SHARDS, WORKERS, AT_ONCE = 8, 10, 6
EDITS_PER_SHARD = 100
WAIT = 1.0
PAUSE = 5.0
GIVE_UP = 300.0
"""Seconds after which a shard counts as lost."""


@dataclass
class Death:
    """A process that was killed at its shard; `after` is when another one went on."""

    shard: int
    pid: int
    whom: str
    at: float
    after: float | None = None

    def look(self, diary: list[Note]) -> None:
        """Find out whether another process has gone on."""
        later = (
            note.at
            for note in diary
            if note.event == "began"
            and note.at > self.at
            and note.pid != self.pid
            and shard_of(note) == self.shard
        )
        first = next(later, None)
        self.after = None if first is None else first - self.at


def shard_of(note: Note) -> int:
    """Return the shard of an edit; each is the edits of one image."""
    return int(note.edit.removeprefix("edit-")) // EDITS_PER_SHARD


def rows(seed: int) -> Iterator[Row]:
    with on_seed("deaths", seed), place(wait=WAIT) as at:
        edits = SHARDS * EDITS_PER_SHARD
        job = write_dataset(at.folder / "job", edits, EDITS_PER_SHARD, EMBEDDED)
        yield mourn(at, job, DEATHS, random.Random(seed))


def mourn(at: Place, job: Path, wanted: int, draw: random.Random) -> Row:
    """Kill until there were enough deaths; tell how long each shard lay idle."""
    clock = Stopwatch()
    with cluster(at):
        workers = [KilledWorker(at, number) for number in range(WORKERS)]
        at.call("submit", job, "--store", at.folder / "store", "--out", at.folder / "out")
        deaths = killing(at, workers, wanted, draw)
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    left = at.left_behind()
    seconds = {
        whom: [each.after or GIVE_UP for each in deaths if each.whom == whom]
        for whom in ("worker", "child", "both")
    }
    told = "; ".join(
        f"{len(each)} times {whom}: {median(each):.0f} s in the middle, {max(each):.0f} s at most"
        for whom, each in seconds.items()
        if each
    )
    late = sum(each > WITHIN for group in seconds.values() for each in group)
    return Row(
        "a dead worker: until its shard runs elsewhere",
        f"under {WITHIN:.0f} s in {wanted} of {wanted}",
        f"{len(deaths) - late} of {len(deaths)} in time; {left} processes left",
        not late and len(deaths) == wanted and not left,
        clock.seconds,
        f"{told}. {WORKERS} workers, {SHARDS} shards.",
    )


def killing(
    at: Place, workers: list[KilledWorker], wanted: int, draw: random.Random
) -> list[Death]:
    """Kill one after the other while at most `AT_ONCE` shards lie idle."""
    deaths: list[Death] = []
    due = 0.0
    while len(deaths) < wanted or any(waits(death) for death in deaths):
        time.sleep(0.5)
        diary = notes(at.diary)
        for death in deaths:
            if death.after is None:
                death.look(diary)
        idle = {death.shard for death in deaths if waits(death)}
        if len(deaths) < wanted and len(idle) < AT_ONCE and time.monotonic() >= due:
            worker, whom = draw_victim(workers, draw)
            if death := killed(worker, whom, diary, idle):
                deaths.append(death)
                due = time.monotonic() + PAUSE
        for worker in workers:
            worker.tend()
    return deaths


def waits(death: Death) -> bool:
    return death.after is None and time.monotonic() - death.at < GIVE_UP


def killed(worker: KilledWorker, whom: str, diary: list[Note], idle: set[int]) -> Death | None:
    """Kill a worker that is at a shard; None if it is at none."""
    child = worker.child
    shard = next((shard_of(note) for note in reversed(diary) if note.pid == child), None)
    if shard is None or shard in idle:
        return None
    worker.kill(whom)
    return Death(shard, child, whom, time.monotonic())
