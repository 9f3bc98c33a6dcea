"""How far a job is, by what the store has of it: also what runs on other machines are at."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from artifacts import ArtifactStore
from flows.beat import PATIENCE, Watch
from flows.outcomes import AtWork, notes_at_work
from stages.failures import Failure
from stages.jobs.edit import Job
from stages.planning.plan import JobPlan, plan_job
from stages.reports.causes import causes
from stages.reports.wording import count, duration, first_of, pace

SCHEMA = 1
DESERTED_SECONDS = 180.0
"""A run that is gone has a successor by then, where there are workers."""


@dataclass(frozen=True)
class JobStatus:
    """How far a job is.

    Attributes:
        failures: how edits failed that are not done, or have no verdict of the witness.
        at_work: what runs that have not ended are at.
        silent: what runs were at that neither said how they ended nor show a sign of life.
        quiet: for how many seconds no run has shown one, as far as a watch has seen.
    """

    plan: JobPlan
    failures: tuple[Failure, ...]
    at_work: tuple[AtWork, ...]
    silent: tuple[AtWork, ...] = ()
    quiet: float = 0.0

    @property
    def done(self) -> int:
        """The edits that are done."""
        failed = {failure.id for failure in self.failures}
        return sum(each.done and each.edit.id not in failed for each in self.plan.edits)

    @property
    def failed(self) -> int:
        """The edits that failed, and those that cannot be done as they are written."""
        return len(self.failures) + len(self.plan.job.bad)

    @property
    def total(self) -> int:
        """All edits."""
        return len(self.plan.edits) + len(self.plan.job.bad)

    @property
    def is_over(self) -> bool:
        """Whether each edit is done or has failed, and nobody is at work on one."""
        return not self.left and not self.at_work

    @property
    def left(self) -> int:
        """The edits that neither are done nor have failed."""
        return self.total - self.done - self.failed

    @property
    def is_deserted(self) -> bool:
        """Whether those who were at work are gone for so long that nobody goes on with it.

        They may have died, or have stopped early and said so.
        """
        return not self.at_work and self.quiet >= DESERTED_SECONDS

    @property
    def per_hour(self) -> float | None:
        """The edits that all runs together finish in an hour, where one says so."""
        paces = [each.per_hour for each in self.at_work if each.per_hour is not None]
        return sum(paces) if paces else None

    @property
    def ends(self) -> datetime | None:
        """When the last of the runs ends, if all of them know; later if others wait for them."""
        ends = [each.ends for each in self.at_work if each.ends]
        if not ends or len(ends) < len(self.at_work):
            return None
        if self.per_hour and self.left > sum(each.left for each in self.at_work):
            ends.append(datetime.now().astimezone() + timedelta(hours=self.left / self.per_hour))
        return max(ends)


def status_of(job: Job, store: ArtifactStore, watch: Watch | None = None) -> JobStatus:
    """Read how far a job is.

    Args:
        watch: what earlier looks saw, and when. Without it, the store's clock is compared with
            that of this machine to tell which runs are silent.

    Raises:
        ModelUnavailable: if the files of a model are not there.
        StoreUnavailable: if the store cannot be read.
    """
    plan = plan_job(job, store)
    failures = tuple(failure for each in plan.edits if (failure := each.last_failure))
    waiting = {each.edit.id for each in plan.edits if each.to_make}
    notes = notes_at_work(store, job) if waiting else ()
    found = [replace(n, silent=_silence(n, watch)) for n in _still_at_work(notes, waiting)]
    silent = tuple(note for note in found if note.silent >= PATIENCE)
    at_work = tuple(note for note in found if note not in silent)
    return JobStatus(plan, failures, at_work, silent, watch.quiet if watch else 0.0)


def status_headline(status: JobStatus) -> str:
    """Say in one line how far a job is."""
    parts = [f"{status.done} of {count(status.total, 'edit')} done, {status.failed} failed"]
    if status.per_hour is not None:
        parts.append(pace(status.per_hour))
    if status.ends:
        parts.append(f"ends about {status.ends.astimezone():%Y-%m-%d %H:%M}")
    if status.silent:
        parts.append(f"no sign of life of {count(len(status.silent), 'run')}")
    return f"{status.plan.job.name}: {', '.join(parts)}"


def at_work_lines(status: JobStatus) -> list[str]:
    """Say who is at what, since when, and how fast."""
    return [
        f"{each.stage} of {first_of(each.ids)} since {each.since.astimezone():%H:%M:%S} "
        f"({duration((datetime.now(UTC) - each.since).total_seconds())}) on {_place(each)}"
        + (f", {pace(each.per_hour)}" if each.per_hour is not None else "")
        for each in status.at_work
    ]


def silent_lines(status: JobStatus) -> list[str]:
    """Say which runs show no sign of life, for how long, and what they were at."""
    return [
        f"{_place(each)} for {duration(each.silent)}, was at {each.stage} of {first_of(each.ids)}"
        for each in status.silent
    ]


def _place(note: AtWork) -> str:
    return f"{note.host}, process {note.process}" if note.process else note.host


def status_document(status: JobStatus, store: ArtifactStore) -> dict[str, Any]:
    """Return how far a job is as JSON; docs/plan.md says what its fields mean."""
    job = status.plan.job
    return {
        "schema": SCHEMA,
        "job": job.name,
        "path": str(job.path),
        "store": store.location,
        "edits": len(status.plan.edits),
        "done": status.done,
        "failed": len(status.failures),
        "bad": [{"id": bad.id, "line": bad.line, "reason": bad.reason} for bad in job.bad],
        "causes": [asdict(cause) for cause in causes(status.failures)],
        "at_work": [_at_work_document(each) for each in status.at_work],
        "silent": [_at_work_document(each) for each in status.silent],
        "per_hour": status.per_hour,
        "ends": status.ends and status.ends.isoformat(timespec="seconds"),
        "stages": {
            stage: {str(name): number for name, number in numbers.items()}
            for stage, numbers in status.plan.counts().items()
        },
    }


def _at_work_document(note: AtWork) -> dict[str, Any]:
    return {
        "run": note.run_id,
        "host": note.host,
        "process": note.process,
        "stage": note.stage,
        "ids": list(note.ids),
        "since": note.since.isoformat(timespec="seconds"),
        "seen": note.seen.isoformat(timespec="seconds"),
        "per_hour": note.per_hour,
        "left": note.left,
        "ends": note.ends and note.ends.isoformat(timespec="seconds"),
    }


def _silence(note: AtWork, watch: Watch | None) -> float:
    if watch:
        return watch.unchanged(note.run_id, note.seen)
    return (datetime.now(UTC) - note.seen).total_seconds()


def _still_at_work(notes: tuple[AtWork, ...], waiting: set[str]) -> Iterator[AtWork]:
    """Yield the notes whose edits still wait, and that no later run has taken over.

    A run that was killed leaves its note behind.
    """
    taken = set[str]()
    for note in sorted(notes, key=lambda note: note.since, reverse=True):
        own = waiting.intersection(note.ids) - taken
        taken |= own
        if own:
            yield note
