"""Which actions of a store belong to a job."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from artifacts import ArtifactStore, Digest, Key
from artifacts.upkeep.survey import actions, stages_of
from stages import evaluate
from stages.jobs.edit import Edit
from stages.pipeline import RESULT, STAGE_NAMES
from stages.planning.plan import EditPlan, plan_edits

KNOWN_STAGES = (*STAGE_NAMES, evaluate.STAGE)
"""All stages that inputs may come from."""

_RESULT = RESULT.name
_GIVEN = ("image", "prompt", "drags")


@dataclass(frozen=True)
class JobActions:
    """What a job is made of in a store, with the judgments of its results.

    Attributes:
        keys: of all actions, also of those that are not made but may have checkpoints.
        made: stage and key of those that have a record.
    """

    keys: frozenset[Key]
    made: tuple[tuple[str, Key], ...]


def job_actions(edits: Sequence[Edit], store: ArtifactStore) -> JobActions:
    """Find the actions of edits, and what an evaluation made of them.

    An action whose key depends on a record that is not there is not found.

    Raises:
        ModelUnavailable: if the files of a model are not there.
        StoreUnavailable: if the store cannot be read.
    """
    judged = evaluate.STAGE in stages_of(store.backend)
    # Edits of one image have one reconstruction.
    plain = [replace(evaluate.reconstruction(edit), id="", tags=()) for edit in edits if judged]
    plans = plan_edits([*edits, *dict.fromkeys(plain)], store)
    named = [staged for plan in plans for staged in plan.stages.values() if staged.key]
    made = {(staged.stage, staged.key): None for staged in named if staged.key and staged.found}
    if judged:
        made |= {(evaluate.STAGE, key): None for key in _judgments(plans, store)}
    keys = {staged.key for staged in named if staged.key} | {key for _, key in made}
    return JobActions(frozenset(keys), tuple(made))


def all_actions(store: ArtifactStore) -> Iterator[tuple[str, Key]]:
    """Name every action that has a record, also one that cannot be read.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    for stage in stages_of(store.backend):
        for action in actions(store.backend, stage):
            if action.records:
                yield stage, action.key


def _judgments(plans: Sequence[EditPlan], store: ArtifactStore) -> Iterator[Key]:
    """Find the judgments of results, and those of controls, which have no result."""
    results, given = set[Digest](), set[tuple[Digest | None, ...]]()
    for plan in plans:
        records = list(plan.records.values())
        results |= {record.logical for record in records if record.stage == _RESULT}
        inputs = {name: digest for record in records for name, digest in record.inputs.items()}
        given.add(tuple(inputs.get(name) for name in _GIVEN))
    for record in store.records_of(evaluate.STAGE):
        judged = record.inputs.get(_RESULT)
        shown = tuple(record.inputs.get(name) for name in _GIVEN)
        if judged in results or (judged is None and shown in given):
            yield record.key
