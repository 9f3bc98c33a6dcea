"""Running jobs: `run`, `demo`, and the report of what is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from artifacts import ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, RunSummary
from flows.run_job import end_process, run
from flows.terminal.console import console, say, say_list
from flows.terminal.jobs import load, note_inputs, note_pocket
from flows.time_limits import seconds_of
from stages.jobs.demo import write_demo
from stages.jobs.edit import Job
from stages.jobs.reader import load_job
from stages.reports.panel import write_panel
from stages.reports.report import write_report, writing


@dataclass(frozen=True)
class RunOptions:
    """What `run` and `submit` may be asked, as it was typed."""

    only: str | None = None
    from_stage: str | None = None
    select: str | None = None
    retry_failed: bool = False
    force: bool = False
    stage_timeout: str | None = None
    device: str = "cpu"

    @property
    def stage_seconds(self) -> int | None:
        """Seconds that a stage may take for an edit."""
        text = self.stage_timeout
        return None if text is None else seconds_of("--stage-timeout", text)


def run_job(
    path: Path,
    options: RunOptions,
    max_failures: str | None,
    deadline: str | None,
    budget: str | None,
    store: str,
    out: Path | None,
) -> NoReturn:
    """Make what is missing of a job, print what became of it, and end the process."""
    job = load(path)
    note_inputs(job)
    note_pocket(job)
    out = out or Path("results") / job.name
    end_process(_run(job, options, store, out, max_failures, deadline, budget))


def run_demo(out: Path, store: str, device: str) -> NoReturn:
    """Run the demo, and draw a panel with the true result of each edit."""
    with writing(out):
        written = write_demo(out / "inputs")
    job = load_job(written.path)
    summary = _run(job, RunOptions(device=device), store, out)
    if summary.exit_code in (ALL_DONE, SOME_FAILED):
        with writing(out):
            panels = _write_panels(job, store, out / "panels", written.truths)
        say(f"Image, mask, paths, result and truth of each edit: {panels}")
    end_process(summary)


def write_job_report(path: Path, out: Path | None, store: str) -> None:
    """Write the report of a job, and print the path of its page."""
    job = load(path)
    written = write_report(
        job,
        ArtifactStore.open(store, create=False),
        RunSummary("", job.name, str(job.path), ""),
        out or Path("results") / job.name,
    )
    say(f"Report: {written.page}")


def _run(
    job: Job,
    options: RunOptions,
    store: str,
    out: Path,
    max_failures: str | None = None,
    deadline: str | None = None,
    budget: str | None = None,
) -> RunSummary:
    summary = run(
        job,
        store_location=store,
        out=out,
        only=options.only,
        from_stage=options.from_stage,
        select=options.select,
        retry_failed=options.retry_failed,
        max_failures=max_failures,
        force=options.force,
        stage_timeout=options.stage_seconds,
        deadline=deadline,
        budget=budget,
        device=options.device,
        console=console(),
    )
    say_summary(summary)
    return summary


def say_summary(summary: RunSummary) -> None:
    """Print what became of a run: failures, what was done where memory was short, counts."""
    say_list("Failed", [*map(str, summary.failed), *map(str, summary.bad)])
    savings = summary.memory_saved_by.items()
    lines = [f"{stage}: {', '.join(measures)}" for stage, measures in savings]
    say_list("Memory was short; these measures helped", lines)
    if summary.stopped:
        say(f"Stopped early: {summary.stopped}")
    say(f"{summary.job}: {summary}")
    if summary.report:
        say(f"Report: {summary.report}")


def _write_panels(job: Job, store: str, folder: Path, truths: Mapping[str, Path]) -> Path:
    opened = ArtifactStore.open(store)
    for edit in job.edits:
        write_panel(edit, opened, folder / f"{edit.id}.png", truth=truths.get(edit.id))
    return folder
