"""A worker: takes shards from a work pool, and does each in a process of its own, one per GPU.

Prefect's own worker ends when its server answers errors for long, and takes the work at hand with
it; this one waits. The processes hold the read end of a pipe of the worker's: none outlives it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Pending
from pydantic import ValidationError

from artifacts import StoreUnavailable, digest_bytes
from flows.events import FOLDER as EVENTS_FOLDER
from flows.outcomes import ALL_DONE, BUG, NOT_STARTED
from flows.prefect_server import server_trouble
from flows.workers import worker_name
from flows.workers.deployment import (
    await_deployment,
    await_server,
    flow_runs_by_state,
    users_server,
    workers_online,
)
from flows.workers.metrics import serve_metrics
from flows.workers.revival import Reviver, Say
from flows.workers.shard import JOB_TAG
from stages.reports.wording import count

PACKAGE_ROOT = Path(__file__).parents[2]

TROUBLE = (httpx.HTTPError, PrefectException, StoreUnavailable, ValidationError, OSError)
"""What passes, or is another's: said once, and tried again."""


SAY_AGAIN_SECONDS = 600.0
WATCHMEN = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How often a worker does things, and how long it waits; in seconds."""

    poll: float = 3.0
    idle: float = 15.0
    """The longest pause between two looks for work, where there was none for long."""
    cancel: float = 15.0
    """Between two looks at what users have canceled."""
    stagger: float = 2.0
    revive: float = 10.0
    show: float = 30.0
    """Between two signs of life to Prefect's page of the pool."""
    count: float = 60.0
    """Between two counts of the workers."""
    leave: float = 25.0
    """From the wish to leave until the processes are killed."""
    last_word: float = 3.0
    """From then on until this process ends, whatever it waits for."""
    rest: float = 60.0
    """The longest pause after processes that died one after the other."""
    refuse: float = 600.0
    """For how long a place leaves a job alone after it has refused a shard of it."""


@dataclass
class Every:
    """Says when something is due that is done again and again; at once for the first time."""

    seconds: float
    _next: float = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time again, which is then taken as done."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True


