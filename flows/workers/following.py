"""Follows a job that was submitted, to its end: brings lost shards back, and says how all ended."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient

from artifacts import StoreUnavailable
from flows.job_status import JobStatus, status_headline
from flows.outcomes import RunSummary, ended
from flows.prefect_server import server_trouble
from flows.run import PAGE_SECONDS, Run
from flows.workers.deployment import deployment_of, users_server
from flows.workers.revival import Reviver, Say
from flows.workers.shard import Errand
from flows.workers.submission import Submission, is_going, outstanding
from stages.jobs.selection import Selection
from stages.reports.place import ReportUnwritable
from stages.reports.wording import count


@contextmanager
def following(made: Submission, pool: str, say: Say) -> "Iterator[Following]":
    """Follow a submission with a client of the user's server until the block ends.

    Raises:
        PrefectUnavailable: if that does not answer.
    """
    with users_server() as client:
        yield Following(client, deployment_of(client, pool), made.run, made.tag, say)


@dataclass
class Following:
    """A look at a submission, again and again.

    Attributes:
        run: what was submitted, as it was planned.
        tag: what its flow runs have in common.
    """

    client: SyncPrefectClient
    deployment: UUID
    run: Run
    tag: str
    say: Say
    errands: dict[str, Errand] = field(default_factory=dict)
    """Those seen, by their runs' ids."""
    _trouble: str = ""
    _page_due: float = 0.0

    def __post_init__(self) -> None:
        """Have a look ready for what is lost."""
        self._reviver = Reviver(self.deployment, self.say)

    def is_over(self, status: JobStatus) -> bool:
        """Bring back what is lost, renew the page, and tell whether nobody is at work any more.

        While the server does not answer, the store alone tells.
        """
        self._renew_page(status)
        try:
            self._reviver.look(self.client)
            found = outstanding(self.client, self.deployment, self.tag)
        except httpx.HTTPError as error:
            self._complain(f"{server_trouble(error)}; the workers go on, and this asks again")
            return status.is_over
        self._complain("")
        errands = [Errand.model_validate(each.parameters) for each in found]
        self.errands |= {errand.shard.run_id: errand for errand in errands}
        return not any(is_going(self.run.store, errand) for errand in errands)

    def summary(self, select: Selection = ()) -> RunSummary:
        """Write all results, and return how the job ended, by what the store has of it."""
        asked = self.run.request.model_copy(update={"retry_failed": False, "force": ()})
        run = Run.open(self.run.job.path, self.run.store.location, asked, select=select)
        ends = [end for name in self.errands if (end := ended(run.store, name))]
        told = [end for end in ends if not end.interrupted]
        failures = {failure.id: failure for end in told for failure in end.failed}
        for name in failures.keys() & run.plans.keys():
            if not run.plans[name].done:
                run.failures[name] = failures[name]
        for end in told:
            if end.stopped:
                run.stop_early(end.stopped)
        if left := [edit.id for edit in run.edits if edit.id not in run.failures]:
            run.stop_early(f"{count(len(left), 'edit')} left: flow runs were canceled")
        return replace(
            run.report(),
            seconds=self.run.summary().seconds,
            made=_total(end.made for end in ends),
            verdicts=_total(end.verdicts for end in ends),
        )

    def _renew_page(self, status: JobStatus) -> None:
        if self.run.results and time.monotonic() >= self._page_due:
            self._page_due = time.monotonic() + PAGE_SECONDS
            try:
                self.run.results.renew_page(f"Workers go on: {status_headline(status)}.")
            except (ReportUnwritable, StoreUnavailable) as error:
                self.say(f"{error}; the page is renewed at the end")

    def _complain(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self.say(trouble)
        self._trouble = trouble


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return total
