"""Runs a job in this process: plans, does what is missing, reports.

A run in which everything is there starts neither Prefect nor torch.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from rich.console import Console

from artifacts import ArtifactStore, StoreUnavailable
from flows.outcomes import (
    INTERRUPTED,
    Failure,
    RunSummary,
    allowed_failures,
    chosen_stages,
    conclude,
    only_failed,
    record_run,
)
from flows.prefect_server import (
    PrefectUnavailable,
    client_settings,
    send_events,
    temporary_server,
)
from flows.time_limits import time_limits
from flows.watch import Watch, watch_over
from stages import STAGE_NAMES
from stages.jobs.edit import Job, select_edits
from stages.jobs.reader import load_job
from stages.planning.plan import EditPlan, plan_edits
from stages.reports.report import ReportUnwritable, check_out, write_report

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

LAST_WORD_SECONDS = 30.0
"""So long Prefect may take to end a run whose results are complete."""
HEARING_SECONDS = 0.5
"""So long a Ctrl-C may go unheard."""


@dataclass(frozen=True)
class Request:
    """What the flow is to do: everything but the job and the store."""

    stages: tuple[str, ...]
    device: str
    forced: tuple[str, ...]
    retry: bool
    allowed: int | None
    stage_timeout: float | None


def run(
    job: Job | Path,
    *,
    store_location: str | Path,
    out: Path,
    only: str | None = None,
    from_stage: str | None = None,
    select: str | None = None,
    retry_failed: bool = False,
    max_failures: str | int | None = None,
    fail_fast: bool = False,
    force: bool = False,
    stage_timeout: float | None = None,
    deadline: str | None = None,
    budget: str | None = None,
    device: str = "cpu",
    console: Console,
) -> RunSummary:
    """Do what is missing of a job, and write the report to `out`.

    Ctrl-C and SIGTERM end the run after the current step; the summary then says `interrupted`.

    Args:
        only: the one stage that may run.
        from_stage: the first stage that may run.
        select: a pattern of edit ids (with * and ?), or a tag.
        retry_failed: only the edits that failed, or were bad, in their latest run; also those
            that are quarantined.
        max_failures: stop once more edits fail than this count, or share such as "5%".
        fail_fast: stop at the first failure.
        force: do again what is there: of all stages, or of the one that `only` or `from_stage`
            names; what comes after that one is done where its bytes have changed.
        stage_timeout: seconds that a stage may take for one edit, which fails at its next step
            after that; what takes long without a step is not cut off.
        deadline: a time of day such as "07:00", at which the run stops after the current step.
        budget: a time such as "6h" or "1h30m", after which it does.

    Raises:
        InvalidRequest, InvalidEdit, StoreUnavailable, ModelUnavailable, PrefectUnavailable:
            nothing could start; the message is one line.
    """
    limits = time_limits(deadline, budget)
    stages, forced = chosen_stages(only, from_stage, force)
    found = job if isinstance(job, Job) else load_job(job)
    found = found if select is None else select_edits(found, select)
    check_out(found, out)
    store = ArtifactStore.open(store_location)
    if retry_failed:
        found = only_failed(store, found)
    allowed = allowed_failures(max_failures, fail_fast, len(found.edits))
    plans = plan_edits(found.edits, store)
    watch = watch_over(
        found,
        store,
        stages,
        forced=forced,
        retry=retry_failed,
        console=console,
        out=out,
        limits=limits,
        plans=plans,
    )
    if not watch.todo:
        summary = _nothing_to_do(found, store, watch, plans)
        return _reported(summary, found, store, out, plans)
    del plans  # the work makes them untrue
    request = Request(stages, device, forced, retry_failed, allowed, stage_timeout)
    summary = _run_flow(found, store, request, watch, console)
    return _reported(summary, found, store, out)


class Ending(Protocol):
    """What a command says about how this process should end."""

    @property
    def exit_code(self) -> int: ...

    @property
    def prefect_is_silent(self) -> bool: ...


def end_process(summary: Ending) -> NoReturn:
    """End this process with the summary's exit code; at once if Prefect would not let it go."""
    if summary.prefect_is_silent:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(summary.exit_code)
    sys.exit(summary.exit_code)


