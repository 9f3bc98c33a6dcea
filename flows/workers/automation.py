"""What the server itself does about a flow run whose process is silent: its page says so.

Shards come back by what the store says of them, with this or without.
"""

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENT = timedelta(minutes=3)
"""Several heartbeats, since a busy server loses some."""
HEARD = ("heartbeat", *(state.value.capitalize() for state in StateType))


def ensure_automation(client: SyncPrefectClient, deployment: UUID, pool: str) -> None:
    """Have flow runs of a deployment that are silent shown as crashed.

    Raises:
        HTTPError: if the server does not answer.
    """
    name = f"Silent shards of {pool} crash"
    for old in client.read_automations_by_name(name):
        client.delete_automation(old.id)
    client.create_automation(
        AutomationCore(name=name, trigger=_silence(deployment), actions=[_crash()])
    )


def _silence(deployment: UUID) -> EventTrigger:
    """Return what happens when nothing is heard of a flow run after one of its heartbeats."""
    own = {"prefect.resource.id": f"prefect.deployment.{deployment}"}
    return EventTrigger(
        posture=Posture.Proactive,
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification({**own, "prefect.resource.role": "deployment"}),
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={f"prefect.flow-run.{event}" for event in HEARD},
        threshold=1,
        within=SILENT,
    )


def _crash() -> ChangeFlowRunState:
    return ChangeFlowRunState(
        name=None, state=StateType.CRASHED, message="its process is silent", force=False
    )
