"""Sends a job to workers: the same flow, one run per shard, on a Prefect server of the user's.

Workers share the store, so a shard that is done twice costs time and nothing else.
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

from artifacts import ArtifactStore
from flows.edit_dataset import edit_dataset
from flows.outcomes import chosen_stages, only_failed
from flows.prefect_server import (
    PrefectServer,
    PrefectUnavailable,
    client_settings,
    configured_api_url,
)
from flows.shards import cut_shards
from flows.watch import watch_over
from stages.jobs.edit import select_edits
from stages.jobs.reader import load_job

POOL = "adaptivedrag"
DEPLOYMENT = "default"
PROJECT = Path(__file__).resolve().parent.parent
ENTRYPOINT = "flows.edit_dataset.edit_dataset"


def deploy(pool: str = POOL, name: str = DEPLOYMENT) -> str:
    """Register the flow on a process work pool, which is made if it is not there.

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
    job: Path,
    *,
    store_location: str | Path,
    shards: int = 1,
    only: str | None = None,
    from_stage: str | None = None,
    select: str | None = None,
    retry_failed: bool = False,
    force: bool = False,
    device: str = "cpu",
    max_failures: int | None = None,
    stage_timeout: float | None = None,
    deployment: str = f"{edit_dataset.name}/{DEPLOYMENT}",
) -> list[str]:
    """Create a flow run for each shard of what is missing of a job.

    Workers find the job and the store under the same absolute path or URL.

    Args:
        shards: make at least so many, as far as there are images.
        only, from_stage, select, retry_failed, force: as of `flows.run_job.run`.
        max_failures: a shard stops once more of its edits have failed.
        stage_timeout: seconds that a stage may take for one edit.

    Returns:
        The ids of the flow runs; none if everything is there or quarantined.

    Raises:
        PrefectUnavailable: if no server is configured, it does not answer, or it does not know
            the deployment.
        InvalidRequest: for stages that cannot be chosen so.
        InvalidEdit, StoreUnavailable, ModelUnavailable: if the job cannot be planned.
    """
    stages, forced = chosen_stages(only, from_stage, force)
    found = load_job(job)
    found = found if select is None else select_edits(found, select)
    location = str(store_location)
    location = location if "://" in location else str(Path(location).expanduser().absolute())
    store = ArtifactStore.open(location)
    if retry_failed:
        found = only_failed(store, found)
    watch = watch_over(found, store, stages, forced=forced, retry=retry_failed)
    todo = [edit for edit in found.edits if edit.id in watch.todo]
    cut = cut_shards(todo, watch.seconds.of, stages, at_least=shards) if todo else []
    settings: dict[str, object] = {
        "job": str(found.path),
        "store": location,
        "device": device,
        "stages": list(stages),
        "forced": list(forced),
        "retry": retry_failed,
        "max_failures": max_failures,
        "stage_timeout": stage_timeout,
    }
    with _users_server():
        return [
            _create_run(
                deployment,
                f"{found.name} {number}/{len(cut)}",
                settings | {"edit_ids": [edit.id for edit in shard]},
            )
            for number, shard in enumerate(cut, start=1)
        ]


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
