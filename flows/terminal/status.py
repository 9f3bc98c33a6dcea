"""How much of a job is done, and what failed."""

from pathlib import Path

from artifacts import ArtifactStore
from flows.terminal.console import say, say_list, say_table
from flows.terminal.jobs import load, note_absence, note_bad
from stages.failures import Attempt
from stages.jobs.edit import Edit, find_edit
from stages.jobs.selection import Selection
from stages.planning.plan import EditPlan, Status, plan_edits, plan_job
from stages.reports.plan_tables import counts_table
from stages.reports.wording import count


def show_status(path: Path, name: str | None, select: Selection, store: str) -> None:
    """Print how much of a job is done and what failed, or how one edit of it failed."""
    job, opened = load(path, select), ArtifactStore.open_to_read(store)
    if name is not None:
        _say_attempts(find_edit(job, name), opened)
        return
    plan = plan_job(job, opened)
    failures = [line for edit in plan.edits if (line := _failure_line(edit, path))]
    done = sum(edit.done for edit in plan.edits)
    total = count(len(plan.edits) + len(job.bad), "edit")
    say(f"{job.name}: {done} of {total} done, {len(failures) + len(job.bad)} failed")
    say_table(counts_table(plan))
    note_absence(opened)
    say_list("Failed", failures)
    note_bad(job)


def _failure_line(plan: EditPlan, job: Path) -> str:
    """Return how an edit failed that is not done; "" if it did not."""
    staged = plan.failed
    if staged is None or staged.failure is None:
        return ""
    quarantined = "quarantined, " if staged.status is Status.QUARANTINED else ""
    return (
        f"{plan.edit.id}: {staged.stage}: {staged.failure} ({staged.failure.time}, {quarantined}"
        f"traceback: adaptivedrag status {job} {plan.edit.id})"
    )


def _say_attempts(edit: Edit, store: ArtifactStore) -> None:
    """Print the failed attempts at what an edit still needs, each with its traceback."""
    (plan,) = plan_edits([edit], store)
    documents = [
        (stage, document)
        for stage in plan.to_make
        if (staged := plan.stages[stage]).failure and staged.key
        for document in store.attempts(stage, staged.key)
    ]
    for stage, document in documents:
        attempt = Attempt.from_document(document)
        say(f"{attempt.time} {stage}: {attempt.kind}: {attempt.message}")
        say(attempt.traceback)
    if not documents:
        say(f"{edit.id}: {'done' if plan.done else 'not done, and no failure is recorded'}")
