"""The plan: what is done, what is missing and why, before anything runs and without any model."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from artifacts import Action, ArtifactStore, Key, Lookup, Record
from stages.failures import Attempt, Policy
from stages.garbage import collector_paused
from stages.jobs.edit import Edit, Job
from stages.pipeline import BY_NAME, STAGES
from stages.planning.reasons import Explanation, History, with_causes
from stages.stage import Resolved, Settings, Stage


class Status(StrEnum):
    """Where one stage of one edit stands."""

    HIT = "hit"
    KNOWN = "known"
    """Made before and its bytes are gone; what follows from it is still known."""
    MISS = "miss"
    FOLLOWS = "follows"
    """Its key depends on something that is not made yet."""
    QUARANTINED = "quarantined"
    """Failed for a reason that lies in the edit: not tried again until it changes."""
    OFF = "off"
    """The edit goes without this stage."""


MISSING = (Status.MISS, Status.QUARANTINED)


class StagePlan(NamedTuple):
    """One stage of one edit."""

    stage: str
    status: Status
    key: Key | None = None
    found: Lookup | None = None
    why: str = ""
    made_otherwise: bool = False
    """Made before of the same image, prompt and drags, with other settings, code or weights."""
    failure: Attempt | None = None
    """How it failed when it was last tried, if it is not made."""

    @property
    def record(self) -> Record | None:
        """The record of a hit, or of what is known; read from the store when it is asked for.

        Raises:
            ArtifactError: if it cannot be read any more.
        """
        return self.found.record if self.found else None


@dataclass(frozen=True)
class EditPlan:
    """All stages of one edit."""

    edit: Edit
    stages: Mapping[str, StagePlan]

    @property
    def done(self) -> bool:
        """Whether the edited image is there."""
        return self.stages[STAGES[-1].name].status is Status.HIT

    @property
    def records(self) -> dict[str, Record]:
        """The records of all stages that have one, by stage; see `StagePlan.record`."""
        return {name: staged.found.record for name, staged in self.stages.items() if staged.found}

    @property
    def failed(self) -> StagePlan | None:
        """The first stage that has to run and failed when it was last tried."""
        tried = (self.stages[name] for name in self.to_make)
        return next((staged for staged in tried if staged.failure), None)

    @property
    def quarantined(self) -> StagePlan | None:
        """The first stage that has to run and would only fail again."""
        needed = (self.stages[name] for name in self.to_make)
        return next((s for s in needed if s.status is Status.QUARANTINED), None)

    @cached_property
    def to_make(self) -> tuple[str, ...]:
        """Stages that have to run for the edited image, in order."""
        if self.done:
            return ()
        wanted, missing = {STAGES[-1].name}, []
        for stage in reversed(STAGES):
            status = self.stages[stage.name].status
            if stage.name in wanted and status not in (Status.HIT, Status.OFF):
                missing.append(stage.name)
                wanted.update(stage.needs)
        return tuple(reversed(missing))


@dataclass(frozen=True)
class JobPlan:
    """All edits of a job."""

    job: Job
    edits: tuple[EditPlan, ...]

    def counts(self) -> dict[str, Counter[Status]]:
        """Count edits by stage and status."""
        statuses = {
            stage.name: Counter(edit.stages[stage.name].status.value for edit in self.edits)
            for stage in STAGES
        }
        return {
            name: Counter({Status(value): number for value, number in counted.items()})
            for name, counted in statuses.items()
        }


@dataclass(frozen=True)
class WorkItem:
    """One action to do, and everyone who waits for it."""

    stage: str
    key: Key
    edit: Edit
    sharers: tuple[str, ...]
    """Ids of all edits that need this action, `edit` among them."""


def plan_job(job: Job, store: ArtifactStore, *, explain: bool = False) -> JobPlan:
    """Plan every edit of a job; with `explain`, say of each miss what differs from before.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    return JobPlan(job, plan_edits(job.edits, store, explain=explain))


