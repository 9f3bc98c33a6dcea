"""Handing work to Prefect workers."""

from pathlib import Path

from flows.prefect_settings import load_prefect
from flows.request import RunRequest
from flows.terminal.console import say
from flows.terminal.jobs import load, usual_out
from stages.jobs.selection import Selection
from stages.reports.wording import count


def deploy_flow(pool: str) -> None:
    """Register the flow with a work pool, and print how to start a worker."""
    load_prefect()
    from flows.deployment import deploy

    name = deploy(pool)
    say(f"Deployed {name}. Start a worker with: prefect worker start --pool {pool} --limit 1")


def submit_job(
    path: Path,
    store: str,
    request: RunRequest,
    select: Selection,
    shards: int,
    out: str | None,
) -> None:
    """Create the flow runs of what is missing of a job, and list their ids."""
    load_prefect()
    from flows.deployment import submit

    job = load(path, beside=request.beside)
    request = request.model_copy(update={"out": out or usual_out(job, request.beside)})
    runs = submit(job, store, request, select=select, shards=shards)
    nothing = "Nothing to submit: every edit is done or quarantined"
    say(f"{count(len(runs), 'flow run')} created" if runs else nothing)
    for name in runs:
        say(f"  {name}")
    if job.variants:
        say("When they are done, `adaptivedrag compare` shows the variants side by side")
