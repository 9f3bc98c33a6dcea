"""Decides what to do next: the first edits end to end, then shard by shard and stage by stage.

Knows nothing of Prefect: `perform` does one chunk, in any process, and the run takes in what
became of its items. A failure is a value; it stays with its edits, and their later stages are not
tried.
"""

from collections.abc import Callable, Sequence

from artifacts import ArtifactError
from flows.outcomes import RunSummary, deaths_in
from flows.run import Interrupted, Run, StoppedEarly
from flows.shards import cut_chunks, cut_shards
from stages.failures import Failure
from stages.jobs.edit import Edit
from stages.pipeline import BY_NAME
from stages.planning.plan import EditPlan
from stages.planning.work import WorkItem, cut_batches, work_for
from stages.stage import InputMissing, Stage

FIRST_EDITS, FIRST_OF_SHARD = 10, 1
"""Edits that go through all stages before the rest: a systematic fault shows in minutes.

Each of their stages is a task of its own, so in a shard, of which a job may have thousands, they
are few.
"""

Perform = Callable[[list[WorkItem]], None]
"""Does a chunk of a stage; each finished item has an outcome in the run."""


def carry_out(run: Run, perform: Perform) -> RunSummary:
    """Do the work, and write the summary into the store, whatever happens."""
    run.events.began(run.job.path, run.request.device, len(run.todo))
    try:
        run.begin()
        found = deaths_in(run.store, run.job)
        run.deaths, deaths = found.alone, found.edits
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


def dispatch(run: Run, perform: Perform, apart: Sequence[Edit] = ()) -> None:
    """Bring the edits of a run as far as its stages go.

    Args:
        apart: edits that come after all others, one by one.

    Raises:
        StoppedEarly: if more edits failed than may, time is up, or somebody asked to stop.
    """
    last = {edit.id for edit in apart}
    edits = [edit for edit in run.edits if edit.id not in last]
    first = FIRST_OF_SHARD if run.is_shard else FIRST_EDITS
    for edit in edits[:first]:
        _advance(run, [edit], perform)
    for shard in cut_shards(edits[first:], run.seconds.of, run.request.stages):
        _advance(run, shard, perform)
    for edit in apart:
        _advance(run, [edit], perform)


def _advance(run: Run, edits: Sequence[Edit], perform: Perform) -> None:
    for name in run.request.stages:
        if going := run.going(edits):
            _do_stage(run, BY_NAME[name], going, perform)
            run.progress.reached(name, [plan.edit.id for plan in run.going(edits)])
    run.progress.finished(plan.edit.id for plan in run.going(edits) if plan.done)


def _do_stage(run: Run, stage: Stage, plans: Sequence[EditPlan], perform: Perform) -> None:
    force = stage.name in run.request.force
    items, blocked = work_for(stage, plans, force=force, retry=run.request.retry_failed)
    for plan in blocked:
        run.fail(plan.lasting_failure or _lacks_inputs(plan, stage))
    fresh = [item for item in items if not run.share(item)]
    batches = cut_batches(fresh, lambda _item: run.request.most_together)
    for chunk in cut_chunks(batches, run.seconds.of(stage.name)):
        run.check()
        perform(chunk)
        if any((stage.name, item.key) not in run.outcomes for item in chunk):
            run.check()


def _lacks_inputs(plan: EditPlan, stage: Stage) -> Failure:
    message = f"what {stage.name} needs is not made yet: run the stages before it too"
    return Failure(plan.edit.id, stage.name, InputMissing.__name__, message)
