"""Fixtures of the flows: tiny jobs on a tiny model, run here or in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from support.tiny_job import write_job

from flows.request import RunRequest
from flows.run_job import run
from stages.jobs.edit import Job
from stages.jobs.selection import Selection
from stages.pipeline import STAGE_NAMES

ROOT = Path(__file__).parent.parent.parent

RUN = """
import json, sys
from pathlib import Path
from rich.console import Console
import flows.run_job
from flows.request import RunRequest
from flows.run_job import end_process, run
flows.run_job.LAST_WORD_SECONDS = 3.0
folder = Path(sys.argv[1])
request = RunRequest(out=str(folder / "out"), **json.loads(sys.argv[2]))
summary = run(folder / "job.toml", folder / "store", request, console=Console())
print([name for name in ("torch", "prefect") if name in sys.modules])
end_process(summary)
"""

MakeJob = Callable[..., Path]
StartRun = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def make_job(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    """Write a new job into a folder of its own: `make_job(images=2, each=3, **settings)`."""
    return lambda **what: write_job(
        tmp_path_factory.mktemp("job") / "folder", tiny_model_directory, **what
    )


@pytest.fixture
def run_here() -> Callable:
    """Run a job in this process, with its store beside it.

    A small one without Prefect, unless the test also asks for `users_server`.
    """

    def run_job(job: Job | Path, store: Path | None = None, select: Selection = (), **options):
        folder = (job if isinstance(job, Path) else job.path).parent
        request = RunRequest.of(**{"out": str(folder / "out")} | options)
        quiet = Console(quiet=True)
        return run(job, store or folder / "store", request, select=select, console=quiet)

    return run_job


@pytest.fixture
def start_run() -> StartRun:
    """Start the run of a job in a process of its own: if it is large, with a server of its own.

    `before` is code that this process runs first, in an environment with other variables if wanted.
    """

    def start(
        job: Path, before: str = "", stages: Sequence[str] = STAGE_NAMES, **environment: str
    ) -> "subprocess.Popen[str]":
        named = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        return subprocess.Popen(
            [
                *(sys.executable, "-c", f"{before}\n{RUN}", str(job.parent)),
                json.dumps({"stages": stages}),
            ],
            cwd=ROOT,
            env=named | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
