"""Does a job's stages one by one against a store, and nothing else: no run, no tasks, no results.

python tests/scale/bare.py JOB STORE

What stages and the store load is loaded before the first one, so that they are timed without it.
"""

import importlib
import sys
from pathlib import Path

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from stages.jobs.reader import load_job
from stages.pipeline import STAGES
from stages.planning.plan import bring_up_to_date, plan_edits
from stages.planning.work import work_for
from stages.workbench import Workbench

LIBRARIES = ("torch", "zarr", "safetensors.numpy", "PIL.Image")


def perform(job: Path, location: Path) -> None:
    """Make what a job lacks."""
    store = ArtifactStore.open(location)
    bench, plans = Workbench(store, Runtime()), plan_edits(load_job(job).edits, store)
    for stage in STAGES:
        items, _ = work_for(stage, plans)
        for item in items:
            (record,) = bench.make([item])
            if isinstance(record, Exception):
                raise record
            bring_up_to_date(plans, stage, {item.key: record}, store)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    perform(*map(Path, sys.argv[1:]))