def _reported(
    summary: RunSummary,
    job: Job,
    store: ArtifactStore,
    out: Path,
    plans: Sequence[EditPlan] | None = None,
) -> RunSummary:
    """Write the report; where that fails, the run counts as stopped early."""
    try:
        page, damaged = write_report(job, store, summary, out, plans=plans)
    except (ReportUnwritable, StoreUnavailable) as error:
        return replace(summary, stopped=summary.stopped or str(error))
    except KeyboardInterrupt:
        return replace(summary, interrupted=True)
    failures = (
        Failure(name, STAGE_NAMES[-1], "ArtifactCorrupt", damaged[name]) for name in damaged
    )
    return replace(
        summary,
        report=page,
        done=tuple(name for name in summary.done if name not in damaged),
        failed=(*summary.failed, *failures),
    )


def _nothing_to_do(
    job: Job, store: ArtifactStore, watch: Watch, plans: Sequence[EditPlan]
) -> RunSummary:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    summary = RunSummary(watch.run_id, job.name, str(job.path), now, bad=job.bad)
    summary = conclude(summary, job.edits, store, 0.0, plans)
    record_run(store, summary)
    return summary


def _run_flow(
    job: Job, store: ArtifactStore, request: Request, watch: Watch, console: Console
) -> RunSummary:
    """Run the flow against the user's Prefect server, or a temporary one of ours."""
    clock, silent = time.monotonic(), False
    try:
        with temporary_server() as server:
            # What takes seconds to import, while the server starts.
            from flows.edit_dataset import watched

            server.wait_until_ready()
            with client_settings(server), watched(watch, job), _stopping(watch, console):
                silent = _call_flow(job, store, request, watch)
    except KeyboardInterrupt:
        watch.stop.ask()
    if watch.summary is None:
        watch.summary = _interrupted(job, watch)
    if silent:
        console.print("The Prefect server does not answer any more; the results are complete.")
    seconds = round(time.monotonic() - clock, 3)
    return replace(watch.summary, seconds=seconds, prefect_is_silent=silent)


def _call_flow(job: Job, store: ArtifactStore, request: Request, watch: Watch) -> bool:
    """Call the flow in a thread, so that this one is free for signals and for a deadline.

    Returns:
        Whether Prefect could not say its last word in time.
    """
    failures: list[BaseException] = []

    def call() -> None:
        from flows.edit_dataset import edit_dataset

        try:
            state: State[Any] = edit_dataset.with_options(flow_run_name=job.name)(
                str(job.path),
                store.location,
                stages=list(request.stages),
                device=request.device,
                forced=list(request.forced),
                retry=request.retry,
                max_failures=request.allowed,
                stage_timeout=request.stage_timeout,
                return_state=True,
            )
            if not watch.finished.is_set():
                state.result()
        except BaseException as error:
            failures.append(error)
        finally:
            watch.finished.set()

    with watch.progress:
        thread = threading.Thread(target=copy_context().run, args=(call,), daemon=True)
        thread.start()
        # The system may hand a signal to any thread, and Python hears it in this one, once awake.
        while not watch.finished.wait(HEARING_SECONDS):
            pass
    deadline = time.monotonic() + LAST_WORD_SECONDS
    thread.join(LAST_WORD_SECONDS)
    all_sent = send_events(max(1.0, deadline - time.monotonic()))
    if failures and watch.summary is None:
        raise PrefectUnavailable(f"Prefect could not run the flow: {failures[0]}") from failures[0]
    return thread.is_alive() or not all_sent


@contextmanager
def _stopping(watch: Watch, console: Console) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop, and a second one into an end.

    That end is like a kill: a stage may be in a long call that nothing can interrupt. What is
    published stays, the rest goes on from its last checkpoint, and the server ends by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if watch.stop.asked:
            console.show_cursor(True)
            os._exit(INTERRUPTED)
        watch.stop.ask()
        console.print("Stopping after the current step; Ctrl-C again stops at once.")

    signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, ask) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupted(job: Job, watch: Watch) -> RunSummary:
    """Return the summary of a run that was stopped before its flow could write one."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ids = tuple(edit.id for edit in job.edits)
    return RunSummary(
        watch.run_id, job.name, str(job.path), now, bad=job.bad, unfinished=ids, interrupted=True
    )
