"""Brings lost shards back: a flow run whose process is gone is done again by another one.

A flow run is over when its run has left a summary in the store, and alive while its beat there
changes; what Prefect says is advice. Every worker looks, and so does `submit --watch`: however many
see that a run is lost, the server makes one new flow run of it, by its idempotency key.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Completed, Crashed, Failed, Scheduled
from pydantic import ValidationError

from artifacts import ArtifactStore, StoreUnavailable
from flows.beat import PATIENCE, Watch, last_beat
from flows.outcomes import SOME_FAILED, Ended, ended, got_on, record_run
from flows.states import EDITS_FAILED, GIVEN_UP, PASSED_ON, REFUSED, SETTLED, STOPPED
from flows.workers.shard import Errand

START_PATIENCE = 75.0
"""The same for a process that starts: it has to import torch before its first beat."""
MOST_DEATHS = 20
MOST_REFUSALS = 50

Say = Callable[[str], object]


def flow_runs(
    client: SyncPrefectClient, deployment: UUID, types: list[StateType], tag: str | None = None
) -> list[FlowRun]:
    """Return the deployment's flow runs in states of some types, without those that are settled."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        tags=FlowRunFilterTags(all_=[tag]) if tag else None,
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=types),
            name=FlowRunFilterStateName(not_any_=list(SETTLED)),
        ),
    )
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, offset=len(found)):
        found += page
    return found


AT_WORK = [StateType.PENDING, StateType.RUNNING, StateType.CRASHED, StateType.FAILED]
"""At work, by Prefect's word, or at an end of which Prefect does not know whether it is one."""


@dataclass
class Reviver:
    """Looks again and again at the flow runs of a deployment."""

    deployment: UUID
    say: Say
    patience: float = PATIENCE
    start_patience: float = START_PATIENCE
    _watch: Watch = field(default_factory=Watch)
    _stores: dict[str, ArtifactStore] = field(default_factory=dict)

    def look(self, client: SyncPrefectClient) -> None:
        """Bring back each run that is lost; one whose store cannot be read is left to others.

        Raises:
            HTTPError: if the server does not answer.
        """
        runs = flow_runs(client, self.deployment, AT_WORK)
        self._watch.keep({run.id for run in runs})
        for run in runs:
            try:
                self._judge(client, run)
            except (StoreUnavailable, ValidationError):
                continue

    def end_of(self, run: FlowRun) -> Ended | None:
        """Return how a flow run's run has ended, by the store's word.

        Raises:
            StoreUnavailable: if the store cannot be read.
        """
        errand = Errand.model_validate(run.parameters)
        return ended(self._store(errand), errand.shard.run_id)

    def note_end(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """Say how a run ended whose process was seen to end; bring back at once what it left.

        Raises:
            HTTPError: if the server does not answer.
            StoreUnavailable: if the store does not.
        """
        now = client.read_flow_run(run.id)
        end = self.end_of(now)
        if end and not end.interrupted:
            self.say(f"{run.name}: {end}")
        elif now.state is not None and now.state.name not in (*SETTLED, REFUSED):
            reason = "its worker left" if end else "its process ended"
            self._pass_on(client, now, Errand.model_validate(now.parameters), reason)

    def _judge(self, client: SyncPrefectClient, run: FlowRun) -> None:
        errand = Errand.model_validate(run.parameters)
        store, state = self._store(errand), run.state
        assert state is not None
        if state.name == REFUSED:
            return self._pass_on(client, run, errand, f"refused: {state.message}")
        patience = self.start_patience if state.type is StateType.PENDING else self.patience
        sign = state.type, last_beat(store, errand.shard.run_id)
        silent = self._watch.unchanged(run.id, sign) >= patience
        if not (silent or state.is_final()):
            return None
        end = ended(store, errand.shard.run_id)
        if end and end.interrupted:
            self._pass_on(client, run, errand, "its worker left")
        elif end:
            client.set_flow_run_state(run.id, state_of_end(end), force=True)
        elif silent:
            self._pass_on(client, run, errand, f"no sign of life for {patience:g} s")
        return None

    def _pass_on(
        self, client: SyncPrefectClient, run: FlowRun, errand: Errand, reason: str
    ) -> None:
        """Have another flow run go on with what is left; give up if that leads nowhere."""
        shard, store = errand.shard, self._store(errand)
        refusals = shard.refusals
        if refused := run.state is not None and run.state.name == REFUSED:
            refusals += (str(run.state.message),)
        deaths = 0 if got_on(store, shard.run_id) else shard.deaths + (not refused)
        vain = deaths + len(refusals)
        if deaths > MOST_DEATHS or len(refusals) > MOST_REFUSALS:
            given_up = f"{run.name} is given up after {vain} vain attempts: {reason}"
            record_run(store, errand.unfinished(given_up))
            state: State = Failed(name=GIVEN_UP, message=given_up)
            self.say(given_up)
        else:
            onward = errand.again(deaths=deaths, refusals=refusals)
            new = client.create_flow_run_from_deployment(
                self.deployment,
                parameters=onward.model_dump(mode="json"),
                name=run.name,
                tags=run.tags,
                # In the place that it had in the queue, not behind all that waits.
                state=Scheduled(scheduled_time=run.expected_start_time),
                idempotency_key=f"{run.id} {_process(last_beat(store, shard.run_id))}",
            )
            state = Crashed(name=PASSED_ON, message=f"{reason}: {new.id} goes on with it")
            self.say(f"{run.name}: {reason}; it is queued again")
        client.set_flow_run_state(run.id, state, force=True)

    def _store(self, errand: Errand) -> ArtifactStore:
        if errand.store not in self._stores:
            self._stores[errand.store] = ArtifactStore.open(errand.store, create=False)
        return self._stores[errand.store]


def _process(beat: bytes) -> str:
    """Return which process a beat is of: a run that somebody has started again has a new one."""
    return str(json.loads(beat)["process"]) if beat else "none"


def state_of_end(end: Ended) -> State:
    """Return the state of a flow run whose end Prefect has not heard of."""
    if not end.exit_code:
        return Completed(message=str(end))
    name = EDITS_FAILED if end.exit_code == SOME_FAILED else STOPPED
    return Failed(name=name, message=str(end))
