"""Sends a job to workers: one flow run per shard, on the user's Prefect server.

Workers share the store, so a shard that is done twice costs only time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Scheduled

from artifacts import ArtifactStore, digest_json
from flows.outcomes import ended
from flows.request import RunRequest
from flows.run import Run
from flows.shards import cut_shards
from flows.states import SETTLED
from flows.workers import POOL
from flows.workers.deployment import deployment_of, pool_fault, users_server, workers_online
from flows.workers.revival import AT_WORK, flow_runs
from flows.workers.shard import Errand, absolute
from stages.jobs.edit import Job
from stages.jobs.selection import Selection

CLOCKS_DIFFER = timedelta(hours=1)
"""By no more than this, anywhere. A flow run of the future, by the server's clock, would wait."""
OUTSTANDING = [StateType.SCHEDULED, StateType.PAUSED, *AT_WORK]


@dataclass(frozen=True)
class Submission:
    """What became of a job that was submitted.

    Attributes:
        run: its plans, and where its results go.
        tag: what all its flow runs have in common.
        created: ids of the flow runs that were made.
        run_ids: of their runs in the store, and of those at hand.
        edits: how many edits they have.
        at_hand: how many edits earlier flow runs have that wait or are at work.
        fault: why no worker takes anything of the pool now; "" if they do.
    """

    run: Run
    tag: str
    created: tuple[str, ...]
    run_ids: frozenset[str]
    edits: int
    at_hand: int
    fault: str


def submit(
    job: Job | Path,
    store: str | Path,
    request: RunRequest,
    *,
    select: Selection = (),
    shards: int = 1,
    pool: str = POOL,
) -> Submission:
    """Create a flow run for each shard of what is missing of a job and that nobody has yet.

    Workers find the job, the store and the folder of results under the same absolute path or URL.

    Args:
        request: `max_failures` holds for each shard.
        select: which edits; all by default. See `select_edits`.
        shards: make at least this many, as far as there are images.

    Raises:
        PrefectUnavailable: if no server is configured, it does not answer, or it does not know
            the deployment.
        InvalidRequest, InvalidEdit, StoreUnavailable, ModelUnavailable, ReportUnwritable: if the
            job cannot be planned.
    """
    out = None if request.out is None else absolute(request.out)
    run = Run.open(job, absolute(store), request.model_copy(update={"out": out}), select=select)
    errand = Errand.of(run, run.edits)
    with users_server() as client:
        deployment = deployment_of(client, pool)
        fault = pool_fault(client, pool)
        if not fault and not workers_online(client, pool):
            fault = f"none is online; start one with `adaptivedrag worker --pool {pool}`"
        found = outstanding(client, deployment, errand.tag)
        at_hand = [each for each in map(errand_of, found) if is_going(run.store, each)]
        taken = {name for each in at_hand for name in each.shard.edits}
        free = [edit for edit in run.edits if edit.id not in taken]
        cut = cut_shards(free, run.seconds.of, request.stages, at_least=shards)
        run.begin()
        created: dict[str, Errand] = {}
        for number, shard in enumerate(cut, start=1):
            own, name = Errand.of(run, shard), f"{run.job.name} {number}/{len(cut)}"
            flow_run = _create(client, deployment, own, name, run)
            if _does(flow_run, own):
                created[str(flow_run.id)] = own
            else:
                at_hand.append(errand_of(flow_run))
    edits = sum(len(each.shard.edits) for each in created.values())
    return Submission(
        run=run,
        tag=errand.tag,
        created=tuple(created),
        run_ids=frozenset(each.shard.run_id for each in (*at_hand, *created.values())),
        edits=edits,
        at_hand=len(run.edits) - edits,
        fault=fault,
    )


def _create(
    client: SyncPrefectClient, deployment: UUID, errand: Errand, name: str, run: Run
) -> FlowRun:
    """Create the flow run of an errand; return another's of the same edits if that was quicker."""
    key = digest_json("shard", [errand.tag, *errand.shard.edits.items()])
    while True:
        made = client.create_flow_run_from_deployment(
            deployment,
            parameters=errand.model_dump(mode="json"),
            name=name,
            tags=[run.job.name, errand.tag],
            state=Scheduled(scheduled_time=datetime.now(UTC) - CLOCKS_DIFFER),
            idempotency_key=key,
        )
        if _does(made, errand) or _is_outstanding(made, run.store):
            return made
        key = digest_json("shard", [key, str(made.id)])  # that one is over


def _does(flow_run: FlowRun, errand: Errand) -> bool:
    return errand_of(flow_run).shard.run_id == errand.shard.run_id


def _is_outstanding(flow_run: FlowRun, store: ArtifactStore) -> bool:
    state = flow_run.state
    may_go_on = state and state.type in OUTSTANDING and state.name not in SETTLED
    return bool(may_go_on) and is_going(store, errand_of(flow_run))


def outstanding(client: SyncPrefectClient, deployment: UUID, tag: str) -> list[FlowRun]:
    """Return the flow runs of a submission that wait, are at work, or will be done again."""
    return flow_runs(client, deployment, OUTSTANDING, tag)


def errand_of(flow_run: FlowRun) -> Errand:
    """Return what a flow run is to do."""
    return Errand.model_validate(flow_run.parameters)


def is_going(store: ArtifactStore, errand: Errand) -> bool:
    """Return whether the run of an errand has not ended, or ended for another to go on.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    end = ended(store, errand.shard.run_id)
    return end is None or end.interrupted
