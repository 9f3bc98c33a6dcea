"""The plan: what is done, what is missing and why, before anything runs and without any model.

An edit is planned once. While a run goes on, `bring_up_to_date` takes in what a stage has made and
looks up only those later stages whose keys follow from it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from artifacts import Action, ArtifactStore, Key, Lookup, Record
from stages.failures import Attempt, Failure, Policy
from stages.garbage import collector_paused
from stages.jobs.edit import Edit, Job
from stages.pipeline import BY_NAME, RESULT, STAGE_NAMES, STAGES, TRACKER, WANTED, WITNESS
from stages.planning.prompts import with_prompt_notes
from stages.planning.reasons import Explanation, History, with_causes
from stages.planning.resolved import Resolved, resolver
from stages.stage import Stage


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
_OF_FOUND = {
    "hit": (Status.HIT, ""),
    "known": (Status.KNOWN, "its bytes are gone or damaged"),
}


class StagePlan(NamedTuple):
    """One stage of one edit.

    Attributes:
        made_otherwise: made before of the same image, prompt and drags, with other settings, code
            or weights.
        failure: how it failed when it was last tried, if it is not made.
    """

    stage: str
    status: Status
    key: Key | None = None
    found: Lookup | None = None
    why: str = ""
    made_otherwise: bool = False
    failure: Attempt | None = None

    @classmethod
    def of(cls, stage: str, key: Key, found: Lookup | None) -> "StagePlan":
        """Say where a stage with a key stands, given what the store has under it."""
        if found is None:
            return cls(stage, Status.MISS, key)
        status, why = _OF_FOUND[found.status]
        return cls(stage, status, key, found, why)

    @property
    def record(self) -> Record | None:
        """The record of a hit, or of what is known; read from the store when it is asked for.

        Raises:
            ArtifactError: if it cannot be read any more.
        """
        return self.found.record if self.found else None


@dataclass
class EditPlan:
    """All stages of one edit, as the store has them."""

    resolved: Resolved
    stages: dict[str, StagePlan] = field(default_factory=dict)

    @property
    def edit(self) -> Edit:
        """The edit that is planned."""
        return self.resolved.edit

    @property
    def done(self) -> bool:
        """Whether the edited image is there."""
        return self.stages[RESULT.name].status is Status.HIT

    @property
    def found(self) -> dict[str, Lookup]:
        """What the store has of the stages, by their names."""
        return {name: staged.found for name, staged in self.stages.items() if staged.found}

    @property
    def records(self) -> dict[str, Record]:
        """The records of all stages that have one, by stage; see `StagePlan.record`."""
        return {name: found.record for name, found in self.found.items()}

    @property
    def drag(self) -> Mapping[str, Any]:
        """What the drag's own tracker says: verdict, points, steps; {} if it is not made."""
        return self._said_by(TRACKER)

    @property
    def witness(self) -> Mapping[str, Any]:
        """What the independent witness says of the result: verdict, points; {} if not made."""
        return self._said_by(WITNESS)

    @property
    def not_witnessed(self) -> str:
        """Why there is a result and no witness's verdict on it; "" otherwise."""
        staged = self.stages[WITNESS.name]
        if not self.done or staged.found:
            return ""
        return f"{WITNESS.name} failed: {staged.failure}" if staged.failure else "not made"

    @property
    def verdict(self) -> str:
        """The witness's verdict; "not witnessed" and why where a result has none; or ""."""
        reason = self.not_witnessed
        return f"not witnessed ({reason})" if reason else str(self.witness.get("verdict", ""))

    def _said_by(self, stage: Stage) -> Mapping[str, Any]:
        record = self.stages[stage.name].record
        return record.summary if record else {}

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

    @property
    def last_failure(self) -> Failure | None:
        """How the edit failed when what it needs was last tried; None if it did not."""
        return self._failure_in(self.failed)

    @property
    def lasting_failure(self) -> Failure | None:
        """Why the edit is quarantined; None if it is not."""
        return self._failure_in(self.quarantined)

    def _failure_in(self, staged: StagePlan | None) -> Failure | None:
        if staged is None or staged.failure is None:
            return None
        return Failure(self.edit.id, staged.stage, staged.failure.kind, staged.failure.reason)

    @property
    def to_make(self) -> tuple[str, ...]:
        """Stages that have to run for the edited image and the witness's verdict, in order."""
        if all(self.stages[stage.name].status is Status.HIT for stage in WANTED):
            return ()
        wanted, missing = {stage.name for stage in WANTED}, []
        for stage in reversed(STAGES):
            status = self.stages[stage.name].status
            if stage.name in wanted and status not in (Status.HIT, Status.OFF):
                missing.append(stage.name)
                wanted.update(stage.needs)
        return tuple(reversed(missing))

    def lacks(self, stage: Stage) -> list[str]:
        """Name the stages that `stage` needs and that have no record."""
        return [
            name
            for name in stage.needs
            if self.stages[name].found is None and self.stages[name].status is not Status.OFF
        ]

    def action(self, stage: Stage) -> Action:
        """Return the piece of work that `stage` is, by the records that there are."""
        upstream = {name: found for name in stage.needs if (found := self.stages[name].found)}
        return self.resolved.action(stage, upstream)

    def key(self, stage: Stage) -> Key | None:
        """Return the key of `stage`, if it goes on and everything that it needs has a record."""
        if stage.off(self.edit) or self.lacks(stage):
            return None
        return self.action(stage).key

    def settle(self, stage: Stage, key: Key | None, found: Lookup | None) -> None:
        """Note where a stage stands, given what the store has under its key."""
        name = stage.name
        if off := stage.off(self.edit):
            self.stages[name] = StagePlan(name, Status.OFF, why=off)
        elif key is None:
            why = f"needs {', '.join(self.lacks(stage))}"
            self.stages[name] = StagePlan(name, Status.FOLLOWS, why=why)
        else:
            self.stages[name] = StagePlan.of(name, key, found)


