"""Kills at random moments of a job, resumed until it is done.

Twelve edits of four images on a tiny random model, the real stages without Prefect, a checkpoint
after every step. SIGKILL ends each process after a random time, and another one goes on. The naive
store writes results in place and takes what exists for done.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from lives import Errand, begin, contents, live, notes, ready, record_numbers, to_the_end
from support.report import Row, Stopwatch, on_seed
from support.tiny_job import write_job
from support.tiny_models import write_model

from artifacts import ArtifactStore
from artifacts.upkeep.verify import Verification

KILLS, NAIVE_KILLS = 180, 400
SHARE = 1 / 4
"""The longest life of a process, as a share of the undisturbed job's time."""
GIVE_UP = 3
"""A job is stuck after this number of errors in a row."""


@dataclass
class Count:
    """Counts over all jobs."""

    kills: int = 0
    jobs: int = 0
    wrong: int = 0
    stuck: int = 0
    executions: int = 0
    repeated: int = 0
    beyond_first: int = 0
    interrupted: int = 0
    left: int = 0
    damage: list[str] = field(default_factory=list)


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("kills", seed):
        place = Path(folder)
        job = write_job(place / "job", write_model(place / "model"), images=4, each=3)
        yield kill_ours(job, place / "ours", KILLS, seed)
        yield kill_naive(job, place / "naive", NAIVE_KILLS, seed)


def kill_ours(job: Path, place: Path, kills: int, seed: int) -> Row:
    """Kill processes on our store; all results must be whole and done once."""
    clock = Stopwatch()
    found = disturb(job, place, "ours", kills, random.Random(seed))
    reached = (
        f"{found.kills} kills over {found.jobs} jobs; final bytes that differ: {found.wrong}; "
        f"finished stages done again: {found.repeated}; second records of a key: "
        f"{found.beyond_first}; stuck jobs: {found.stuck}; damage: {len(found.damage)}"
    )
    failed = (found.wrong, found.repeated, found.beyond_first, found.stuck, found.damage)
    return Row(
        "kill -9 at random moments, without Prefect",
        f"{kills} kills, final bytes identical, finished stages done again: 0",
        reached,
        not any(failed) and found.kills >= kills,
        clock.seconds,
        f"{found.executions} executions of stages, {found.interrupted} of them cut off; "
        f"{found.left} unfinished files left for `store gc`.",
    )


def kill_naive(job: Path, place: Path, kills: int, seed: int) -> Row:
    """Kill processes on the naive store until a job is lost, to show that this test can fail."""
    clock = Stopwatch()
    found = disturb(job, place, "naive", kills, random.Random(seed))
    return Row(
        "the same on a naive store",
        "must fail",
        f"{found.kills} kills over {found.jobs} jobs: {found.wrong} ended with wrong bytes, "
        f"{found.stuck} got stuck",
        found.wrong + found.stuck > 0,
        clock.seconds,
        "",
    )


def disturb(job: Path, place: Path, store: str, kills: int, draw: random.Random) -> Count:
    """Do the job again and again in processes that are killed, until enough kills happened.

    On the naive store, stop once a job was lost: few kills hit a write.
    """
    whole = Errand(job, place / "whole", place / "whole.log", store)
    place.mkdir()
    ready()
    clock, count = Stopwatch(), Count()
    to_the_end(whole)
    longest = SHARE * clock.seconds
    while count.kills < kills and not (store == "naive" and count.wrong + count.stuck):
        count.jobs += 1
        errand = Errand(job, place / f"{count.jobs}", place / f"{count.jobs}.log", store)
        if survive(errand, count, kills, longest, draw):
            judge(errand, whole, count)
        else:
            count.stuck += 1
    return count


def survive(errand: Errand, count: Count, kills: int, longest: float, draw: random.Random) -> bool:
    """Start processes until one finishes the job; return whether one did."""
    errors = 0
    while errors < GIVE_UP:
        process = begin(errand, live if errand.store == "ours" else quietly)
        process.join(draw.uniform(0, longest) if count.kills < kills else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            count.kills += 1
            errors = 0
        elif process.exitcode == 0:
            return True
        else:
            errors += 1
    return False


def quietly(errand: Errand) -> None:
    """Do a job without its tracebacks, which are long and expected on a naive store."""
    try:
        live(errand)
    except Exception as error:
        raise SystemExit(1) from error


def judge(errand: Errand, whole: Errand, count: Count) -> None:
    """Compare the results of a disturbed job with those of an undisturbed one."""
    if errand.store == "naive":
        count.wrong += files(errand.location) != files(whole.location)
        return
    count.wrong += contents(errand.location) != contents(whole.location)
    diary = notes(errand.diary)
    events = Counter(note.event for note in diary)
    count.executions += events["began"]
    count.interrupted += events["began"] - events["ended"]
    count.repeated += sum(note.event == "began" and note.there > 0 for note in diary)
    count.beyond_first += sum(name != "0001.json" for name in record_numbers(errand.location))
    found = list(Verification(ArtifactStore.open(errand.location, create=False)))
    count.damage += [str(finding) for finding in found if finding.trouble.is_damage]
    count.left += sum(finding.trouble.value == "leftover" for finding in found)


def files(place: Path) -> dict[str, bytes]:
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }
