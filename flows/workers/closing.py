"""How a job ended whose shards others have done, by what the store has of their runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from flows.outcomes import RunSummary, ended
from flows.run import Run
from stages.jobs.selection import Selection
from stages.reports.wording import count


def summary_of(
    submitted: Run, run_ids: Iterable[str], select: Selection, why_left: str
) -> RunSummary:
    """Write all results of a job, and return how it ended.

    Args:
        submitted: the job as it was planned.
        run_ids: of the shards' runs.
        why_left: what has become of edits that neither are done nor have failed.
    """
    asked = submitted.request.model_copy(update={"retry_failed": False, "force": ()})
    run = Run.open(submitted.job.path, submitted.store.location, asked, select=select)
    ends = [end for name in run_ids if (end := ended(run.store, name))]
    told = [end for end in ends if not end.interrupted]
    failures = {failure.id: failure for end in told for failure in end.failed}
    for name in failures.keys() & run.plans.keys():
        if not run.plans[name].done:
            run.failures[name] = failures[name]
    for end in told:
        if end.stopped:
            run.stop_early(end.stopped)
    if left := [edit.id for edit in run.edits if edit.id not in run.failures]:
        run.stop_early(f"{count(len(left), 'edit')} left: {why_left}")
    return replace(
        run.report(),
        seconds=submitted.summary().seconds,
        made=_total(end.made for end in ends),
        verdicts=_total(end.verdicts for end in ends),
    )


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return total