@dataclass(frozen=True)
class JobPlan:
    """All edits of a job."""

    job: Job
    edits: tuple[EditPlan, ...]

    def counts(self) -> dict[str, Counter[Status]]:
        """Count edits by stage and status."""
        return {
            stage.name: Counter(edit.stages[stage.name].status for edit in self.edits)
            for stage in STAGES
        }


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
    resolve = resolver()
    plans = tuple(EditPlan(resolve(edit)) for edit in with_prompt_notes(edits))
    for stage in STAGES:
        _look_up(stage, {id_: plan.key(stage) for id_, plan in enumerate(plans)}, plans, store)
    if explain:
        _explain(plans, store)
    return plans


def bring_up_to_date(
    plans: Sequence[EditPlan], stage: Stage, records: Mapping[Key, Record], store: ArtifactStore
) -> None:
    """Take in what a stage has made, and look up the later stages whose keys are other ones now.

    Args:
        records: of what was made, or found to be there, by key.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    for plan in plans:
        record = records.get(plan.stages[stage.name].key or Key(""))
        if record is not None:
            plan.settle(stage, record.key, _found(record))
    for later in STAGES[STAGE_NAMES.index(stage.name) + 1 :]:
        keys = {place: plan.key(later) for place, plan in enumerate(plans)}
        changed = {
            place: key for place, key in keys.items() if key != plans[place].stages[later.name].key
        }
        _look_up(later, changed, plans, store)


def _found(record: Record) -> Lookup:
    return Lookup(
        "hit", record.key, record.number, record.object, record.logical, lambda *_: record
    )


def _look_up(
    stage: Stage, keys: Mapping[int, Key | None], plans: Sequence[EditPlan], store: ArtifactStore
) -> None:
    """Find where a stage stands in the plans at the places that `keys` names."""
    wanted = {key for key in keys.values() if key is not None}
    found = store.lookup_many(stage.name, wanted) if wanted else {}
    for place, key in keys.items():
        plans[place].settle(stage, key, found.get(key) if key else None)
    _recall_failures(stage, [plans[place] for place in keys], store)


def _recall_failures(stage: Stage, plans: Sequence[EditPlan], store: ArtifactStore) -> None:
    """Say of what is missing how it failed, if it was tried; ask nothing if all is there."""
    missing = [plan for plan in plans if plan.stages[stage.name].status is Status.MISS]
    if not missing:
        return
    keys = {key for plan in missing if (key := plan.stages[stage.name].key)}
    attempts = store.last_attempts(stage.name, keys)
    for plan in missing:
        staged = plan.stages[stage.name]
        if document := attempts.get(staged.key or Key("")):
            failure = Attempt.from_document(document)
            hopeless = failure.policy is Policy.QUARANTINE
            plan.stages[stage.name] = staged._replace(
                status=Status.QUARANTINED if hopeless else Status.MISS,
                why=f"failed before: {failure}",
                failure=failure,
            )


def _explain(plans: Sequence[EditPlan], store: ArtifactStore) -> None:
    """Say of each miss what differs from before; what failed says that instead."""
    for stage in STAGES:
        history = History(store, stage.name)
        for plan in plans:
            staged = plan.stages[stage.name]
            if staged.status is Status.MISS and not staged.failure:
                explained = history.explain(plan.action(stage), plan.resolved)
                plan.stages[stage.name] = staged._replace(
                    why=str(explained), made_otherwise=explained.made_otherwise
                )


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


def explain_edit(edit: Edit, store: ArtifactStore) -> dict[str, Reason]:
    """Say of every stage of an edit why it has to run, or why it does not.

    Dearer than a plan: to say what became of an input, all records of its stage are read.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    (plan,) = plan_edits([edit], store)
    records = plan.records
    found: dict[str, Reason] = {}
    for stage in STAGES:
        staged = plan.stages[stage.name]
        explanation = Explanation()
        if staged.status in (*MISSING, Status.FOLLOWS):
            action, lacking = plan.action(stage), plan.lacks(stage)
            explanation = History(store, stage.name).explain(action, plan.resolved, lacking)
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
