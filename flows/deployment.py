"""Sends a job to workers: the same flow, one run per shard, on the user's Prefect server.

Workers share the store, so a shard that is done twice costs only time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.workers.process import ProcessWorker

from flows.edit_dataset import edit_dataset
from flows.prefect_server import PrefectServer, client_settings
from flows.prefect_settings import PrefectUnavailable, configured_api_url
from flows.proxies import proxies_for
from flows.request import RunRequest
from flows.run import Run
from flows.shards import cut_shards
from stages.jobs.edit import Job
from stages.jobs.selection import Selection

POOL = "adaptivedrag"
DEPLOYMENT = "default"
PROJECT = Path(__file__).resolve().parent.parent
ENTRYPOINT = "flows.edit_dataset.edit_dataset"


def deploy(pool: str = POOL, name: str = DEPLOYMENT) -> str:
    """Register the flow on a process work pool; create the pool if there is none.

    Start a worker per GPU with `prefect worker start --pool POOL --limit 1`.

    Returns:
        The deployment's full name, for `submit`.

    Raises:
        PrefectUnavailable: if no server is configured, or it does not answer.
    """
    with _users_server():
        _ensure_pool(pool)
        flow = Flow.from_source(PROJECT, ENTRYPOINT)
        assert isinstance(flow, Flow)  # a coroutine only where an event loop runs
        deployment = flow.to_deployment(name)
        assert isinstance(deployment, RunnerDeployment)
        deployment.apply(work_pool_name=pool)
    return f"{flow.name}/{name}"


def submit(
    job: Job | Path,
    store: str | Path,
    request: RunRequest,
    *,
    select: Selection = (),
    shards: int = 1,
    deployment: str = f"{edit_dataset.name}/{DEPLOYMENT}",
) -> list[str]:
    """Create a flow run for each shard of what is missing of a job.

    Workers find the job, the store and the folder of results under the same absolute path or URL.

    Args:
        request: `max_failures` holds for each shard.
        select: which edits; all by default. See `select_edits`.
        shards: make at least this many, as far as there are images.

    Returns:
        The ids of the flow runs; none if everything is there or quarantined.

    Raises:
        PrefectUnavailable: if no server is configured, it does not answer, or it does not know
            the deployment.
        InvalidRequest, InvalidEdit, StoreUnavailable, ModelUnavailable, ReportUnwritable: if the
            job cannot be planned.
    """
    out = None if request.out is None else absolute(request.out)
    run = Run.open(job, absolute(store), request.model_copy(update={"out": out}), select=select)
    cut = cut_shards(run.edits, run.seconds.of, request.stages, at_least=shards)
    with _users_server():
        run.begin()
        return [
            _create_run(
                deployment,
                f"{run.job.name} {number}/{len(cut)}",
                {
                    "job": str(run.job.path),
                    "store": run.store.location,
                    "request": run.request.model_dump(mode="json"),
                    "edit_ids": [edit.id for edit in shard],
                },
            )
            for number, shard in enumerate(cut, start=1)
        ]


def absolute(place: str | Path) -> str:
    """Return a folder as an absolute path; a URL as it is."""
    return str(place) if "://" in str(place) else str(Path(place).expanduser().absolute())


def _create_run(deployment: str, name: str, parameters: dict[str, object]) -> str:
    try:
        run = run_deployment(
            deployment, parameters=parameters, flow_run_name=name, timeout=0, as_subflow=False
        )
    except ObjectNotFound as error:
        raise PrefectUnavailable(
            f"The Prefect server knows no deployment {deployment!r}: run `adaptivedrag deploy`."
        ) from error
    assert isinstance(run, FlowRun)
    return str(run.id)


@contextmanager
def _users_server() -> Iterator[None]:
    url = configured_api_url()
    if url is None:
        raise PrefectUnavailable(
            "No Prefect server is configured: start one with `prefect server start`, and set "
            "PREFECT_API_URL to its address, such as http://127.0.0.1:4200/api."
        )
    server = PrefectServer(url)
    with proxies_for(server.host):
        server.wait_until_ready()
        with client_settings(server):
            yield


def _ensure_pool(name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(
                WorkPoolCreate(name=name, type="process", base_job_template=template)
            )
