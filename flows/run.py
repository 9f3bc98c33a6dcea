"""One run of a job, or of a shard of one: made once, in the process that does the work.

It holds what the run knows: the request, the store, a plan of every edit, kept up to date by what
stages return, and where results go. `run` makes it and hands it to the flow; a worker makes it from
the strings that `submit` sent, by the same constructor.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from adaptivedrag.errors import Stopped
from artifacts import ArtifactStore, Key, Record, StoreUnavailable
from flows.events import Events, events_file
from flows.outcomes import (
    InvalidRequest,
    RunSummary,
    last_failed,
    last_seconds,
    new_run_id,
    record_run,
)
from flows.preflight import check_compiler, check_ready
from flows.progress import Progress
from flows.request import RunRequest
from flows.shards import StageSeconds, cut_parts
from flows.time_limits import TimeLimit, time_limits
from stages.failures import Failure
from stages.jobs.edit import Edit, Job
from stages.jobs.reader import load_job
from stages.jobs.selection import Selection, select_edits
from stages.pipeline import RESULT, WANTED, WITNESS
from stages.planning.plan import EditPlan, JobPlan, Status, bring_up_to_date, plan_edits
from stages.planning.work import WorkItem
from stages.reports.edit_page import FEW, write_edit_pages
from stages.reports.place import ReportUnwritable
from stages.reports.results import Results
from stages.reports.wording import count, warnings_of

PAGE_SECONDS = 30.0
"""The page of results is renewed at most this often."""


class StoppedEarly(Stopped):
    """No more work is to be started; the message says why."""


class Interrupted(StoppedEarly):
    """The user or the system wants this process to end."""


class Stop:
    """A wish or a reason to stop, heard by those at work at their next step."""

    def __init__(self, limits: Sequence[TimeLimit] = ()) -> None:
        """Start without the wish, and with the time that there is."""
        self._wish = threading.Event()
        self._limits = tuple(limits)
        self._over = ""

    def ask(self) -> None:
        """Ask all work to stop."""
        self._wish.set()

    def sleep(self, seconds: float) -> None:
        """Wait, at most until somebody asks."""
        self._wish.wait(seconds)

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._wish.is_set()

    def check(self) -> None:
        """Leave the work at hand if that was asked for, or time is up.

        Raises:
            StoppedEarly: if so; `Interrupted` if it was asked for.
        """
        if self._wish.is_set():
            raise Interrupted("interrupted")
        # For good: a clock that is set back gives no time back.
        self._over = self._over or next((each.said for each in self._limits if each.is_over), "")
        if self._over:
            raise StoppedEarly(self._over)


@dataclass(frozen=True)
class Outcome:
    """What became of a work item: its record, or why it has none."""

    record: Record | None = None
    failure: Failure | None = None


class Run:
    """A run at work. What it says of itself is read from any thread; one thread does the work."""

    def __init__(
        self,
        job: Job,
        store: ArtifactStore,
        request: RunRequest,
        plans: Mapping[str, EditPlan],
        results: Results | None = None,
        console: Console | None = None,
        *,
        shard_id: str | None = None,
    ) -> None:
        """Start the clock; `open` is the usual way.

        Args:
            job: with the edits that are wanted.
            plans: of these edits, by id.
            shard_id: the run's id, if it does a shard of a job.

        Raises:
            InvalidRequest: if a limit of the request cannot be read.
        """
        self.id = shard_id or new_run_id()
        self.job, self.store, self.request = job, store, request
        self.plans, self.results = plans, results
        self.is_shard = shard_id is not None or request.shard is not None
        self.stop = Stop(time_limits(request.deadline, request.budget))
        self.most_failures = request.most_failures(len(plans))
        self.waiting = {stage: self._waiting_for(stage) for stage in request.stages}
        self.todo = frozenset[str]().union(*self.waiting.values())
        self.seconds = StageSeconds(last_seconds(store, job) if self.todo else {})
        self.progress = Progress(
            self.waiting,
            len(plans) + len(job.bad),
            done=[name for name, plan in plans.items() if plan.done and name not in self.todo],
            failed=[*self._given_up, *(bad.id for bad in job.bad)],
            console=console,
        )
        self.failures: dict[str, Failure] = {}
        self.outcomes: dict[tuple[str, Key], Outcome] = {}
        self.deaths = Counter[Key]()
        """How often earlier runs died over a piece of work, by its key."""
        self.chunk: list[WorkItem] = []
        """What the task at hand is to do."""
        self.events = Events(events_file(self.id), self.id, self.progress.say)
        """Heard by machines."""
        self.on_first_failure: Callable[[RunSummary], object] = lambda _summary: None
        """Called at once when the first edit fails, with how the run stands."""
        self.trouble: Exception | None = None
        """Why the task at hand could do nothing more."""
        self.finished = threading.Event()
        """Set when the work is over; Prefect may go on talking."""
        self._made = Counter[str]()
        self._verdicts = Counter[str]()
        self._warnings: dict[str, list[str]] = {}
        self._memory_saved_by: dict[str, tuple[str, ...]] = {}
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._page_due = 0.0
        self._stopped, self._interrupted = "", False

    @classmethod
    def open(
        cls,
        job: Job | Path,
        store: str | Path,
        request: RunRequest,
        *,
        select: Selection = (),
        edit_ids: Iterable[str] | None = None,
        shard_id: str | None = None,
        console: Console | None = None,
    ) -> "Run":
        """Read a job, claim the place of its results, and plan each edit once.

        Args:
            select: which edits; all by default. See `select_edits`.
            edit_ids: the edits of a shard; all by default.
            shard_id: the id of the run that does it.

        Raises:
            InvalidRequest, InvalidEdit, StoreUnavailable, ModelUnavailable: nothing can start; the
                message is one line.
        """
        wanted = None if edit_ids is None else frozenset(edit_ids)
        found = job if isinstance(job, Job) else load_job(job, only=wanted, beside=request.beside)
        found = select_edits(found, select)
        if wanted is not None:
            edits = tuple(edit for edit in found.edits if edit.id in wanted)
            found = replace(found, edits=edits, bad=())
        if request.shard is not None:
            found = _part(found, request)
        opened = ArtifactStore.open(store)
        results = None if request.out is None else _claimed(found, opened, request.out)
        plans = {plan.edit.id: plan for plan in plan_edits(found.edits, opened)}
        if request.retry_failed:
            failed = last_failed(opened, found, plans.values())
            plans = {name: plan for name, plan in plans.items() if name in failed}
            found = replace(found, edits=tuple(e for e in found.edits if e.id in failed))
        return cls(found, opened, request, plans, results, console, shard_id=shard_id)

    def check_ready(self) -> None:
        """Check that this machine can do what there is to do; to be called before it is begun.

        Raises:
            NotReady: if it cannot.
        """
        if self.request.compile:
            check_compiler(self.request.device)
        plan = JobPlan(self.job, tuple(self.plans[edit.id] for edit in self.edits))
        self.progress.expect(check_ready(plan, self.store, self.request.device, self.waiting))

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits for which there is anything to do, in the order of the job."""
        return tuple(edit for edit in self.job.edits if edit.id in self.todo)

    def going(self, edits: Iterable[Edit]) -> list[EditPlan]:
        """Return the plans of those edits that have not failed."""
        return [self.plans[edit.id] for edit in edits if edit.id not in self.failures]

    def check(self) -> None:
        """Leave if there is a reason to; to be called only while there is more to do.

        Raises:
            StoppedEarly: if more edits failed than may, time is up, or somebody asked to stop.
        """
        self.stop.check()
        if self.has_failed_too_often:
            raise StoppedEarly(
                f"{count(len(self.failures), 'edit')} failed; at most {self.most_failures} may"
            )

    @property
    def has_failed_too_often(self) -> bool:
        """Whether more edits have failed than may."""
        return self.most_failures is not None and len(self.failures) > self.most_failures

    def take(self, item: WorkItem, outcome: Outcome, seconds: float) -> None:
        """Take in what became of a work item: in the plans, the results and on the screen."""
        stage = item.stage.name
        self.outcomes[stage, item.key] = outcome
        if outcome.record:
            self._made[stage] += 1
            self.seconds.saw(stage, seconds)
            self.progress.learn(outcome.record, seconds)
            self.events.made(item, outcome.record, self.request.device)
            if saved_by := outcome.record.circumstances.memory_saved_by:
                self._memory_saved_by[stage] = saved_by
        self.share(item)

    def share(self, item: WorkItem) -> bool:
        """Let every edit that needs an item have its outcome; tell whether there is one yet.

        Edits of other shards may need what this run has done, or failed to do, before.
        """
        stage = item.stage.name
        outcome = self.outcomes.get((stage, item.key))
        if outcome is None:
            return False
        if outcome.failure:
            for name in item.sharers:
                self.fail(replace(outcome.failure, id=name))
        elif outcome.record:
            if item.stage is WITNESS:
                self._verdicts[str(outcome.record.summary["verdict"])] += len(item.sharers)
            for warning in warnings_of(outcome.record.summary):
                self._warnings.setdefault(warning, []).extend(item.sharers)
            plans = [self.plans[name] for name in item.sharers]
            bring_up_to_date(plans, item.stage, {item.key: outcome.record}, self.store)
            self.progress.reached(stage, item.sharers)
            for plan in plans if item.stage in WANTED else ():
                if plan.done and not {*plan.to_make} & {*self.request.stages}:
                    self.progress.finished([plan.edit.id])
                    self.events.done(plan)
                    self._put_result(plan, None)
        return True

    def fail(self, failure: Failure) -> None:
        """Take in that an edit has failed; its later stages are not tried."""
        is_first = not self.failures
        self.failures[failure.id] = failure
        self.progress.failed(failure)
        self.events.failed(failure)
        if is_first:
            page = self.results.page if self.results else None
            self.on_first_failure(replace(self.summary(), report=page))
        self._put_result(self.plans[failure.id], failure)

    def begin(self) -> None:
        """Show on the page of results what is still to come."""
        if self.results:
            results = self.results
            self._tell_results(lambda: results.begin(self.plans.values()))
            self._page_due = min(self._page_due, time.monotonic())  # the first edit shows at once

    def stop_early(self, reason: str, *, interrupted: bool = False) -> None:
        """Note that the run ends before its time."""
        self._stopped, self._interrupted = self._stopped or reason, interrupted

    def summary(self) -> RunSummary:
        """Return what the run has done, by what its plans say is done now."""
        failed = dict(self.failures)
        for name, plan in self.plans.items():
            if name not in failed and (lasting := plan.lasting_failure):
                failed[name] = lasting
        names = [edit.id for edit in self.job.edits]
        settled = {*failed, *(name for name, plan in self.plans.items() if plan.done)}
        done = tuple(name for name in names if name not in failed and self.plans[name].done)
        return RunSummary(
            run_id=self.id,
            job=self.job.name,
            path=str(self.job.path),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._clock, 3),
            done=done,
            failed=tuple(failed[name] for name in names if name in failed),
            bad=self.job.bad,
            unfinished=tuple(name for name in names if name not in settled),
            made=dict(self._made),
            stage_seconds=self.seconds.seen(),
            verdicts=dict(self._verdicts),
            warnings={warning: (*ids,) for warning, ids in self._warnings.items()},
            memory_saved_by=dict(self._memory_saved_by),
            stopped=self._stopped,
            interrupted=self._interrupted,
        )

    def record(self) -> RunSummary:
        """Keep the summary in the store; a store that fails is a reason to stop."""
        summary = self.summary()
        try:
            record_run(self.store, summary)
        except StoreUnavailable as error:
            self.stop_early(f"StoreUnavailable: {error}", interrupted=self._interrupted)
        return self.summary()

    def report(self) -> RunSummary:
        """Write all results, the last that a run does; where that fails, it is stopped early."""
        summary = self._reported()
        self.events.ended(summary)
        return summary

    def _reported(self) -> RunSummary:
        if self.results is None:
            return self.summary()
        try:
            damaged = self.results.finish(
                self.plans.values(), self.summary().failed, banner=self._banner_of_others()
            )
            if len(self.job.order) <= FEW:
                write_edit_pages(self.results, self.plans.values(), renew=False)
        except (ReportUnwritable, StoreUnavailable) as error:
            self.stop_early(str(error), interrupted=self._interrupted)
            return self.summary()
        except KeyboardInterrupt:
            self.stop_early("interrupted", interrupted=True)
            return self.summary()
        for name, reason in damaged.items():
            self.failures[name] = Failure(name, RESULT.name, "ArtifactCorrupt", reason)
        return replace(self.summary(), report=self.results.page)

    def _put_result(self, plan: EditPlan, failure: Failure | None) -> None:
        if self.results:
            results = self.results
            self._tell_results(lambda: results.put(plan, failure))

    def _tell_results(self, write: Callable[[], object]) -> None:
        """Write results, and the page if it is due; what cannot be written now is when all ends."""
        try:
            write()
            if self.results and time.monotonic() >= self._page_due:
                clock = time.monotonic()
                self.results.renew_page(self._banner())
                # A page of very many edits takes its time: it never takes more than a hundredth.
                wait = max(PAGE_SECONDS, 100 * (time.monotonic() - clock))
                self._page_due = time.monotonic() + wait
        except StoreUnavailable:  # the task tries again, or the run stops
            raise
        except Exception as error:  # not even a bug of a page may cost a night
            if self._page_due < float("inf"):
                known = isinstance(error, ReportUnwritable)
                said = str(error) if known else f"the page fails ({type(error).__name__}: {error})"
                self.progress.say(f"{said}; the run goes on, and tries again at its end")
            self._page_due = float("inf")

    def _banner(self) -> str:
        return f"This run goes on: {self.progress.standing.told}."

    def _banner_of_others(self) -> str:
        """Return what other workers may be at, where this run is a shard."""
        if not self.is_shard or self.results is None:
            return ""
        own, rows = self.plans.keys(), self.results.latest()
        # Nobody has noted the edits of parts that have not begun.
        others = self.job.order if self.request.shard else rows
        left = [
            name
            for name in others
            if name not in own and (name not in rows or rows[name]["status"] == "unfinished")
        ]
        return f"{len(left)} edits of other workers are not done yet." if left else ""

    @property
    def _given_up(self) -> list[str]:
        """The edits that failed before and are not tried again in this run."""
        return [n for n, plan in self.plans.items() if n not in self.todo and plan.quarantined]

    def _waiting_for(self, stage: str) -> list[str]:
        """Return the ids of the edits that a stage has to run for.

        There is nothing to do for what is quarantined, unless that is retried or stages are forced.
        """
        force, retry = self.request.force, self.request.retry_failed
        return [
            name
            for name, plan in self.plans.items()
            if (force or plan.to_make)  # most have nothing to do, in a run that goes on
            and (retry or force or not plan.quarantined)
            and (
                stage in plan.to_make
                or (stage in force and plan.stages[stage].status is not Status.OFF)
            )
        ]


def _part(job: Job, request: RunRequest) -> Job:
    """Return a job with one part of its edits; the first part has those that are bad, too."""
    number, total = request.part
    parts = cut_parts(job.edits, total, StageSeconds().of, request.stages)
    return replace(job, edits=parts[number - 1], bad=job.bad if number == 1 else ())


def _claimed(job: Job, store: ArtifactStore, out: str) -> Results:
    try:
        return Results.open(job, store, out)
    except ReportUnwritable as error:  # nothing has been done yet
        raise InvalidRequest(str(error)) from error
