"""Does chunks of a run in this process, with models that are loaded once. Nothing is Prefect's."""

import threading
import time
from collections.abc import Sequence
from functools import partial

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from flows.outcomes import note_at_work
from flows.request import RunRequest
from flows.run import Outcome, Run, StoppedEarly
from stages.failures import Attempt, Failure, Policy, ProcessDied, StageTimedOut, policy_of
from stages.planning.work import WorkItem, cut_batches
from stages.stage import OnStep
from stages.workbench import Workbench

RETRY_SECONDS = (1.0, 5.0, 20.0)
"""How long to wait before a chunk is tried again, where the store does not answer."""

MOST_DEATHS, MOST_AMONG_OTHERS = 4, 8
"""A piece of work over which this many processes died counts as failed; the second, where as many
have died over other work, as they do where somebody kills them."""

_lock = threading.Lock()
_benches: dict[tuple[str, Runtime], Workbench] = {}


def bench_of(store: ArtifactStore, request: RunRequest) -> Workbench:
    """Return this process's bench for a store and a runtime; models are loaded once."""
    name = store.location, request.runtime
    with _lock:
        if name not in _benches:
            _benches.clear()  # one at a time: two sets of models may not fit
            _benches[name] = Workbench(store, request.runtime)
        return _benches[name]


def do_patiently(run: Run, items: Sequence[WorkItem]) -> None:
    """Do a chunk, and again after each of `RETRY_SECONDS` while the store does not work.

    Raises:
        StoreUnavailable: if it never did.
    """
    for seconds in RETRY_SECONDS:
        try:
            return do_chunk(run, bench_of(run.store, run.request), items)
        except Exception as error:
            if policy_of(error) is not Policy.RETRY:
                raise
        run.stop.sleep(seconds)
    return do_chunk(run, bench_of(run.store, run.request), items)


def do_chunk(run: Run, bench: Workbench, items: Sequence[WorkItem]) -> None:
    """Do the items of one stage, batch by batch; those that have an outcome are not done again.

    Returns early where the run is to stop.

    Raises:
        StoreUnavailable: if the store does not work.
    """
    _fail_fatal(run, items)
    waiting = [item for item in items if (item.stage.name, item.key) not in run.outcomes]
    for batch in cut_batches(waiting, bench.most_together):
        try:
            _do_batch(run, bench, batch)
        except StoppedEarly:
            return
        if run.has_failed_too_often:
            return


def _fail_fatal(run: Run, items: Sequence[WorkItem]) -> None:
    """Fail what earlier runs died over again and again, unless it is to be tried all the same."""
    for item in items:
        deaths, name = run.deaths[item.key], item.stage.name
        is_alone = deaths > run.deaths.total() - deaths
        is_fatal = deaths >= (MOST_DEATHS if is_alone else MOST_AMONG_OTHERS)
        if is_fatal and not run.request.retry_failed and name not in run.request.force:
            died = ProcessDied(
                f"its process died {deaths} times over it, of too little memory or of a crash in a "
                "library: --retry-failed tries again"
            )
            run.take(item, Outcome(failure=_kept_failure(run.store, item, died)), 0.0)


def _do_batch(run: Run, bench: Workbench, items: Sequence[WorkItem]) -> None:
    """Do a batch, and let the run take in what became of each item.

    A time limit is looked at after each step of a stage, for each item's share of what was tried
    last: of the batch, or where that failed, of itself alone. What goes on for long without a step,
    such as loading a model, is not cut off.
    """
    stage, clock = items[0].stage.name, time.perf_counter()
    run.stop.check()
    ids = [item.edit.id for item in items]
    keys, taken = [item.key for item in items], len(run.outcomes)
    standing = run.progress.standing
    note_at_work(run.store, run.id, str(run.job.path), ids, stage, standing, keys, taken)
    outcomes = bench.make(items, force=stage in run.request.force, listen=partial(_listener, run))
    seconds = round((time.perf_counter() - clock) / len(items), 3)
    for item, made in zip(items, outcomes, strict=True):
        if isinstance(made, Exception):
            run.take(item, Outcome(failure=_kept_failure(run.store, item, made)), seconds)
        else:
            run.take(item, Outcome(record=made), seconds)


def _listener(run: Run, item: WorkItem, together: int) -> OnStep:
    """Return the callback for each step of an item: it shows progress and ends the item in time."""
    stage, name, limit = item.stage.name, item.edit.id, run.request.stage_timeout
    started = time.perf_counter()

    def on_step(step: int, steps: int) -> None:
        run.stop.check()
        run.progress.stepped(stage, name, step, steps)
        seconds = (time.perf_counter() - started) / together
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
