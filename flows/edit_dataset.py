"""The flow: many edits through the stages, one task per chunk of a stage.

The same tasks do a whole job in the process of `run`, and a shard of one on a worker.
Prefect runs, retries and shows; what is done, what failed and why is read from our store and
written there. Ids are all that passes between tasks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.chunks import RETRY_SECONDS, bench_of, do_chunk
from flows.dispatch import carry_out
from flows.outcomes import SOME_FAILED, RunSummary
from flows.run import Run
from flows.run_page import RunPage
from flows.states import EDITS_FAILED, STOPPED
from stages.failures import Failure, Policy, policy_of
from stages.planning.work import WorkItem
from stages.reports.causes import causes

CAUSES_NAMED = 10

_run_at_hand: ContextVar[Run | None] = ContextVar("run", default=None)


@contextmanager
def at_hand(run: Run) -> Iterator[None]:
    """Let the flow called in this block do this run instead of making its own."""
    token = _run_at_hand.set(run)
    try:
        yield
    finally:
        _run_at_hand.reset(token)


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
    retry_delay_seconds=[*RETRY_SECONDS],
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


def conduct(run: Run) -> RunSummary:
    """Do a run's work in tasks of the flow at hand, and show on its page how it stands.

    Returns:
        What was done; it is in the store, too.
    """
    page = RunPage(run)

    def perform(chunk: list[WorkItem]) -> None:
        run.chunk = chunk
        ids = [item.edit.id for item in chunk]
        perform_chunk.submit(chunk[0].stage.name, ids).wait()
        if run.trouble:
            raise run.trouble
        page.update()

    with at_hand(run):
        summary = carry_out(run, perform)
        if run.is_shard:
            summary = run.report()
    page.conclude(summary)
    return summary


def state_of(summary: RunSummary) -> State[Any]:
    """Return the state in which Prefect shows a run that has ended."""
    if not summary.exit_code:
        return Completed(message=str(summary))
    get_run_logger().error("%s", _last_word(summary))
    name = STOPPED if summary.exit_code != SOME_FAILED else EDITS_FAILED
    return Failed(name=name, message=_last_word(summary))


@flow(
    name="edit-dataset",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
    persist_result=False,
)
def edit_dataset(job: str, store: str, request: dict[str, Any]) -> State[Any]:
    """Do the run at hand; one edit that fails stops no other.

    Args:
        job: absolute path of the job's file, as Prefect's page shows it.
        store: absolute path or URL of the store.
        request: a `RunRequest`, as JSON.

    Returns:
        Completed if all are done, else Failed; the truth in full is the summary in the store.
    """
    run = _run_at_hand.get()
    assert run is not None
    return state_of(conduct(run))


def _last_word(summary: RunSummary) -> str:
    """Return how a run ended, and why edits failed, so that a log ends with their names."""
    found = causes(summary.failed)
    more = f"and {len(found) - CAUSES_NAMED} more reasons" if len(found) > CAUSES_NAMED else ""
    lines = [*map(str, found[:CAUSES_NAMED]), more, *map(str, summary.bad[:CAUSES_NAMED])]
    return "; ".join(filter(None, [str(summary), summary.stopped, *lines]))
