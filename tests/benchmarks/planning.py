"""What it costs to find that there is nothing to do, beside another engine; and the store's share.

    PYTHONPATH=tests python tests/benchmarks/planning.py FOLDER docs/speed.md --snakemake PROGRAM

makes finished jobs in FOLDER (or uses those that are there), calls the commands in cold processes,
and writes the tables between the marks of the document. Without Snakemake its rows are left out;
`python -m venv VENV && VENV/bin/pip install snakemake` installs it. About a quarter of an hour with
`--sizes 1000 10000`; 100,000 edits take an hour more, since their report is written once.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from many_edits import fill, write_dataset
from marked_tables import written

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from stages.jobs.importers import import_dragscenes
from stages.jobs.reader import load_job
from stages.pipeline import STAGE_NAMES
from stages.workbench import Workbench

SIZES = {1_000: 1, 10_000: 1, 100_000: 20}
"""Number of edits, and of edits per image."""
REPEATS = 3
BESIDE = 1_000
"""Number of edits of the job that the other engine does too."""

SNAKEFILE = """
EDITS = [f"{number:06d}" for number in range(%d)]
EACH = {
    "train_lora": ["images/{edit}.png"],
    "invert_image": ["images/{edit}.png", "out/{edit}/train_lora"],
    "extract_superpixels": ["images/{edit}.png"],
    "build_mask": ["out/{edit}/extract_superpixels"],
    "optimize_latent": [
        f"out/{{edit}}/{name}"
        for name in ("train_lora", "invert_image", "extract_superpixels", "build_mask")
    ],
    "sample_image": [
        f"out/{{edit}}/{name}"
        for name in ("train_lora", "invert_image", "extract_superpixels", "optimize_latent")
    ],
    "locate_handles": ["images/{edit}.png", "out/{edit}/sample_image"],
}

rule all:
    input: expand("out/{edit}/locate_handles", edit=EDITS)
"""
RULE = """
rule {name}:
    input: EACH["{name}"]
    output: "out/{{edit}}/{name}"
    shell: "touch {{output}}"
"""


MEASURER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = time.perf_counter() - start
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(done.returncode)
"""
"""A small process in between, since a child's ru_maxrss is never below that of its parent."""


@dataclass(frozen=True)
class Cost:
    """The cost of a process: seconds of wall time and of CPU time, and peak memory in MiB."""

    wall: float
    cpu: float
    memory: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} | {self.cpu:.2f} | {self.memory:.0f}"


def cost_of(command: Sequence[str], folder: Path, cache: Path) -> Cost:
    """Run a command in its own process, which has to succeed."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    # Otherwise every process compiles all modules again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    measurer = [sys.executable, "-S", "-c", MEASURER, *command]
    done = subprocess.run(measurer, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return Cost(*json.loads(done.stdout))


def ours(job: Path, cache: Path) -> dict[str, Cost]:
    """Plan and run a finished job, first with an empty cache, then again."""
    places = ["job.toml", "--store", "store"]
    command = [sys.executable, "-c", "from cli import app; app()"]
    plan, run = [*command, "plan", *places], [*command, "run", *places, "--out", "out"]
    found = {"first `plan`": cost_of(plan, job.parent, cache)}
    found["`plan`"] = best(lambda: cost_of(plan, job.parent, cache))
    cost_of(run, job.parent, cache)  # writes the report
    found["`run`"] = best(lambda: cost_of(run, job.parent, cache))
    return found


def best(measure: Callable[[], Cost]) -> Cost:
    """Return the cheapest of some runs."""
    return min((measure() for _ in range(REPEATS)), key=lambda cost: cost.cpu)


def snakemakes(snakemake: Path, folder: Path, edits: int) -> dict[str, Cost]:
    """Let Snakemake find that there is nothing to do for the same graph of files."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    rules = "".join(RULE.format(name=name) for name in STAGE_NAMES)
    (folder / "Snakefile").write_text(SNAKEFILE % edits + rules)
    for number in range(edits):
        (folder / "images" / f"{number:06d}.png").touch()
        (folder / "out" / f"{number:06d}").mkdir(parents=True)
        for name in STAGE_NAMES:
            (folder / "out" / f"{number:06d}" / name).touch()
    cost_of([str(snakemake), "--cores", "1", "--touch"], folder, folder / "cache")
    dry, wet = ([str(snakemake), "--cores", "1", *flags] for flags in (["--dry-run"], []))
    return {
        "`snakemake --dry-run`": best(lambda: cost_of(dry, folder, folder / "cache")),
        "`snakemake`": best(lambda: cost_of(wet, folder, folder / "cache")),
    }


class Timed(ArtifactStore):
    """A store that adds up the time that its callers spend in it."""

    seconds = 0.0
    inside = False

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; public methods are timed."""
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def timed(*arguments: Any, **options: Any) -> Any:
            if self.inside:
                return found(*arguments, **options)
            start, self.inside = time.perf_counter(), True
            try:
                return found(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start
                self.inside = False

        return timed


def share_of_the_store(edits: int = 3) -> tuple[float, float]:
    """Make some edits with the pocket models; return all seconds, and those in the store."""
    with TemporaryDirectory() as folder:
        import_dragscenes(Path(folder) / "scenes", [(number, 0) for number in range(edits)])
        store = Timed.open(Path(folder) / "store")
        bench = Workbench(store, Runtime(threads=1))
        job = load_job(Path(folder) / "scenes" / "job.toml")
        start = time.perf_counter()
        for edit in job.edits:
            for stage in STAGE_NAMES:
                bench.perform(stage, edit)
        return time.perf_counter() - start, store.seconds


def finished_job(folder: Path, edits: int, per_image: int) -> tuple[Path, int]:
    """Return a finished job and the number of its artifacts, making it if it is not there."""
    noted = folder / "artifacts.json"
    if not noted.is_file():
        job = write_dataset(folder, edits, per_image)
        noted.write_text(json.dumps(fill(load_job(job).edits, folder / "store")))
    return folder / "job.toml", json.loads(noted.read_text())


def rows_of(name: str, edits: int, artifacts: int, costs: dict[str, Cost]) -> list[str]:
    """Return a row of the table for each command."""
    return [
        f"| {name} | {edits:,} | {artifacts:,} | {command} | {cost} |"
        for command, cost in costs.items()
    ]


def measured(folder: Path, sizes: Sequence[int], snakemake: Path | None) -> list[str]:
    """Return both tables."""
    rows = [
        "| engine | edits | artifacts | command | seconds | CPU seconds | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for edits in sizes:
        job, artifacts = finished_job(folder / str(edits), edits, SIZES[edits])
        with TemporaryDirectory() as cache:
            rows += rows_of("AdaptiveDrag", edits, artifacts, ours(job, Path(cache)))
    if snakemake:
        costs = snakemakes(snakemake.absolute(), folder / "snakemake", BESIDE)
        rows += rows_of("Snakemake", BESIDE, BESIDE * len(STAGE_NAMES), costs)
    total, inside = share_of_the_store()
    share = (
        f"Three edits with the pocket models took {total:.1f} s, {inside:.2f} s of which "
        f"({100 * inside / total:.2f} %) were spent in the store."
    )
    return [*rows, "", share]


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the tables into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("document", type=Path)
    parser.add_argument("--snakemake", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[*SIZES], choices=[*SIZES])
    options = parser.parse_args(arguments)
    rows = measured(options.folder, options.sizes, options.snakemake)
    options.document.write_text(written(options.document.read_text("utf-8"), rows), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
