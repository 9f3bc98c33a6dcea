"""Handing work to workers, and being one."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptivedrag.devices import visible_gpu
from flows.outcomes import ALL_DONE, INTERRUPTED, InvalidRequest
from flows.prefect_settings import load_prefect
from flows.request import RunRequest
from flows.terminal.cluster import name_cluster
from flows.terminal.console import say
from flows.terminal.jobs import load, usual_out
from flows.terminal.run import say_summary
from flows.terminal.status import watch_status
from stages.jobs.edit import Job
from stages.jobs.selection import Selection, select_edits
from stages.reports.wording import count

if TYPE_CHECKING:
    from flows.workers.submission import Submission

COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


def deploy_flow(pool: str) -> None:
    """Register the flow with a work pool, and print how to start a worker."""
    name_cluster()
    load_prefect()
    from flows.workers.deployment import deploy

    name = deploy(pool)
    say(f"Deployed {name}. Start a worker with: adaptivedrag worker --pool {pool}")


def submit_job(
    path: Path,
    store: str,
    request: RunRequest,
    select: Selection,
    shards: int,
    pool: str,
    out: str | None,
    *,
    watched: bool,
) -> int:
    """Create the flow runs of what is missing of a job, and list their ids.

    Args:
        watched: whether to follow the job to its end.

    Returns:
        The exit code: with `watched` that of `run`, else 0.
    """
    name_cluster()
    load_prefect()
    from flows.workers.submission import submit

    job = load(path, beside=request.beside)
    request = request.model_copy(update={"out": out or usual_out(job, request.beside)})
    made = submit(job, store, request, select=select, shards=shards, pool=pool)
    _say_submission(made)
    if watched:
        return _follow(made, select_edits(job, select), pool, select)
    if job.variants:
        say("When they are done, `adaptivedrag compare` shows the variants side by side")
    return ALL_DONE


def _say_submission(made: "Submission") -> None:
    if made.at_hand:
        say(f"{count(made.at_hand, 'edit')} of this job wait or are at work already")
    if made.created:
        say(f"{count(len(made.created), 'flow run')} created, with {count(made.edits, 'edit')}")
    elif not made.at_hand:
        say("Nothing to submit: every edit is done or quarantined")
    for name in made.created:
        say(f"  {name}")
    if made.fault and (made.created or made.at_hand):
        say(f"No worker takes them now: {made.fault}")


def _follow(made: "Submission", job: Job, pool: str, select: Selection) -> int:
    """Follow a job to its end; return the exit code of a run that ended like that."""
    from flows.workers.following import following

    with following(made, pool, say) as followed:
        try:
            watch_status(job, made.run.store.location, followed.is_over)
        except KeyboardInterrupt:
            say("The workers go on; the same command follows the job again")
            return INTERRUPTED
        summary = followed.summary(select)
    say_summary(summary)
    return summary.exit_code


def run_worker(
    pool: str, gpus: str | None, processes: int | None, metrics: str | None = None
) -> int:
    """Do shards until somebody ends this process; return its exit code.

    Args:
        gpus: numbers, such as "0,1"; all by default.
        processes: how many; by default one per GPU, or one where there is none.
        metrics: where Prometheus may ask, such as "127.0.0.1:9100".
    """
    places = places_of(gpus, processes)
    name_cluster()
    load_prefect()
    from flows.workers.worker import serve_pool

    return serve_pool(pool, places, say, metrics)


def places_of(gpus: str | None, processes: int | None) -> list[Mapping[str, str]]:
    """Return what each process of a worker has in its environment.

    Raises:
        InvalidRequest: if GPUs cannot be read, or both are given.
    """
    if gpus is not None and processes is not None:
        raise InvalidRequest("--gpus and --processes exclude each other: one process runs per GPU")
    if processes is not None:
        return [{}] * processes
    names = _gpus_here() if gpus is None else _numbers(gpus)
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names] or [{}]


def _numbers(gpus: str) -> list[str]:
    names = [name.strip() for name in gpus.split(",")]
    if not all(name.isdecimal() for name in names) or len(set(names)) < len(names):
        raise InvalidRequest(f"--gpus {gpus!r} cannot be read: write it as 0,1")
    return names


def _gpus_here() -> list[str]:
    """Return what this machine calls the GPUs that this process may use.

    Torch, which counts them, is loaded in a process of its own.
    """
    asked = subprocess.run(
        [sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False
    )
    return [visible_gpu(number) for number in range(int(asked.stdout or 0))]
