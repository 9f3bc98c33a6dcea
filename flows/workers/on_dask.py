"""Does a job on the workers of a Dask scheduler: one task per shard of whole images.

Plain `distributed`, without Prefect: its tasks would have to reach a Prefect server from every
machine, and what they record is in the store anyway. The scheduler gives the shard of a worker that
died to another one, which finds in the store what was finished. Ids are all that is sent.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from artifacts import ArtifactStore, StoreUnavailable
from flows.beat import beating
from flows.chunks import do_patiently
from flows.dispatch import carry_out
from flows.job_status import status_headline, status_of
from flows.outcomes import InvalidRequest, RunSummary, ended
from flows.request import RunRequest
from flows.run import PAGE_SECONDS, Run, StoppedEarly
from flows.shards import cut_shards
from flows.signals import stopping
from flows.workers.closing import summary_of
from flows.workers.opening import open_run
from flows.workers.shard import Errand, absolute
from stages.failures import Failure
from stages.jobs.edit import Job
from stages.jobs.selection import Selection
from stages.reports.place import ReportUnwritable
from stages.reports.wording import count

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10.0
LOOK_SECONDS = 1.0
SCHEDULER_GONE = "the Dask scheduler does not answer any more; start it, and run again"

# In the process of a worker, by the id of the run that submitted them.
_lock = threading.Lock()
_at_work: defaultdict[str, list[Run]] = defaultdict(list)
_stopped: set[str] = set()


def do_shard(whole: str, document: dict[str, Any]) -> str:
    """Do a shard, in the process of a worker.

    Args:
        whole: id of the run that submitted it.
        document: an `Errand`, as JSON.

    Returns:
        The id of its run, of which the store has the summary.

    Raises:
        Refused, Outdated: if this machine or the job is not what it was planned with.
    """
    errand = Errand.model_validate(document).again()  # each attempt is a run of its own
    run_id = errand.shard.run_id
    with beating(ArtifactStore.open(errand.store, create=False), run_id):
        run = open_run(errand)
        with _heard(run, whole):
            carry_out(run, partial(do_patiently, run))
            run.report()
    return run_id


def stop_shards(whole: str) -> None:
    """Let the shards of a run that this process does end after their step, and others at once."""
    with _lock:
        _stopped.add(whole)
        for run in _at_work[whole]:
            run.stop.ask()


@contextmanager
def _heard(run: Run, whole: str) -> Iterator[None]:
    with _lock:
        _at_work[whole].append(run)
        if whole in _stopped:
            run.stop.ask()
    try:
        yield
    finally:
        with _lock:
            _at_work[whole].remove(run)


def run_on_dask(
    job: Job | Path,
    store: str | Path,
    request: RunRequest,
    address: str,
    *,
    select: Selection = (),
    console: Console,
    on_first_failure: Callable[[RunSummary], object] = lambda _summary: None,
) -> RunSummary:
    """Do what is missing of a job on the workers of a scheduler; see `run_job.run`.

    They find the job, the store and the folder of results under the same absolute path or URL.

    Raises:
        InvalidRequest: if no scheduler answers at the address.
        InvalidEdit, StoreUnavailable, ModelUnavailable, ReportUnwritable: if the job cannot be
            planned.
    """
    out = None if request.out is None else absolute(request.out)
    asked = request.model_copy(update={"out": out})
    run = Run.open(job, absolute(store), asked, select=select, console=console)
    run.on_first_failure = on_first_failure
    if not run.todo:
        run.record()
        return run.report()
    with _client(address) as client, stopping(run, console):
        return _Crew(run, client, console).work(select)


@contextmanager
def _client(address: str) -> "Iterator[Client]":
    try:
        from distributed import Client
    except ImportError as error:
        raise InvalidRequest(
            "--dask needs distributed, which is not here: pip install 'adaptivedrag[dask]'"
        ) from error
    for name in ("distributed", "distributed.client"):  # the run says what matters
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequest(
            f"No Dask scheduler answers at {address!r}: start one with `dask scheduler`, and give "
            "its address, such as tcp://127.0.0.1:8786"
        ) from error
    with client:
        yield client


@dataclass
class _Crew:
    """The workers of a scheduler, at work on the shards of a run."""

    run: Run
    client: "Client"
    console: Console
    run_ids: list[str] = field(default_factory=list)
    """Of the shards that are over."""
    failures: list[Failure] = field(default_factory=list)
    why_stopped: str = ""
    _said: str = ""
    _due: float = 0.0

    def work(self, select: Selection) -> RunSummary:
        """Have the shards done, and return how all ended."""
        self.run.begin()
        self._note_workers()
        lost = self._followed(self._submitted())
        for reason in dict.fromkeys(lost):
            self.console.print(f"A shard could not be done: {reason}", markup=False)
        why_left = self.why_stopped or next(iter(lost), "their worker said nothing")
        summary = summary_of(self.run, self.run_ids, select, why_left)
        return replace(summary, interrupted=self.run.stop.asked)

    def _note_workers(self) -> None:
        threads = self.client.nthreads().values()
        if not threads:
            self.console.print("No Dask worker is there yet: the work begins when one joins.")
        if any(number > 1 for number in threads):
            self.console.print("Threads of a Dask worker share its models: use --nthreads 1.")

    def _submitted(self) -> "set[Future[str]]":
        run, workers = self.run, len(self.client.nthreads())
        shards = cut_shards(run.edits, run.seconds.of, run.request.stages, at_least=workers)
        # The time of the whole run is looked at here.
        request = run.request.model_copy(update={"deadline": None, "budget": None})
        errands = [
            Errand.of(run, shard).model_copy(update={"request": request}) for shard in shards
        ]
        documents = [errand.model_dump(mode="json") for errand in errands]
        return {*self.client.map(partial(do_shard, run.id), documents, pure=False)}

    def _followed(self, waiting: "set[Future[str]]") -> list[str]:
        """Wait for all shards; return why those are lost that nobody could do."""
        from distributed import wait

        lost = []
        while waiting:
            with suppress(TimeoutError, CancelledError):
                wait(waiting, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
            over = {future for future in waiting if future.done()}
            waiting = waiting - over
            lost += [why for future in over if (why := self._why_lost(future))]
            if self._is_to_stop():
                self._stop(waiting)
            self._show()
        return lost

    def _why_lost(self, future: "Future[str]") -> str:
        """Take in how a shard ended; return why nobody could do it, or ""."""
        if future.cancelled():
            return "" if self.why_stopped else SCHEDULER_GONE
        if error := future.exception():
            return " ".join(f"{type(error).__name__}: {error}".split())
        self._take(future.result())
        return ""

    def _take(self, run_id: str) -> None:
        self.run_ids.append(run_id)
        end = ended(self.run.store, run_id)
        if end is None or not end.failed:
            return
        if not self.failures:
            self.run.on_first_failure(replace(self.run.summary(), failed=end.failed))
        self.failures += end.failed

    def _is_to_stop(self) -> bool:
        """Tell whether somebody asked for it, time is up, or too many edits failed."""
        most = self.run.most_failures
        try:
            self.run.stop.check()
            if most is not None and len(self.failures) > most:
                raise StoppedEarly(
                    f"{count(len(self.failures), 'edit')} failed; at most {most} may"
                )
        except StoppedEarly as stop:
            self.why_stopped = self.why_stopped or str(stop)
        return bool(self.why_stopped)

    def _stop(self, waiting: "set[Future[str]]") -> None:
        """Let all shards end after their step; without a worker, they are over."""
        with suppress(OSError):  # a scheduler that is gone
            if self.client.nthreads():  # those that joined since the last look, too
                self.client.run(stop_shards, self.run.id, on_error="ignore")
            else:
                self.client.cancel([*waiting])

    def _show(self) -> None:
        """Say how far the job is, and renew its page."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PAGE_SECONDS
        try:
            line = status_headline(status_of(self.run.job, self.run.store))
            if line != self._said:
                self.console.print(line, markup=False, highlight=False)
            self._said = line
            if self.run.results:
                self.run.results.renew_page(f"Dask workers go on: {line}.")
        except (ReportUnwritable, StoreUnavailable) as error:
            self.console.print(f"{error}; the run goes on", markup=False)
