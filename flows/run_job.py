"""Runs a job in this process: plans, does what is missing, reports.

A run in which everything is there starts neither Prefect nor torch. One of few edits, or of a part
of a job, does the same work as the flow without Prefect: it lacks a page of the flow run, and the
record of its tasks.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from rich.console import Console

from flows.beat import beating
from flows.dispatch import carry_out
from flows.events import Events, check_appendable
from flows.outcomes import RunSummary
from flows.prefect_server import (
    client_settings,
    send_events,
    temporary_server,
)
from flows.prefect_settings import PrefectUnavailable, configured_api_url
from flows.request import RunRequest
from flows.run import Run
from flows.signals import stopping
from stages.jobs.edit import Job
from stages.jobs.selection import Selection

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

FEW_EDITS = 20
"""A run with less to do needs no server of its own: Prefect takes longer to start than to help."""
LAST_WORD_SECONDS = 30.0
"""How long Prefect may take to end a run whose results are complete."""
HEARING_SECONDS = 0.5
"""How long a Ctrl-C may go unheard."""


def run(
    job: Job | Path,
    store: str | Path,
    request: RunRequest,
    *,
    select: Selection = (),
    console: Console,
    events: Path | None = None,
    on_first_failure: Callable[[RunSummary], object] = lambda _summary: None,
) -> RunSummary:
    """Do what is missing of a job; results are written as soon as each edit is done.

    Ctrl-C and SIGTERM end the run after the current step; the summary then says `interrupted`.

    Args:
        select: which edits; all by default. See `select_edits`.
        events: file to which what happens is appended, a line of JSON each.
        on_first_failure: called at once when the first edit fails, with how the run stands.

    Raises:
        InvalidRequest, InvalidEdit, StoreUnavailable, ModelUnavailable, UnsupportedModel,
        NotReady, ReportUnwritable, PrefectUnavailable: nothing could start; the message is one
        line.
    """
    if events is not None:
        check_appendable(events)
    run = Run.open(job, store, request, select=select, console=console)
    run.on_first_failure = on_first_failure
    if events is not None:
        run.events = Events(events, run.id, run.progress.say)
    if not run.todo:
        run.events.began(run.job.path, request.device, edits=0)
        run.record()
        return run.report()
    run.check_ready()
    is_small = run.is_shard or (len(run.edits) < FEW_EDITS and configured_api_url() is None)
    with beating(run.store, run.id):
        silent = _run_alone(run, console) if is_small else _run_flow(run, console)
        return replace(run.report(), prefect_is_silent=silent)


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


def _run_alone(run: Run, console: Console) -> bool:
    """Do the work without Prefect, which is never what keeps this process from ending."""
    from flows.chunks import do_patiently

    with stopping(run, console):
        _at_work(run, partial(carry_out, run, partial(do_patiently, run))).join()
    return False


def _run_flow(run: Run, console: Console) -> bool:
    """Run the flow against the user's Prefect server, or a temporary one of ours.

    Returns:
        Whether Prefect could not say its last word in time.
    """
    silent = False
    try:
        with temporary_server() as server:
            # What takes seconds to import and to load, while the server starts.
            from flows.chunks import bench_of
            from flows.edit_dataset import at_hand

            first = run.edits[0].id
            stages = [stage for stage, ids in run.waiting.items() if first in ids]
            bench_of(run.store, run.request).load_models(run.plans[first], stages)
            server.wait_until_ready()
            with client_settings(server), at_hand(run), stopping(run, console):
                silent = _call_flow(run)
    except KeyboardInterrupt:
        run.stop.ask()
        run.stop_early("interrupted", interrupted=True)
    if silent:
        console.print("The Prefect server does not answer any more; the results are complete.")
    return silent


def _call_flow(run: Run) -> bool:
    """Call the flow in a thread, so that this one is free for signals and for a deadline.

    Returns:
        Whether Prefect could not say its last word in time.
    """
    failures: list[BaseException] = []

    def call() -> None:
        from flows.edit_dataset import edit_dataset

        try:
            state: State[Any] = edit_dataset.with_options(flow_run_name=run.job.name)(
                str(run.job.path),
                run.store.location,
                run.request.model_dump(mode="json"),
                return_state=True,
            )
            if not run.finished.is_set():
                state.result()
        except BaseException as error:
            failures.append(error)

    thread = _at_work(run, call)
    deadline = time.monotonic() + LAST_WORD_SECONDS
    thread.join(LAST_WORD_SECONDS)
    all_sent = send_events(max(1.0, deadline - time.monotonic()))
    if failures and not run.finished.is_set():
        raise PrefectUnavailable(f"Prefect could not run the flow: {failures[0]}") from failures[0]
    return thread.is_alive() or not all_sent


def _at_work(run: Run, work: Callable[[], object]) -> threading.Thread:
    """Do the work of a run in a thread; return it when the work is over.

    The system may hand a signal to any thread, and Python hears it in this one, once awake.
    """
    with run.progress:
        thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
        thread.start()
        while thread.is_alive() and not run.finished.wait(HEARING_SECONDS):
            pass
    return thread
