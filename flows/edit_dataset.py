"""The flow: many edits through the stages, one task per chunk of a stage.

The same flow does a whole job in the process of `run`, and a shard of one on a Prefect worker.
Prefect runs, retries and shows; what is done, what failed and why is read from our store and
written there. Ids are all that passes between tasks.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from adaptivedrag.config import Runtime
from artifacts import ArtifactError, ArtifactStore, Key, StoreUnavailable
from flows.dispatch import Dispatch
from flows.outcomes import (
    Failure,
    Made,
    RunSummary,
    conclude,
    fatal_edits,
    note_at_work,
    record_run,
)
from flows.watch import Interrupted, StoppedEarly, Watch, watch_over
from stages import STAGE_NAMES
from stages.failures import Attempt, Policy, StageTimedOut, policy_of
from stages.jobs.edit import Edit, Job
from stages.jobs.reader import load_job
from stages.planning.plan import WorkItem
from stages.workbench import Workbench

logger = logging.getLogger(__name__)

RETRY_SECONDS = [1.0, 5.0, 20.0]
PAGE_SECONDS = 2.0
ANSWER_SECONDS = 5.0
ROWS_SHOWN = 200


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)
_lock = threading.Lock()
_benches: dict[tuple[str, str], Workbench] = {}
_jobs: dict[str, Job] = {}


@contextmanager
def watched(watch: Watch, job: Job) -> Iterator[None]:
    """Let flows that are called in this block report to `watch`, and use `job` as it is here."""
    path = str(job.path)
    token = _watch.set(watch)
    _jobs[path] = job
    try:
        yield
    finally:
        _watch.reset(token)
        del _jobs[path]


def bench_of(store: str, device: str) -> Workbench:
    """Return this process's bench for a store and a device; models are loaded once."""
    with _lock:
        if (store, device) not in _benches:
            _benches.clear()  # one at a time: two sets of models may not fit
            opened = ArtifactStore.open(store)
            _benches[store, device] = Workbench(opened, Runtime(device=device))
        return _benches[store, device]


def job_at(path: str) -> Job:
    """Return the job at hand in this process, or read it."""
    with _lock:
        if path not in _jobs:
            _jobs[path] = load_job(Path(path))
        return _jobs[path]


