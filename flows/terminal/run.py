"""Running jobs: `run`, `demo`, and the report of what is done."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from artifacts import ArtifactStore
from flows.notify import Notices
from flows.outcomes import ALL_DONE, BUG, SOME_FAILED, InvalidRequest, RunSummary
from flows.request import RunRequest
from flows.run_job import end_process, run
from flows.terminal.arguments import parse_settings
from flows.terminal.compare import compare_variants
from flows.terminal.console import console, say, say_list, step_bar
from flows.terminal.errors import code_of
from flows.terminal.jobs import (
    PATIENCE,
    bad_lines,
    cause_lines,
    first_lines,
    lines_of,
    load,
    note_inputs,
    note_pocket,
    usual_out,
)
from flows.time_limits import seconds_of
from flows.web.results_site import results_site, usual_port
from flows.web.serving import serve
from stages.jobs.edit import Job
from stages.jobs.reader import load_job
from stages.jobs.selection import Selection, select_edits
from stages.planning.plan import plan_edits
from stages.reports.edit_page import FEW, write_edit_pages
from stages.reports.place import writing
from stages.reports.results import Results

if TYPE_CHECKING:
    from stages.jobs.demo import DemoJob


def request_of(
    stage_timeout: str | None = None, settings: Sequence[str] = (), **options: Any
) -> RunRequest:
    """Make a request from options as they were typed; see `RunRequest.of`.

    Raises:
        InvalidRequest, InvalidEdit: if one has no meaning.
    """
    seconds = None if stage_timeout is None else seconds_of("--stage-timeout", stage_timeout)
    beside = parse_settings({}, settings)
    return RunRequest.of(stage_timeout=seconds, beside=beside, **options)


def run_job(
    path: Path,
    store: str,
    request: RunRequest,
    select: Selection,
    out: str | None,
    notify: str | None = None,
    on_finish: str | None = None,
    events: Path | None = None,
    dask: str | None = None,
) -> NoReturn:
    """Make what is missing of a job, print what became of it, and end the process.

    Args:
        notify: address of a webhook that hears of the first failure and of the end.
        on_finish: shell command that is run at the end.
        events: file to which events are appended.
        dask: address of a scheduler whose workers do the work.
    """
    if dask is not None and (events or request.shard):
        raise InvalidRequest("--dask excludes --shard and --events: give one of them")
    notices = Notices(notify, on_finish, say)
    job = load(path, beside=request.beside)
    chosen = select_edits(job, select)
    note_inputs(chosen)
    note_pocket(chosen)
    out = out or usual_out(job, request.beside)
    end_process(_run(job, store, request, out, select, notices, events, dask))


def write_demo_job(out: Path) -> "DemoJob":
    """Write the demo's job below a folder, and print where it is."""
    from stages.jobs.demo import write_demo

    with writing(out):
        written = write_demo(out / "inputs")
    say(f"Job: {written.path}")
    return written


def run_demo(out: Path, store: str, device: str) -> NoReturn:
    """Run the demo, and draw a panel with the true result of each edit."""
    written = write_demo_job(out)
    job = load_job(written.path)
    summary = _run(job, store, RunRequest(device=device), str(out))
    if summary.exit_code in (ALL_DONE, SOME_FAILED):
        with writing(out):
            panels = _write_panels(job, store, out / "panels", written.truths)
        say(f"Image, mask, paths, result and truth of each edit: {panels}")
    end_process(summary)


