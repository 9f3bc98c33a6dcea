"""Follows a job that was submitted, to its end: brings lost shards back, and says how all ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from prefect.client.orchestration import SyncPrefectClient

from artifacts import StoreUnavailable
from flows.job_status import JobStatus, status_headline
from flows.outcomes import RunSummary
from flows.prefect_server import server_trouble
from flows.run import PAGE_SECONDS, Run
from flows.workers.closing import summary_of
from flows.workers.deployment import deployment_of, users_server
from flows.workers.revival import Reviver, Say
from flows.workers.submission import Submission, errand_of, is_going, outstanding
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
        reviver = Reviver(deployment_of(client, pool), say)
        yield Following(client, reviver, made.run, made.tag, say, {*made.run_ids})


@dataclass
class Following:
    """A look at a submission, again and again.

    Attributes:
        run: what was submitted, as it was planned.
        tag: what its flow runs have in common.
        run_ids: of their runs in the store, as far as they are known.
    """

    client: SyncPrefectClient
    reviver: Reviver
    run: Run
    tag: str
    say: Say
    run_ids: set[str]
    _trouble: str = ""
    _page_due: float = 0.0

    def is_over(self, status: JobStatus) -> bool:
        """Bring back what is lost, renew the page, and tell whether nobody is at work any more.

        While the server does not answer, the store alone tells.
        """
        self._renew_page(status)
        try:
            self.reviver.look(self.client)
            found = outstanding(self.client, self.reviver.deployment, self.tag)
        except httpx.HTTPError as error:
            self._complain(f"{server_trouble(error)}; the workers go on, and this asks again")
            return status.is_over
        errands = [errand_of(each) for each in found]
        self.run_ids.update(errand.shard.run_id for errand in errands)
        refused = [errand.shard.refusals[-1] for errand in errands if errand.shard.refusals]
        said = f"{count(len(refused), 'shard')} refused so far, and left to other workers"
        self._complain(f"{said}: {refused[0]}" if refused else "")
        return not any(is_going(self.run.store, errand) for errand in errands)

    def summary(self, select: Selection = ()) -> RunSummary:
        """Write all results, and return how the job ended, by what the store has of it."""
        return summary_of(self.run, self.run_ids, select, "flow runs were canceled")

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
