"""What a cluster's work pool is at: its workers, and the flow runs at hand and waiting."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from flows.cluster.home import Access
from flows.prefect_server import PrefectServer, client_settings
from flows.proxies import proxies_for
from flows.workers import POOL

REMEMBERED = timedelta(hours=1)
"""How long a worker is named that is not online any more."""


@dataclass(frozen=True)
class WorkerSeen:
    """A worker of the pool, on any machine; `heard` is when the server last did."""

    name: str
    is_online: bool
    heard: datetime | None


@dataclass(frozen=True)
class RunSeen:
    """A flow run at hand; `where` is its worker and process, "" while no process has it."""

    name: str
    since: datetime | None
    where: str


@dataclass(frozen=True)
class Queue:
    """What the pool is at; `waiting` counts flow runs that no worker has taken yet."""

    workers: tuple[WorkerSeen, ...]
    at_hand: tuple[RunSeen, ...]
    waiting: int


def queue_of(cluster: Access) -> Queue:
    """Ask a cluster's server, which has to answer, what the pool is at."""
    server = PrefectServer(cluster.api_url)
    password = {PREFECT_API_AUTH_STRING: cluster.password} if cluster.password else {}
    with (
        proxies_for(server.host),
        client_settings(server),
        temporary_settings(password),
        get_client(sync_client=True) as client,
    ):
        workers = client.read_workers_for_work_pool(POOL)
        at_hand: list[FlowRun] = []
        while page := client.read_flow_runs(
            flow_run_filter=_in_states(StateType.RUNNING, StateType.PENDING),
            work_pool_filter=_of_pool(),
            offset=len(at_hand),
        ):
            at_hand += page
        waiting = client.count_flow_runs(
            flow_run_filter=_in_states(StateType.SCHEDULED), work_pool_filter=_of_pool()
        )
    return Queue(
        tuple(
            WorkerSeen(each.name, each.status is WorkerStatus.ONLINE, each.last_heartbeat_time)
            for each in workers
            if each.status is WorkerStatus.ONLINE or _is_fresh(each.last_heartbeat_time)
        ),
        tuple(map(_seen, at_hand)),
        waiting,
    )


def _is_fresh(heard: datetime | None) -> bool:
    return heard is not None and datetime.now(UTC) - heard < REMEMBERED


def _seen(run: FlowRun) -> RunSeen:
    return RunSeen(run.name, run.start_time, run.infrastructure_pid or "")


def _in_states(*types: StateType) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*types])))


def _of_pool() -> WorkPoolFilter:
    return WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
