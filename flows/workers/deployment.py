"""The work pool and the deployment through which jobs reach workers, on the user's server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkerFilter,
    WorkerFilterStatus,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from prefect.workers.process import ProcessWorker

from flows.prefect_server import PrefectServer, client_settings, server_trouble
from flows.prefect_settings import PrefectUnavailable, configured_api_url
from flows.proxies import proxies_for
from flows.workers import POOL
from flows.workers.automation import ensure_automation
from flows.workers.edit_shard import edit_shard

PROJECT = Path(__file__).parents[2]
ENTRYPOINT = "flows.workers.edit_shard.edit_shard"
REQUEST_SECONDS = 20.0
WAIT_SECONDS = 5.0


@contextmanager
def users_server() -> Iterator[SyncPrefectClient]:
    """Yield a client of the server that the user has named; one that does not answer is said.

    Raises:
        PrefectUnavailable: if none is named, it does not answer, does not let us in, or answers an
            error.
    """
    server = PrefectServer(_users_url())
    with proxies_for(server.host):
        server.wait_until_ready()
        quick = {PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS}
        with (
            client_settings(server),
            temporary_settings(quick),
            get_client(sync_client=True) as client,
        ):
            try:
                _check_admitted(client, server)
                yield client
            except httpx.HTTPError as error:
                raise PrefectUnavailable(f"At {server.shown}, {server_trouble(error)}.") from error


def _check_admitted(client: SyncPrefectClient, server: PrefectServer) -> None:
    try:
        client.api_version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.UNAUTHORIZED:
            raise
        raise PrefectUnavailable(
            f"The Prefect server at {server.shown} asks for another password: set "
            "PREFECT_API_AUTH_STRING to what PREFECT_SERVER_API_AUTH_STRING is there."
        ) from error


def await_server(say: Callable[[str], object]) -> None:
    """Return as soon as the server that the user has named answers; say once that it does not.

    Raises:
        PrefectUnavailable: if none is named.
    """
    server, said = PrefectServer(_users_url()), ""
    while True:
        try:
            return server.wait_until_ready()
        except PrefectUnavailable as error:
            if str(error) != said:
                said = str(error)
                say(f"{said} This worker waits for it.")


def await_deployment(client: SyncPrefectClient, pool: str, say: Callable[[str], object]) -> UUID:
    """Return the id of the deployment of a pool, as soon as the server answers no error.

    Says what else is in the way of work.

    Raises:
        PrefectUnavailable: if the server does not know it.
    """
    said = ""
    while True:
        try:
            deployment = deployment_of(client, pool)
            if fault := pool_fault(client, pool):
                say(f"No work comes yet: {fault}")
            return deployment
        except httpx.HTTPError as error:
            if server_trouble(error) != said:
                said = server_trouble(error)
                say(f"{said}; this worker waits")
            time.sleep(WAIT_SECONDS)


def deploy(pool: str = POOL) -> str:
    """Register the flow of a shard with a process work pool; create the pool if there is none.

    Returns:
        The deployment's full name.

    Raises:
        PrefectUnavailable: if no server is configured, or it does not answer.
    """
    with users_server() as client:
        _ensure_pool(client, pool)
        flow = Flow.from_source(PROJECT, ENTRYPOINT)
        assert isinstance(flow, Flow)  # a coroutine only where an event loop runs
        deployment = flow.to_deployment(pool)
        assert isinstance(deployment, RunnerDeployment)
        name = deployment.apply(work_pool_name=pool)
        assert isinstance(name, UUID)
        ensure_automation(client, name, pool)
    return f"{flow.name}/{pool}"


def deployment_of(client: SyncPrefectClient, pool: str) -> UUID:
    """Return the id of the deployment of a pool.

    Raises:
        PrefectUnavailable: if the server does not know it.
    """
    try:
        return client.read_deployment_by_name(f"{edit_shard.name}/{pool}").id
    except ObjectNotFound as error:
        raise PrefectUnavailable(
            f"The Prefect server knows no deployment of the pool {pool!r}: run `adaptivedrag "
            f"deploy --pool {pool}`."
        ) from error


def flow_runs_by_state(client: SyncPrefectClient, pool: str) -> dict[str, int]:
    """Count the flow runs of a pool that wait or are at work.

    Raises:
        HTTPError: if the server does not answer.
    """
    return {
        state.value.lower(): client.count_flow_runs(
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state]))
            ),
        )
        for state in (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING)
    }


def workers_online(client: SyncPrefectClient, pool: str) -> set[str]:
    """Return the names of a pool's workers that the server has heard of lately.

    Raises:
        HTTPError: if the server does not answer.
    """
    online = WorkerFilter(status=WorkerFilterStatus(any_=[WorkerStatus.ONLINE]))
    return {worker.name for worker in client.read_workers_for_work_pool(pool, online)}


def pool_fault(client: SyncPrefectClient, name: str) -> str:
    """Say why no worker gets anything from a pool; "" if they do.

    Raises:
        HTTPError: if the server does not answer.
    """
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        return f"there is no work pool {name!r}: run `adaptivedrag deploy --pool {name}`"
    if pool.is_paused:
        return f"the work pool {name!r} is paused: resume it on Prefect's page"
    if pool.concurrency_limit == 0:
        return f"the work pool {name!r} has a limit of 0: raise it on Prefect's page"
    return ""


def _users_url() -> str:
    url = configured_api_url()
    if url is None:
        raise PrefectUnavailable(
            "No Prefect server is configured: start one here with `adaptivedrag cluster up`, or "
            "set PREFECT_API_URL to the address of another, such as http://127.0.0.1:4200/api."
        )
    return url


def _ensure_pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template)
        )