@dataclass
class Worker:
    """One process per place, under this one.

    Attributes:
        places: what each process has in its environment beside ours, such as its GPU.
        reviver: brings lost shards back, whoever had them.
    """

    pool: str
    places: Sequence[Mapping[str, str]]
    reviver: Reviver
    say: Say
    pace: Pace = field(default_factory=Pace)
    name: str = field(default_factory=lambda: worker_name(os.getpid()))
    _leaving: threading.Event = field(default_factory=threading.Event)
    _at_hand: set[UUID] = field(default_factory=set)
    _canceled: set[UUID] = field(default_factory=set)
    _said: dict[str, float] = field(default_factory=dict)

    def work(self) -> int:
        """Do shards until SIGTERM or Ctrl-C; then let each process end its step, and leave.

        Returns:
            The exit code: 0 if somebody ended this.
        """
        reads, lifeline = os.pipe()
        posts = [
            # Prefect's settings are those of the context.
            threading.Thread(target=copy_context().run, args=(self._serve, number, place, reads))
            for number, place in enumerate(self.places)
        ]
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._leave)
        for post in posts:
            post.start()
        over = threading.Event()
        threading.Thread(target=self._end_in_time, args=(over,), daemon=True).start()
        try:
            self._keep_watch(posts)
        finally:
            over.set()
            was_asked = self._leaving.is_set()
            self._leaving.set()
        os.close(lifeline)
        return ALL_DONE if was_asked else BUG

    def _keep_watch(self, posts: Sequence[threading.Thread]) -> None:
        """Bring lost shards back, and show that this worker lives, until no post is left."""
        pace = self.pace
        counts, revives, shows, cancels = map(
            Every, (pace.count, pace.revive, pace.show, pace.cancel)
        )
        watches = True
        with get_client(sync_client=True) as client:
            while any(post.is_alive() for post in posts):
                if counts.due:
                    watches = self._try(lambda: self._is_watchman(client)) is not False
                if revives.due and watches:
                    self._try(lambda: self.reviver.look(client))
                if shows.due:
                    self._try(lambda: self._show(client))
                if cancels.due and self._at_hand:
                    self._try(lambda: self._note_canceled(client))
                time.sleep(0.5)  # Python hears signals while it waits

    def _leave(self, _signal: int, _frame: FrameType | None) -> None:
        self._leaving.set()

    def _end_in_time(self, over: threading.Event) -> None:
        """End this process although requests wait for a server that does not answer."""
        self._leaving.wait()
        if not over.wait(self.pace.leave + self.pace.last_word):
            os._exit(ALL_DONE)  # its processes are gone, or go with the lifeline

    def _is_watchman(self, client: SyncPrefectClient) -> bool:
        """Return whether this worker is one of those that look for lost shards.

        A few of very many do, on any machines, so that neither server nor store is kept busy.
        """
        names = {self.name, *workers_online(client, self.pool)}
        ranked = sorted(names, key=lambda name: digest_bytes("worker", name.encode()))
        return self.name in ranked[:WATCHMEN]

    def _show(self, client: SyncPrefectClient) -> None:
        client.send_worker_heartbeat(self.pool, self.name, self.pace.show)

    def _note_canceled(self, client: SyncPrefectClient) -> None:
        """Note which of the flow runs at hand a user has canceled."""
        types = [StateType.CANCELLING, StateType.CANCELLED]
        wanted = FlowRunFilter(
            id=FlowRunFilterId(any_=list(self._at_hand)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
        )
        self._canceled.update(run.id for run in client.read_flow_runs(flow_run_filter=wanted))

    def _serve(self, number: int, place: Mapping[str, str], lifeline: int) -> None:
        """Do one shard after the other at a place; after a refusal, first those of other jobs."""
        self._leaving.wait(number * self.pace.stagger)
        deaths, pause = 0, self.pace.poll
        refused: dict[str, float] = {}
        with get_client(sync_client=True) as client:
            while not self._leaving.is_set():
                now = time.monotonic()
                left_alone = {tag for tag, until in refused.items() if now < until}
                run = self._try(partial(self._take, client, left_alone))
                if run is None:
                    self._leaving.wait(pause)
                    pause = min(1.2 * pause, self.pace.idle)
                    continue
                pause = self.pace.poll
                code = self._perform(client, run, place, lifeline)
                if code == NOT_STARTED:  # Prefect's state may be that of its successor by now
                    again = time.monotonic() + self.pace.refuse
                    refused |= {tag: again for tag in run.tags if tag.startswith(JOB_TAG)}
                    continue
                deaths = deaths + 1 if code else 0
                if deaths:
                    self._leaving.wait(min(2.0**deaths, self.pace.rest))

    def _take(self, client: SyncPrefectClient, left_alone: set[str]) -> FlowRun | None:
        """Claim the next flow run of the pool that has none of the tags to be left alone."""
        try:
            found = client.get_scheduled_flow_runs_for_work_pool(
                self.pool, scheduled_before=datetime.now(UTC)
            )
        except ObjectNotFound:
            return None
        for each in found:
            if not left_alone.isdisjoint(each.flow_run.tags):
                continue
            claim: OrchestrationResult[Any] = client.set_flow_run_state(each.flow_run.id, Pending())
            if claim.status is SetStateStatus.ACCEPT:
                return client.read_flow_run(each.flow_run.id)
        return None

    def _perform(
        self, client: SyncPrefectClient, run: FlowRun, place: Mapping[str, str], lifeline: int
    ) -> int:
        """Do a shard in a process of its own; return that process's exit code."""
        process = self._try(lambda: _start(run, place, lifeline))
        if process is None:  # no memory for one
            self._try(lambda: self.reviver.note_end(client, run))
            return BUG
        self._at_hand.add(run.id)
        where = f"{self.name}:{process.pid}"
        self._try(lambda: client.update_flow_run(run.id, infrastructure_pid=where))
        self._follow(run, process)
        self._at_hand.discard(run.id)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it may have left behind
        if run.id in self._canceled:
            self._canceled.discard(run.id)
            self._try(lambda: client.set_flow_run_state(run.id, Cancelled(), force=True))
        else:
            self._try(lambda: self.reviver.note_end(client, run))
        return process.returncode

    def _follow(self, run: FlowRun, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a process has ended; end it if we leave, or a user cancels its flow run.

        Asks no server, which may keep one waiting.
        """
        deadline = float("inf")
        while process.poll() is None:
            is_wanted = run.id not in self._canceled and not self._leaving.is_set()
            if deadline == float("inf") and not is_wanted:
                deadline = time.monotonic() + self.pace.leave
                # What is over has its last word to Prefect still to say.
                if not self._try(lambda: self.reviver.end_of(run)):
                    process.terminate()
            if time.monotonic() > deadline:
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)

    def _try(self, call: Callable[[], T]) -> T | None:
        """Call; say what is in the way, but not again and again."""
        try:
            return call()
        except TROUBLE as error:
            told = f"{server_trouble(error)}; trying again"
            if time.monotonic() >= self._said.get(told, 0.0):
                self._said[told] = time.monotonic() + SAY_AGAIN_SECONDS
                self.say(told)
            return None


def _start(run: FlowRun, place: Mapping[str, str], lifeline: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows.workers.child", str(run.id), str(lifeline)],
        env=_environment(place),
        pass_fds=(lifeline,),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _environment(place: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process: ours, with what its place adds."""
    search_path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    return {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        **os.environ,
        **place,
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PYTHONPATH": search_path,
    }


def serve_pool(
    pool: str, places: Sequence[Mapping[str, str]], say: Say, metrics: str | None = None
) -> int:
    """Be a worker of a pool, as soon as its server answers, until somebody ends this process.

    Args:
        metrics: where Prometheus may ask, such as "127.0.0.1:9100".

    Returns:
        The exit code.

    Raises:
        PrefectUnavailable: if no server is named, or it does not know the pool's deployment.
        InvalidRequest: if nobody can ask at `metrics`.
    """
    await_server(say)
    with ExitStack() as stack:
        client = stack.enter_context(users_server())
        reviver = Reviver(await_deployment(client, pool, say), say)
        if metrics is not None:
            events = stack.enter_context(TemporaryDirectory(prefix="adaptivedrag-events-"))
            port = serve_metrics(metrics, Path(events), partial(flow_runs_by_state, client, pool))
            say(f"Prometheus may ask at port {port}")
            places = [{**place, EVENTS_FOLDER: events} for place in places]
        at_once = count(len(places), "shard")
        say(f"A worker of the pool {pool}: {at_once} at once. SIGTERM or Ctrl-C lets it leave.")
        return Worker(pool, places, reviver, say).work()
