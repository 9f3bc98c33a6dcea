"""Results taken away and back: seconds, peak memory and equal digests of a made-up job.

PYTHONPATH=tests python tests/benchmarks/exports.py FOLDER [EDITS]
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from many_edits import main as make_job

from artifacts import ArtifactStore
from stages.exporters import FORMATS, Limit, export_job
from stages.jobs.edit import Job
from stages.jobs.importers import import_folder
from stages.jobs.reader import load_job


def given(job: Job) -> list[tuple[object, ...]]:
    """Return what an edit is, for each edit of a job."""
    return [(e.id, e.image.digest, e.points, e.prompt, e.tags) for e in job.edits]


def export(folder: Path, form: str) -> None:
    """Write an export of shards of 20 MB."""
    job, store = load_job(folder / "job.toml"), ArtifactStore.open(folder / "store")
    limit = Limit(bytes=20 * 10**6)
    export_job(job, store, folder / f"out-{form}", form, limit=limit, votes={})


def take_back(folder: Path, form: str) -> None:
    """Import an export, and compare its edits with those of the job."""
    back = load_job(import_folder(folder / f"out-{form}", folder / f"back-{form}").job)
    assert given(back) == given(load_job(folder / "job.toml"))


STEPS = {"export": export, "again": export, "import": take_back}


def measured(step: str, folder: Path, form: str) -> tuple[float, float]:
    """Do a step in a process of its own; return its seconds, and its peak memory in MiB."""
    command = [sys.executable, __file__, "--step", step, str(folder), form]
    seconds, memory = subprocess.check_output(command, text=True).split()
    return float(seconds), float(memory)


def table(folder: Path, edits: int) -> Iterator[str]:
    """Make a job, and yield a line for each step of each format."""
    if not (folder / "job.toml").exists():
        yield from make_job([str(folder), str(edits)])
    for form in FORMATS:
        for place in ("out", "back"):
            shutil.rmtree(folder / f"{place}-{form}", ignore_errors=True)
        for step in STEPS:
            seconds, memory = measured(step, folder, form)
            yield f"{form:12} {step:8} {seconds:7.1f} s {memory:7.0f} MiB"


def do_step(step: str, folder: str, form: str) -> str:
    """Do a step in this process, and say what it took."""
    begun = time.monotonic()
    STEPS[step](Path(folder), form)
    status = Path("/proc/self/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)  # getrusage has that of the parent in it
    return f"{time.monotonic() - begun} {int(peak) / 1024}"


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        sys.stdout.write(do_step(*sys.argv[2:]) + "\n")
    else:
        for line in table(Path(sys.argv[1]), int((sys.argv[2:] or ["1000"])[0])):
            sys.stdout.write(line + "\n")