def write_job_report(
    path: Path,
    out: str | None,
    store: str,
    select: Selection = (),
    settings: Sequence[str] = (),
    *,
    edits: bool = False,
    is_served: bool = False,
    port: int | None = None,
) -> int:
    """Write the page, table and pictures of what is done of a job; print the path of its page.

    Args:
        settings: of a variant that the job's file does not have.
        edits: whether to write the pages of the selected edits; those of a small job always are.
        is_served: whether to serve the page then, until the user interrupts it.
        port: where; None for one that is this folder's own, or any that is free.

    Raises:
        InvalidRequest: for a selection without `edits`, for which alone it is.
    """
    if select and not edits:
        raise InvalidRequest("--select chooses the edits whose pages --edits writes: add --edits")
    beside = parse_settings({}, settings)
    job, opened = load(path, beside=beside), ArtifactStore.open(store, create=False)
    chosen = {edit.id for edit in select_edits(job, select).edits}
    results = Results.open(job, opened, out or usual_out(job, beside))
    plans = plan_edits(job.edits, opened)
    failures = [failure for plan in plans if (failure := plan.last_failure)]
    damaged = results.finish(plans, failures, scored=True)
    say_list("Damaged", [f"{name}: {reason}" for name, reason in damaged.items()])
    say_list("No longer on the page, since the job has no such edit", first_lines(results.gone))
    if edits or len(job.order) <= FEW:
        wanted = [plan for plan in plans if plan.edit.id in chosen]
        with step_bar("Writing pages of edits", console(stderr=True), after=PATIENCE) as advance:
            written = write_edit_pages(results, wanted, renew=edits, on_page=advance)
        if edits:
            say(f"Pages of edits written: {len(written)}")
    say(f"Report: {results.page}")
    if is_served:
        serve(results_site(results.place), port, say, usual=usual_port(results.place))
    return SOME_FAILED if damaged else ALL_DONE


def _run(
    job: Job,
    store: str,
    request: RunRequest,
    out: str,
    select: Selection = (),
    notices: Notices | None = None,
    events: Path | None = None,
    dask: str | None = None,
) -> RunSummary:
    request, notices = request.model_copy(update={"out": out}), notices or Notices(None, None, say)
    try:
        summary = _performer(dask, events)(
            job,
            store,
            request,
            select=select,
            console=console(),
            on_first_failure=notices.first_failure,
        )
    except (Exception, KeyboardInterrupt) as error:
        code = code_of(error)
        notices.end(RunSummary.not_run(job, error), BUG if code is None else code)
        raise
    say_summary(summary)
    try:
        if job.variants and request.shard:
            say("When all parts are done, `adaptivedrag compare` shows the variants side by side")
        elif job.variants and summary.exit_code in (ALL_DONE, SOME_FAILED):
            compare_variants(select_edits(job, select), out, store)
    finally:
        notices.end(summary, summary.exit_code)
    return summary


def _performer(dask: str | None, events: Path | None) -> Callable[..., RunSummary]:
    """Return what does a run: this process, or the workers of a Dask scheduler."""
    if dask is None:
        return partial(run, events=events)
    from flows.workers.on_dask import run_on_dask

    return partial(run_on_dask, address=dask)


def say_summary(summary: RunSummary) -> None:
    """Print what became of a run: warnings, failures, measures against short memory, verdicts."""
    say_list("Warnings", first_lines(lines_of(summary.warnings)))
    say_list("Failed", [*cause_lines(summary.failed), *bad_lines(summary.bad)])
    savings = summary.memory_saved_by.items()
    lines = [f"{stage}: {', '.join(measures)}" for stage, measures in savings]
    say_list("Memory was short; these measures helped", lines)
    if summary.verdicts:
        found = (f"{number} {verdict}" for verdict, number in sorted(summary.verdicts.items()))
        say(f"By the witness: {', '.join(found)}")
    if summary.stopped:
        say(f"Stopped early: {summary.stopped}")
    say(f"{summary.job}: {summary}")
    if summary.report:
        say(f"Report: {summary.report}")


def _write_panels(job: Job, store: str, folder: Path, truths: Mapping[str, Path]) -> Path:
    from stages.reports.panel import write_panel

    opened = ArtifactStore.open(store)
    for edit in job.edits:
        write_panel(edit, opened, folder / f"{edit.id}.png", truth=truths.get(edit.id))
    return folder