def _may_pass(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Retry when the store did not answer; never when an edit failed."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and policy_of(error) is Policy.RETRY


def _chunk_name(parameters: dict[str, Any]) -> str:
    first, *others = parameters["edit_ids"]
    return f"{parameters['stage']} of {first}" + (f" and {len(others)} more" if others else "")


@task(
    task_run_name=_chunk_name,  # type: ignore[arg-type]
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def perform_chunk(
    job: str,
    store: str,
    stage: str,
    edit_ids: list[str],
    keys: list[str],
    device: str,
    force: bool,
    allowed: int | None,
    stage_timeout: float | None,
) -> list[Made]:
    """Perform a stage for some edits, one after the other; those that are there are not redone.

    A time limit is looked at after each step of a stage. What goes on for long without a step, such
    as loading a model or all of `extract_superpixels`, is not cut off.

    Args:
        keys: the key of each edit's artifact, under which a failure is kept.
        allowed: stop once more than so many of them have failed.
        stage_timeout: seconds that the stage may take for one edit.

    Returns:
        What became of each, in order, up to where the chunk was stopped.

    Raises:
        StoreUnavailable: if the store does not work; the task is tried again.
    """
    watch = _watch.get()
    outcomes: list[Made] = []
    edits = {edit.id: edit for edit in job_at(job).edits}
    for edit_id, key in zip(edit_ids, keys, strict=True):
        try:
            made = _perform_item(
                bench_of(store, device),
                stage,
                edits[edit_id],
                Key(key),
                force,
                watch,
                stage_timeout,
            )
        except StoppedEarly:
            break
        outcomes.append(made)
        if allowed is not None and sum(made.failure is not None for made in outcomes) > allowed:
            break
    return outcomes


def _perform_item(
    bench: Workbench,
    stage: str,
    edit: Edit,
    key: Key,
    force: bool,
    watch: Watch | None,
    stage_timeout: float | None,
) -> Made:
    started = time.perf_counter()

    def on_step(step: int, steps: int) -> None:
        if watch:
            watch.stop.check()
            watch.progress.stepped(stage, edit.id, step, steps)
        seconds = time.perf_counter() - started
        if stage_timeout is not None and seconds > stage_timeout:
            raise StageTimedOut(
                f"edit {edit.id}: {stage} took {seconds:.1f} s up to step {step} of {steps}, and "
                f"--stage-timeout allows {stage_timeout:g} s: it goes on from its last checkpoint "
                "if it is run again with a longer one"
            )

    failure: Failure | None = None
    saved_by: tuple[str, ...] = ()
    try:
        on_step(0, 1)
        if watch:
            note_at_work(bench.store, watch.run_id, watch.path, edit.id, stage)
        record = bench.perform(stage, edit, force=force, on_step=on_step)
        saved_by = record.circumstances.memory_saved_by
    except StoppedEarly:
        raise
    except Exception as error:
        if policy_of(error) is Policy.RETRY:
            raise
        failure = _kept_failure(bench.store, stage, edit.id, key, error)
    seconds = round(time.perf_counter() - started, 3)
    return Made(stage, key, edit.id, seconds, failure, saved_by)


def _kept_failure(
    store: ArtifactStore, stage: str, edit_id: str, key: Key, error: Exception
) -> Failure:
    """Keep an edit's failure with its traceback in the store; return it as a value."""
    attempt = Attempt.of(edit_id, error)
    store.add_attempt(stage, key, attempt.document())
    return Failure(edit_id, stage, attempt.kind, attempt.reason)


@flow(
    name="edit-dataset",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
    persist_result=False,
)
def edit_dataset(
    job: str,
    store: str,
    edit_ids: list[str] | None = None,
    stages: list[str] | None = None,
    device: str = "cpu",
    forced: list[str] | None = None,
    retry: bool = False,
    max_failures: int | None = None,
    stage_timeout: float | None = None,
) -> State[Any]:
    """Bring edits of a job as far as the stages go, whatever becomes of their neighbours.

    Args:
        job: absolute path of the job's file.
        store: absolute path or URL of the store.
        edit_ids: the edits of this shard; all of the job by default.
        stages: the stages that may run; all by default.
        forced: stages that are done again where they are done.
        retry: try again what is quarantined.
        max_failures: stop once more edits than this have failed.
        stage_timeout: seconds that a stage may take for one edit; see `perform_chunk`.

    Returns:
        Completed if all are done, else Failed; the truth in full is the summary in the store.
    """
    found = job_at(job)
    wanted = None if edit_ids is None else frozenset(edit_ids)
    edits = [edit for edit in found.edits if wanted is None or edit.id in wanted]
    names = [name for name in STAGE_NAMES if stages is None or name in stages]
    kept = bench_of(store, device).store
    again = frozenset(forced or ())
    watch = _watch.get() or watch_over(found, kept, names, edits=edits, forced=again, retry=retry)
    token = _watch.set(watch)
    page = RunPage(watch)

    def perform(chunk: list[WorkItem], left: int | None) -> list[Made]:
        ids, keys = [item.edit.id for item in chunk], [str(item.key) for item in chunk]
        stage = chunk[0].stage
        future = perform_chunk.submit(
            job, store, stage, ids, keys, device, stage in again, left, stage_timeout
        )
        made: list[Made] = future.result()
        page.update()
        return made

    dispatch = Dispatch(
        kept, names, perform, watch, forced=again, retry=retry, allowed=max_failures
    )
    try:
        summary = _run_to_its_end(dispatch, found, edits, kept, watch)
    finally:
        _watch.reset(token)
    page.conclude(summary)
    if summary.exit_code:
        return Failed(message=str(summary))
    return Completed(message=str(summary))


def _run_to_its_end(
    dispatch: Dispatch, job: Job, edits: Sequence[Edit], store: ArtifactStore, watch: Watch
) -> RunSummary:
    """Run, write the summary into the store, and hand it to the watch, whatever happens."""
    clock = time.monotonic()
    summary = RunSummary(
        run_id=watch.run_id,
        job=job.name,
        path=str(job.path),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        bad=job.bad if len(edits) == len(job.edits) else (),
    )
    try:
        todo = [edit for edit in edits if edit.id in watch.todo]
        deaths = fatal_edits(store, job)
        apart = sorted((edit for edit in todo if deaths[edit.id]), key=lambda e: deaths[e.id])
        if apart:
            watch.progress.say(
                "Put last, one by one, since a run that was at them has not said how it ended: "
                f"{len(apart)} of {len(todo)} edits, among them {apart[-1].id}"
            )
        dispatch.run([edit for edit in todo if not deaths[edit.id]], apart)
    except Interrupted as stop:
        summary = replace(summary, stopped=str(stop), interrupted=True)
    except StoppedEarly as stop:
        summary = replace(summary, stopped=str(stop))
    except (ArtifactError, OSError) as error:
        summary = replace(summary, stopped=f"{type(error).__name__}: {error}")
    except BaseException as error:
        # A cancelled flow run and a Ctrl-C are no Exceptions; anything else is a bug of ours.
        watch.stop.ask()
        summary = replace(
            summary,
            stopped=f"{type(error).__name__}: {error}",
            interrupted=not isinstance(error, Exception),
        )
        raise
    finally:
        watch.summary = summary = _closed(summary, dispatch, edits, store, watch, clock)
        watch.finished.set()
    return summary


def _closed(
    summary: RunSummary,
    dispatch: Dispatch,
    edits: Sequence[Edit],
    store: ArtifactStore,
    watch: Watch,
    clock: float,
) -> RunSummary:
    """Complete the summary with what came of each edit, and write it into the store."""
    summary = replace(
        summary,
        failed=tuple(dispatch.failures.values()),
        made=dict(dispatch.made),
        memory_saved_by=dict(dispatch.memory_saved_by),
        stage_seconds=watch.seconds.seen(),
    )
    try:
        summary = conclude(summary, edits, store, time.monotonic() - clock)
        record_run(store, summary)
    except StoreUnavailable as error:
        summary = replace(summary, stopped=summary.stopped or f"StoreUnavailable: {error}")
    return summary


class RunPage:
    """What the flow's page in Prefect shows.

    Told from a thread of its own, since Prefect's client waits for more than a minute where
    nobody answers. A server that is gone costs the page, not the run.
    """

    def __init__(self, watch: Watch) -> None:
        """Open the page of the flow run at hand."""
        self._watch = watch
        self._due = 0.0
        self._open = True
        self._artifact: UUID | None = None
        self._teller = ThreadPoolExecutor(1, "page")
        self._telling = self._tell(self._begin)

    def update(self) -> None:
        """Move the progress bar, at most every `PAGE_SECONDS`, unless the last call still waits."""
        if self._telling.done() and time.monotonic() >= self._due:
            self._due = time.monotonic() + PAGE_SECONDS
            self._telling = self._tell(self._show_progress)

    def conclude(self, summary: RunSummary) -> None:
        """Show the outcomes: failures first, then as many others as fit."""
        last = self._tell(lambda: self._show_outcomes(summary))
        wait([last], ANSWER_SECONDS)
        if not last.done():
            self._give_up("it does not answer")
        self._teller.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        self._artifact = create_progress_artifact(  # type: ignore[assignment]
            progress=0.0, key="progress", description="stages of all edits"
        )

    def _show_progress(self) -> None:
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100 * self._watch.progress.share)

    def _show_outcomes(self, summary: RunSummary) -> None:
        self._show_progress()
        create_table_artifact(table=_rows(summary), key="outcomes", description=str(summary))
        if self._watch.out:
            link = self._watch.out.absolute().as_uri()
            create_link_artifact(link=link, key="results", link_text="results")

    def _tell(self, call: Callable[[], None]) -> Future[None]:
        return self._teller.submit(copy_context().run, self._unless_gone, call)

    def _unless_gone(self, call: Callable[[], None]) -> None:
        if self._open:
            try:
                call()
            except Exception as error:
                self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        if self._open:
            logger.warning("The run goes on without its page at the Prefect server: %s.", reason)
        self._open = False


def _rows(summary: RunSummary) -> list[dict[str, Any]]:
    failed = [
        {"edit": each.id, "outcome": f"failed in {each.stage}", "reason": str(each)}
        for each in summary.failed
    ]
    others = [{"edit": name, "outcome": "done", "reason": ""} for name in summary.done]
    others += [{"edit": name, "outcome": "unfinished", "reason": ""} for name in summary.unfinished]
    return (failed + others)[:ROWS_SHOWN]
