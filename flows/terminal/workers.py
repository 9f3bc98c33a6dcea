"""Handing work to Prefect workers."""

from pathlib import Path

from flows.deployment import deploy, submit
from flows.terminal.console import say
from flows.terminal.run import RunOptions
from stages.reports.wording import count


def deploy_flow(pool: str) -> None:
    """Register the flow with a work pool, and print how to start a worker."""
    name = deploy(pool)
    say(f"Deployed {name}. Start a worker with: prefect worker start --pool {pool} --limit 1")


def submit_job(
    path: Path, options: RunOptions, max_failures: int | None, shards: int, store: str
) -> None:
    """Create the flow runs of what is missing of a job, and list their ids."""
    runs = submit(
        path,
        store_location=store,
        shards=shards,
        only=options.only,
        from_stage=options.from_stage,
        select=options.select,
        retry_failed=options.retry_failed,
        force=options.force,
        device=options.device,
        max_failures=max_failures,
        stage_timeout=options.stage_seconds,
    )
    nothing = "Nothing to submit: every edit is done or quarantined"
    say(f"{count(len(runs), 'flow run')} created" if runs else nothing)
    for name in runs:
        say(f"  {name}")