@collector_paused()
def plan_edits(
    edits: Sequence[Edit], store: ArtifactStore, *, explain: bool = False
) -> tuple[EditPlan, ...]:
    """Plan edits: walk the stages once, looking up all edits' keys of a stage together.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    return tuple(_planned(edits, store, explain))


def _planned(edits: Sequence[Edit], store: ArtifactStore, explain: bool) -> Iterator[EditPlan]:
    settings = Settings()
    drafts = [_Draft(Resolved.of(edit, settings)) for edit in edits]
    for stage in STAGES:
        keys = [key for draft in drafts if (key := draft.name_action(stage))]
        found = store.lookup_many(stage.name, keys)
        for draft in drafts:
            draft.take(stage, found)
        history = History(store, stage.name) if explain else None
        for draft in drafts:
            draft.settle(stage, history)
        _tell_failures(drafts, stage.name, store)
    for draft in drafts:
        yield EditPlan(draft.resolved.edit, draft.stages)


@dataclass(frozen=True)
class Reason:
    """Where one stage of one edit stands, and why, down to the roots.

    Attributes:
        failure: how it failed when it was last tried, if it is not made.
        explanation: of a miss, or of a stage that follows: what differs from before.
    """

    stage: str
    status: Status
    key: Key | None
    text: str
    failure: Attempt | None
    explanation: Explanation


def reasons(edit: Edit, store: ArtifactStore) -> dict[str, Reason]:
    """Say of every stage of an edit why it has to run, or why it has not.

    Dearer than a plan: to say what became of an input, all records of its stage are read.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    (plan,) = plan_edits([edit], store)
    resolved = Resolved.of(edit)
    records = plan.records
    found: dict[str, Reason] = {}
    for stage in STAGES:
        staged = plan.stages[stage.name]
        explanation = Explanation()
        if staged.status in (*MISSING, Status.FOLLOWS):
            unmade = [name for name in stage.needs if name not in records]
            unmade = [name for name in unmade if plan.stages[name].status is not Status.OFF]
            action = resolved.action(stage, records)
            explanation = History(store, stage.name).explain(action, resolved, unmade)
            causes = tuple(with_causes(explanation.differences, records, store))
            explanation = replace(explanation, differences=causes)
        text = "; ".join(_in_words(staged, explanation, found, store))
        found[stage.name] = Reason(
            stage.name, staged.status, staged.key, text, staged.failure, explanation
        )
    return found


def _in_words(
    staged: StagePlan, explanation: Explanation, before: Mapping[str, Reason], store: ArtifactStore
) -> Iterator[str]:
    record = staged.record
    match staged.status:
        case Status.HIT if record:
            yield f"made {record.circumstances.started}, record {record.number}"
        case Status.KNOWN if record:
            yield store.missing_bytes(record)
            yield "made again if a stage after it has to run"
        case Status.MISS | Status.QUARANTINED:
            if staged.failure:
                yield f"failed before: {staged.failure}"
            if explanation.nearest or not staged.failure:
                yield str(explanation)
        case Status.FOLLOWS:
            yield staged.why
            for name in _roots(staged.stage, before):
                yield f"{name} {before[name].status}: {before[name].text}"
            if explanation.differences:
                yield f"besides: {explanation}"
        case _:
            yield staged.why


def _roots(stage: str, before: Mapping[str, Reason]) -> list[str]:
    """Return the missing stages that a stage waits for in the end, in order."""
    waiting = [name for name in BY_NAME[stage].needs if before[name].status is Status.FOLLOWS]
    missing = [name for name in BY_NAME[stage].needs if before[name].status in MISSING]
    found = {*missing, *(root for name in waiting for root in _roots(name, before))}
    return [name for name in before if name in found]


