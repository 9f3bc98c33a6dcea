"""Ends of the real `adaptivedrag run`, with Prefect.

Each run is a process with its own temporary server. Kills come at random moments, from the first
import on, until the job is done: twelve edits of two images on the pocket models with few steps.
Runs side by side use a tiny random model.
"""

import os
import random
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lives import Errand, contents, notes, record_numbers
from support.marked import MARK, left_behind
from support.report import Row, Stopwatch, on_seed
from support.tiny_job import write_job
from support.tiny_models import write_model

from artifacts import ArtifactStore
from artifacts.upkeep.verify import Verification

HERE = Path(__file__).parent
KILLS = 20
SHARE = 1 / 2
"""The latest moment of a kill, as a share of the undisturbed run's time."""
GONE_WITHIN = 10.0
"""No process of a run may be left this long after its end, in seconds."""


@dataclass
class Run:
    """A run in its own process."""

    errand: Errand
    process: subprocess.Popen = field(init=False)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        errand = self.errand
        line = [HERE / "noted_run.py", errand.location, errand.diary, "run", errand.job]
        options = ["--store", errand.location, "--out", errand.location.with_suffix(".out")]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, [*line, *options])],
            env=os.environ | {MARK: self.mark, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill(self) -> int:
        """Kill the run; return how many of its processes are left after `GONE_WITHIN`."""
        self.process.kill()
        self.process.communicate()
        return self.left_behind()

    def left_behind(self) -> int:
        """Count the processes of this run that do not go away, then kill those."""
        return left_behind(self.mark, GONE_WITHIN)

    def finish(self) -> str:
        """Wait for the end, and return what was printed."""
        return self.process.communicate()[0]


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("real runs", seed):
        place = Path(folder)
        yield kill_runs(pocket_job(place / "pocket"), KILLS, seed)
        tiny = write_job(place / "tiny", write_model(place / "model"), images=2, each=3)
        yield side_by_side(undisturbed(tiny))


def pocket_job(folder: Path) -> Path:
    """Write a job of twelve edits on the pocket models, a few steps each."""
    job = write_job(folder, Path("pocket"), images=2, each=6)
    text = job.read_text().replace('"weights.pt"', '"pocket"').replace('"rgb"', '"features"')
    job.write_text(text)
    return job


def undisturbed(job: Path) -> Errand:
    """Run a job to its end."""
    errand = Errand(job, job.parent / "whole", job.parent / "whole.log")
    run = Run(errand)
    told = run.finish()
    if run.process.returncode:
        raise RuntimeError(f"the job could not be done: {told}")
    return errand


def kill_runs(job: Path, kills: int, seed: int) -> Row:
    """Kill runs until enough were killed, and finish each job."""
    clock, draw = Stopwatch(), random.Random(seed)
    whole = undisturbed(job)
    longest, done, jobs, left = SHARE * clock.seconds, 0, 0, 0
    problems: list[str] = []
    executions = Counter[str]()
    while done < kills:
        jobs += 1
        errand = replace(whole, location=job.parent / f"{jobs}", diary=job.parent / f"{jobs}.log")
        while True:
            run = Run(errand)
            try:
                told, _ = run.process.communicate(
                    timeout=draw.uniform(0, longest) if done < kills else None
                )
            except subprocess.TimeoutExpired:
                left += run.kill()
                done += 1
                continue
            if run.process.returncode:
                problems.append(f"a run ended with {run.process.returncode}: {told[-300:]}")
            left += run.left_behind()
            break
        problems += differences(errand, whole)
        executions.update(note.event for note in notes(errand.diary))
    return Row(
        "kill -9 at random moments of `adaptivedrag run`, pocket models",
        f"{kills} kills, final bytes identical, finished stages done again: 0, no process left",
        f"{done} kills over {jobs} jobs: {len(problems)} differences, stages done again or second "
        f"records; {left} processes left {GONE_WITHIN:.0f} s later",
        not problems and not left,
        clock.seconds,
        f"{executions['began']} executions of stages, "
        f"{executions['began'] - executions['ended']} of them cut off." + joined(problems),
    )


def differences(errand: Errand, whole: Errand, twice_is_wrong: bool = True) -> list[str]:
    """Return how a disturbed job differs from an undisturbed one."""
    problems = []
    if contents(errand.location) != contents(whole.location):
        problems.append("other final bytes")
    if set(record_numbers(errand.location)) != {"0001.json"}:
        problems.append("records beyond the first of a key")
    again = [n for n in notes(errand.diary) if n.event == "began" and n.there]
    if again and twice_is_wrong:
        problems.append(f"{len(again)} finished stages were done again")
    damage = Verification(ArtifactStore.open(errand.location, create=False))
    return problems + [str(finding) for finding in damage if finding.trouble.is_damage]


def joined(problems: Sequence[str]) -> str:
    return "".join(f" {problem}." for problem in problems[:5])


def side_by_side(whole: Errand) -> Row:
    """Start two runs of one job at once."""
    clock = Stopwatch()
    errand = replace(
        whole, location=whole.location.with_name("two"), diary=whole.diary.with_name("two.log")
    )
    runs = [Run(errand), Run(errand)]
    told = [run.finish() for run in runs]
    codes = [run.process.returncode for run in runs]
    problems = differences(errand, whole, twice_is_wrong=False)
    problems += [text[-300:] for text, code in zip(told, codes, strict=True) if code]
    left = sum(run.left_behind() for run in runs)
    ended = Counter(note.key for note in notes(errand.diary) if note.event == "ended")
    return Row(
        "two `run`s of one job at once",
        "finish with the same artifacts as one run",
        f"exit codes {codes[0]} and {codes[1]}; {len(problems)} differences; {left} processes "
        f"left; {ended.total() - len(ended)} of {ended.total()} executions were duplicates",
        not problems and not left,
        clock.seconds,
        joined(problems).strip(),
    )
