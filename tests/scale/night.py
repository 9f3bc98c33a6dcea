"""Ten thousand edits on eight processes, with stages that only wait.

Four edits of each image, on a cluster of this machine with the store on its disk. Every task of
Prefect is named by the edits that it has: what its database recorded is added up, and compared with
what the runs have made by their own account. The page and the rows of the results are read.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.many_edits import EMBEDDED, write_dataset
from judging import summaries, wrong_results
from loopback import Place, ask_database, cluster, place
from support.report import Row, Stopwatch

from flows.cluster.database import figures_of
from flows.cluster.home import ClusterHome

EDITS, PER_IMAGE, PROCESSES, SHARDS = 10_000, 4, 8, 16
WAIT = 0.01
SUBMITTED_WITHIN = 60.0
FIRST = "edit-00000?"
"""Ten edits by which the others are cut into shards; without them, first guesses are taken."""
LARGEST = 40e6
"""Bytes of the database."""
COUNTED = re.compile(r"(?P<stage>\w+) of \S+( and (?P<more>\d+) more)?")


def rows(_seed: int) -> Iterator[Row]:
    with place(wait=WAIT) as at:
        job = write_dataset(at.folder / "job", EDITS, PER_IMAGE, EMBEDDED)
        yield spend_night(at, job, EDITS)


def spend_night(at: Place, job: Path, edits: int) -> Row:
    """Do a job on a cluster; look at everything that should be there afterwards."""
    clock = Stopwatch()
    out, keep = at.folder / "out", ["--store", at.folder / "store"]
    at.call("plan", job, *keep)
    planned = clock.seconds
    at.call("run", job, *keep, "--out", out, "--select", FIRST)
    before = made_by_runs(at)
    with cluster(at, PROCESSES):
        at_first, began = size_of_database(at), Stopwatch()
        submission = at.start(
            *["submit", job, *keep, "--out", out, "--watch", "--shards", SHARDS], log="submit"
        )
        while submission.poll() is None and "created" not in at.log("submit").read_text():
            time.sleep(0.2)
        submitted = began.seconds
        code = submission.wait()
        done = began.seconds
        size, recorded = size_of_database(at), recorded_work(at)
    made = made_by_runs(at) - before
    tasks = sum(recorded["tasks"].values())
    problems = [*wrong_results(out, edits)]
    problems += [f"submit --watch ended with {code}"] if code else []
    lacking = made.total() - recorded["items"].total()
    return Row(
        f"{edits:,} edits planned, submitted, done on {PROCESSES} processes by waiting stages",
        f"submitted in under {SUBMITTED_WITHIN:.0f} s, database under 40 MB, every task run "
        "recorded, page and summary right",
        f"submitted in {submitted:.0f} s; database {size / 1e6:.1f} MB; {lacking} of "
        f"{made.total():,} artifacts are of tasks that are not recorded; {len(problems)} wrong",
        submitted < SUBMITTED_WITHIN and size < LARGEST and not lacking and not problems,
        clock.seconds,
        f"the first `plan` took {planned:.0f} s; all was done {done:.0f} s after it was submitted; "
        f"{tasks:,} task runs; the database had {at_first / 1e6:.1f} MB when it was empty. "
        + "; ".join(problems[:5]),
    )


def made_by_runs(at: Place) -> Counter[str]:
    """Add up what runs have made, by their own account."""
    return sum((Counter(each["made"]) for each in summaries(at.folder / "store")), Counter())


def size_of_database(at: Place) -> int:
    secrets = ClusterHome(at.home).secrets
    assert secrets
    return figures_of(secrets.database_url.get_secret_value()).bytes


def recorded_work(at: Place) -> dict[str, Counter[str]]:
    """Add up the tasks that Prefect's server has recorded as completed, by stage."""
    found = {"tasks": Counter[str](), "items": Counter[str]()}
    for each in ask_database(at, "select name from task_run where state_type = 'COMPLETED'"):
        told = COUNTED.fullmatch(each["name"])
        assert told, each["name"]
        found["tasks"][told["stage"]] += 1
        found["items"][told["stage"]] += 1 + int(told["more"] or 0)
    return found