def work_for(
    stage: str,
    edits: Sequence[Edit],
    store: ArtifactStore,
    *,
    force: bool = False,
    retry: bool = True,
) -> tuple[list[WorkItem], list[EditPlan]]:
    """Return what has to be done of one stage, each action once, and who cannot be served.

    These are edits whose earlier stages are not made, and without `retry` those that are
    quarantined. With `force`, actions that are hits are returned too.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    waiting: dict[Key, list[Edit]] = {}
    blocked = []
    for plan in plan_edits(edits, store):
        staged = plan.stages[stage]
        if staged.status is Status.OFF or not (force or stage in plan.to_make):
            continue
        quarantined = staged.status is Status.QUARANTINED and not (force or retry)
        if staged.key is None or quarantined or not _inputs_are_there(stage, plan):
            blocked.append(plan)
        else:
            waiting.setdefault(staged.key, []).append(plan.edit)
    items = [
        WorkItem(stage, key, sharing[0], tuple(edit.id for edit in sharing))
        for key, sharing in waiting.items()
    ]
    return items, blocked


def _tell_failures(drafts: Sequence["_Draft"], stage: str, store: ArtifactStore) -> None:
    """Say of what is missing how it failed, if it was tried; ask nothing if all is there."""
    missing = [d for d in drafts if d.stages[stage].status is Status.MISS]
    if not missing:
        return
    attempts = store.last_attempts(stage, {draft.keys[stage] for draft in missing})
    for draft in missing:
        if document := attempts.get(draft.keys[stage]):
            failure = Attempt.from_document(document)
            hopeless = failure.policy is Policy.QUARANTINE
            draft.stages[stage] = draft.stages[stage]._replace(
                status=Status.QUARANTINED if hopeless else Status.MISS,
                why=f"failed before: {failure}",
                failure=failure,
            )


def _inputs_are_there(stage: str, plan: EditPlan) -> bool:
    return all(
        plan.stages[name].status in (Status.HIT, Status.OFF) for name in BY_NAME[stage].needs
    )


_OF_FOUND = {
    "hit": (Status.HIT, ""),
    "known": (Status.KNOWN, "its bytes are gone or damaged"),
}


@dataclass
class _Draft:
    """An edit while its plan is made, stage by stage."""

    resolved: Resolved
    stages: dict[str, StagePlan] = field(default_factory=dict)
    actions: dict[str, Action] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    found: dict[str, Lookup] = field(default_factory=dict)

    def name_action(self, stage: Stage) -> Key | None:
        """Note the action and return its key, if there is one yet."""
        if self.resolved.skips(stage):
            return None
        for name in stage.needs:
            if name not in self.found and not self.resolved.skips(BY_NAME[name]):
                return None
        action = self.actions[stage.name] = self.resolved.action(stage, self.found)
        key = self.keys[stage.name] = action.key
        return key

    def take(self, stage: Stage, found: Mapping[Key, Lookup]) -> None:
        key = self.keys.get(stage.name)
        if key is not None and (lookup := found.get(key)):
            self.found[stage.name] = lookup

    def settle(self, stage: Stage, history: History | None) -> None:
        action = self.actions.get(stage.name)
        if action is None:
            self.stages[stage.name] = self._without_key(stage)
            return
        key, lookup = self.keys[stage.name], self.found.get(stage.name)
        if lookup:
            status, why = _OF_FOUND[lookup.status]
            self.stages[stage.name] = StagePlan(stage.name, status, key, lookup, why)
        else:
            found_out = history.explain(action, self.resolved) if history else None
            why, otherwise = (
                (str(found_out), found_out.made_otherwise) if found_out else ("", False)
            )
            self.stages[stage.name] = StagePlan(stage.name, Status.MISS, key, None, why, otherwise)

    def _without_key(self, stage: Stage) -> StagePlan:
        if self.resolved.skips(stage):
            return StagePlan(stage.name, Status.OFF, why='lora = "off"')
        missing = [
            name
            for name in stage.needs
            if name not in self.found and not self.resolved.skips(BY_NAME[name])
        ]
        return StagePlan(stage.name, Status.FOLLOWS, why=f"needs {', '.join(missing)}")
