"""The flow: many edits through the stages, one task per chunk of a stage.

The same flow does a whole job in the process of `run`, and a shard of one on a Prefect worker.
Prefect runs, retries and shows; what is done, what failed and why is read from our store and
written there. Ids are all that passes between tasks.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from adaptivedrag.config import Runtime
from artifacts import ArtifactError, ArtifactStore
from flows.dispatch import Perform, dispatch
from flows.outcomes import RunSummary, fatal_edits, note_at_work
from flows.request import RunRequest
from flows.run import Interrupted, Outcome, Run, StoppedEarly
from flows.run_page import RunPage
from stages.failures import Attempt, Failure, Policy, StageTimedOut, policy_of
from stages.planning.work import WorkItem, cut_batches
from stages.reports.causes import causes
from stages.stage import OnStep
from stages.workbench import Workbench

RETRY_SECONDS = [1.0, 5.0, 20.0]
CAUSES_NAMED = 10

_run_at_hand: ContextVar[Run | None] = ContextVar("run", default=None)
_lock = threading.Lock()
_benches: dict[tuple[str, str, int], Workbench] = {}


@contextmanager
def at_hand(run: Run) -> Iterator[None]:
    """Let the flow called in this block do this run instead of making its own."""
    token = _run_at_hand.set(run)
    try:
        yield
    finally:
        _run_at_hand.reset(token)


def bench_of(store: ArtifactStore, request: RunRequest) -> Workbench:
    """Return this process's bench for a store and a device; models are loaded once."""
    name = store.location, request.device, request.batch
    with _lock:
        if name not in _benches:
            _benches.clear()  # one at a time: two sets of models may not fit
            _benches[name] = Workbench(store, Runtime(device=request.device, batch=request.batch))
        return _benches[name]


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
def perform_chunk(stage: str, edit_ids: list[str]) -> State[Any]:
    """Do a chunk of the run at hand; see `do_chunk`.

    Returns:
        Failed if any item failed, with the reasons; the truth in full is in the run.

    Raises:
        StoreUnavailable: if the store does not work; the task is tried again.
    """
    run = _run_at_hand.get()
    assert run is not None
    items, run.trouble = run.chunk, None
    try:
        do_chunk(run, bench_of(run.store, run.request), items)
    except Exception as error:
        run.trouble = error
        raise
    failed = [failure for item in items if (failure := _failure_of(run, item))]
    if failed:
        reasons = "; ".join(map(str, causes(failed)[:CAUSES_NAMED]))
        get_run_logger().error("%s", reasons)
        return Failed(message=f"{len(failed)} of {len(items)} failed: {reasons}")
    return Completed(message=f"{len(edit_ids)} of {stage}")


def _failure_of(run: Run, item: WorkItem) -> Failure | None:
    outcome = run.outcomes.get((item.stage.name, item.key))
    return outcome.failure if outcome else None


def do_chunk(run: Run, bench: Workbench, items: Sequence[WorkItem]) -> None:
    """Do the items of one stage, batch by batch; those that have an outcome are not done again.

    Returns early where the run is to stop.

    Raises:
        StoreUnavailable: if the store does not work.
    """
    waiting = [item for item in items if (item.stage.name, item.key) not in run.outcomes]
    for batch in cut_batches(waiting, bench.runtime.batch):
        try:
            _do_batch(run, bench, batch)
        except StoppedEarly:
            return
        if run.has_failed_too_often:
            return


def _do_batch(run: Run, bench: Workbench, items: Sequence[WorkItem]) -> None:
    """Do a batch, and let the run take in what became of each item.

    A time limit is looked at after each step of a stage, for each item's share of the batch. What
    goes on for long without a step, such as loading a model, is not cut off.
    """
    stage, clock = items[0].stage.name, time.perf_counter()
    on_step = {item.edit.id: _listener(run, item, len(items)) for item in items}
    run.stop.check()
    ids = [item.edit.id for item in items]
    note_at_work(run.store, run.id, str(run.job.path), ids, stage, run.progress.standing)
    outcomes = bench.make(items, force=stage in run.request.force, on_step=on_step)
    seconds = round((time.perf_counter() - clock) / len(items), 3)
    for item, made in zip(items, outcomes, strict=True):
        if isinstance(made, Exception):
            run.take(item, Outcome(failure=_kept_failure(run.store, item, made)), seconds)
        else:
            run.take(item, Outcome(record=made), seconds)


