"""Several processes on one store and one job.

Four processes do the same twelve edits of four images on two cores at once. Then each does its own
shard, as `run` and `submit` cut them. In both, one of the four is killed repeatedly and replaced.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lives import Errand, begin, contents, notes, ready, record_numbers, to_the_end
from support.report import Row, Stopwatch, on_seed
from support.tiny_job import write_job
from support.tiny_models import write_model

from artifacts import ArtifactStore
from artifacts.upkeep.verify import Verification
from flows.shards import StageSeconds, cut_shards
from stages.jobs.reader import load_job
from stages.pipeline import STAGE_NAMES
from stages.planning.plan import plan_edits

PROCESSES = 4
SHARE = 1 / 8
"""A process is killed at intervals of this share of the undisturbed job's time."""
MOST_KILLS = 30


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("crowd", seed):
        place = Path(folder)
        job = write_job(place / "job", write_model(place / "model"), images=4, each=3)
        ready()
        clock, whole = Stopwatch(), Errand(job, place / "whole", place / "whole.log")
        to_the_end(whole)
        pause, draw = SHARE * clock.seconds, random.Random(seed)
        same = [Errand(job, place / "same", place / "same.log")] * PROCESSES
        yield run_crowd("the same job", same, whole, pause, MOST_KILLS, draw)
        shards = cut_errands(job, place / "shards")
        yield run_crowd("a shard each", shards, whole, pause, MOST_KILLS, draw)
        yield run_crowd(
            "a shard each, none killed", cut_errands(job, place / "quiet"), whole, pause, 0, draw
        )


def cut_errands(job: Path, location: Path) -> list[Errand]:
    """Cut a job as the flows do, and give each process a shard."""
    edits = load_job(job).edits
    cut = cut_shards(edits, StageSeconds().of, STAGE_NAMES, at_least=PROCESSES)
    diary = location.with_suffix(".log")
    return [
        Errand(job, location, diary, edits=frozenset(edit.id for edit in shard)) for shard in cut
    ]


def run_crowd(
    who: str, errands: list[Errand], whole: Errand, pause: float, kills: int, draw: random.Random
) -> Row:
    """Do all errands at once, killing one process after each pause."""
    clock, killed = Stopwatch(), 0
    lives = {number: begin(errand) for number, errand in enumerate(errands)}
    while lives:
        time.sleep(pause)
        for number, process in list(lives.items()):
            if process.exitcode is not None:
                assert process.exitcode == 0, f"{who}: process {number} ended by an error"
                del lives[number]
        if lives and killed < kills:
            number = draw.choice(list(lives))
            lives[number].kill()
            lives[number].join()
            killed += 1
            lives[number] = begin(errands[number])
    return count_crowd(who, errands, whole, killed, clock)


def count_crowd(
    who: str, errands: list[Errand], whole: Errand, killed: int, clock: Stopwatch
) -> Row:
    """Compare the store with that of one process, and count what was done more than once."""
    location, diary = errands[0].location, notes(errands[0].diary)
    same = contents(location) == contents(whole.location)
    numbers = Counter(record_numbers(location))
    ended = Counter(note.key for note in diary if note.event == "ended")
    began = sum(note.event == "began" for note in diary)
    extra = {key: times - 1 for key, times in ended.items() if times > 1}
    damage = [f for f in Verification(ArtifactStore.open(location)) if f.trouble.is_damage]
    users = users_of(errands)
    apart = {key: more for key, more in extra.items() if len(users[key]) == 1}
    none_twice = len(set(errands)) > 1 and not killed
    return Row(
        f"{len(errands)} processes on one store, {who}",
        "all done, one winner per key" + (", nothing done twice" if none_twice else ""),
        f"{killed} kills; final bytes {'identical' if same else 'differ'}; "
        f"{numbers['0001.json']} keys with one record, {numbers.total() - numbers['0001.json']} "
        f"further records; {sum(extra.values())} of {ended.total()} finished executions were "
        f"duplicates, {sum(apart.values())} of them needed by one process alone",
        same and set(numbers) == {"0001.json"} and not damage and not (none_twice and apart),
        clock.seconds,
        f"kills cut off {began - ended.total()} executions.",
    )


def users_of(errands: list[Errand]) -> dict[str, set[int]]:
    """Return which processes need each key."""
    users: defaultdict[str, set[int]] = defaultdict(set)
    for number, errand in enumerate(errands):
        edits = [e for e in load_job(errand.job).edits if not errand.edits or e.id in errand.edits]
        for plan in plan_edits(edits, ArtifactStore.open(errand.location)):
            for stage in plan.stages.values():
                if stage.key:
                    users[stage.key].add(number)
    return users