def _listener(run: Run, item: WorkItem, share: int) -> OnStep:
    """Return the callback for each step of an item: it shows progress and ends the item in time."""
    stage, name, limit = item.stage.name, item.edit.id, run.request.stage_timeout
    started = time.perf_counter()

    def on_step(step: int, steps: int) -> None:
        run.stop.check()
        run.progress.stepped(stage, name, step, steps)
        seconds = (time.perf_counter() - started) / share
        if limit is not None and seconds > limit:
            raise StageTimedOut(
                f"edit {name}: {stage} took {seconds:.1f} s up to step {step} of {steps}, and "
                f"--stage-timeout allows {limit:g} s: it goes on from its last checkpoint if it "
                "is run again with a longer one"
            )

    return on_step


def _kept_failure(store: ArtifactStore, item: WorkItem, error: Exception) -> Failure:
    """Keep an edit's failure with its traceback in the store; return it as a value."""
    attempt = Attempt.of(item.edit.id, error)
    store.add_attempt(item.stage.name, item.key, attempt.document())
    return Failure(item.edit.id, item.stage.name, attempt.kind, attempt.reason)


@flow(
    name="edit-dataset",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
    persist_result=False,
)
def edit_dataset(
    job: str, store: str, request: dict[str, Any], edit_ids: list[str] | None = None
) -> State[Any]:
    """Bring edits of a job through the stages; one that fails stops no other.

    Args:
        job: absolute path of the job's file.
        store: absolute path or URL of the store.
        request: a `RunRequest`, as JSON.
        edit_ids: the edits of this shard; all of the job by default.

    Returns:
        Completed if all are done, else Failed; the truth in full is the summary in the store.
    """
    run = _run_at_hand.get()
    if run is None:
        asked = RunRequest.model_validate(request)
        run = Run.open(Path(job), store, asked, edit_ids=edit_ids)
        run.check_ready()
    page = RunPage(run)

    def perform(chunk: list[WorkItem]) -> None:
        run.chunk = chunk
        ids = [item.edit.id for item in chunk]
        perform_chunk.submit(chunk[0].stage.name, ids).wait()
        if run.trouble:
            raise run.trouble
        page.update()

    is_shard = _run_at_hand.get() is None
    with at_hand(run):
        summary = _carried_out(run, perform)
        if is_shard:
            summary = run.report()
    page.conclude(summary)
    if summary.exit_code:
        get_run_logger().error("%s", _last_word(summary))
        return Failed(message=_last_word(summary))
    return Completed(message=str(summary))


def _carried_out(run: Run, perform: Perform) -> RunSummary:
    """Do the work, and write the summary into the store, whatever happens."""
    try:
        run.begin()
        deaths = fatal_edits(run.store, run.job)
        apart = sorted((e for e in run.edits if deaths[e.id]), key=lambda edit: deaths[edit.id])
        if apart:
            run.progress.say(
                "An earlier run did not say how it ended. The edits that it was at come last, one "
                f"by one: {len(apart)} of {len(run.todo)}, among them {apart[-1].id}"
            )
        dispatch(run, perform, apart)
    except Interrupted as stop:
        run.stop_early(str(stop), interrupted=True)
    except StoppedEarly as stop:
        run.stop_early(str(stop))
    except (ArtifactError, OSError) as error:
        run.stop_early(f"{type(error).__name__}: {error}")
    except BaseException as error:
        # A canceled flow run and a Ctrl-C are no Exceptions; anything else is a bug of ours.
        run.stop.ask()
        is_wish = not isinstance(error, Exception)
        run.stop_early(f"{type(error).__name__}: {error}", interrupted=is_wish)
        raise
    finally:
        summary = run.record()
        run.finished.set()
    return summary


def _last_word(summary: RunSummary) -> str:
    """Return how a run ended, and why edits failed, so that a log ends with their names."""
    found = causes(summary.failed)
    more = f"and {len(found) - CAUSES_NAMED} more reasons" if len(found) > CAUSES_NAMED else ""
    lines = [*map(str, found[:CAUSES_NAMED]), more, *map(str, summary.bad[:CAUSES_NAMED])]
    return "; ".join(filter(None, [str(summary), summary.stopped, *lines]))
