"""What a job had before: the latest other results of its edits that a store knows.

A result is of an edit if it was made from the same image, drags and prompt, whatever the settings,
code and weights; which job asked for it is not recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adaptivedrag.points import Frame
from artifacts import Action, ArtifactStore, Digest, Key, Lookup, Record
from stages.garbage import collector_paused
from stages.pipeline import BY_NAME, RESULT, STAGES, WITNESS
from stages.planning.plan import EditPlan, StagePlan, Status
from stages.planning.reasons import GIVEN
from stages.planning.resolved import Resolved
from stages.stage import Stage

Chain = Mapping[str, Record]
"""The records that led to a result, by stage, its own among them."""


class EarlierPlan(EditPlan):
    """The stages of an edit as they once were; those that were no part of it are off."""

    def action(self, stage: Stage) -> Action:
        """Return the piece of work that was done."""
        record = self.stages[stage.name].record
        return record.action if record else super().action(stage)


@collector_paused()
def earlier_plans(plans: Sequence[EditPlan], store: ArtifactStore) -> dict[str, EditPlan]:
    """Return what edits had before, by id; those that never had another result are left out.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    past = _Past.of(store)
    chains = {plan.edit.id: past.of_edit(plan) for plan in plans}
    found = {
        stage.name: store.lookup_many(
            stage.name, {chain[stage.name].key for chain in chains.values() if stage.name in chain}
        )
        for stage in STAGES
    }
    return {
        plan.edit.id: EarlierPlan(
            _as_it_was(plan.resolved, chain),
            {name: _stood(name, chain.get(name), known) for name, known in found.items()},
        )
        for plan in plans
        if (chain := chains[plan.edit.id])
    }


def _stood(stage: str, record: Record | None, known: Mapping[Key, Lookup]) -> StagePlan:
    if record is None:
        return StagePlan(stage, Status.OFF, why="no part of the earlier result")
    return StagePlan.of(stage, record.key, known.get(record.key))


def _as_it_was(resolved: Resolved, chain: Chain) -> Resolved:
    """Return an edit with the sizes that it was made in, and without notes on its settings now."""
    edit = replace(resolved.edit, unused=(), mask_notes=(), prompt_notes=())
    frame: Mapping[str, int] = chain[RESULT.name].config["frame"]  # type: ignore[assignment]
    setting = replace(resolved.setting, frame=Frame(**frame))
    return replace(resolved, edit=edit, setting=setting)


@dataclass(frozen=True)
class _Past:
    """All results of a store, the latest first, with what they were made from."""

    by_values: Mapping[tuple[str, Digest], Record]
    """The latest records, by stage and what they made."""
    witnesses: Mapping[tuple[Digest | None, Digest | None], Record]
    """By the result and the drags."""
    of_image: dict[Digest, list[tuple[Mapping[str, Digest], Chain]]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ArtifactStore) -> "_Past":
        in_order = {
            stage.name: sorted(
                store.records_of(stage.name), key=lambda record: record.circumstances.started
            )
            for stage in STAGES
        }
        past = cls(
            {(name, r.logical): r for name, records in in_order.items() for r in records},
            {_seen(r): r for r in in_order[WITNESS.name]},
        )
        for result in reversed(in_order[RESULT.name]):
            chain = dict(past.chain(result))
            given = {
                name: digest
                for record in chain.values()
                for name, digest in record.inputs.items()
                if name in GIVEN
            }
            if {"image", "drags"} <= given.keys():
                past.of_image.setdefault(given["image"], []).append((given, chain))
        return past

    def chain(self, record: Record) -> Iterator[tuple[str, Record]]:
        """Yield a record and those that made its inputs, as far as they are there."""
        for name in BY_NAME[record.stage].needs:
            made = record.inputs.get(name)
            if made and (before := self.by_values.get((name, made))):
                yield from self.chain(before)
        yield record.stage, record

    def of_edit(self, plan: EditPlan) -> Chain:
        """Return the latest other result of an edit with what led to it; {} if there is none."""
        own, now = plan.resolved.inputs, plan.stages[RESULT.name].key
        for given, chain in self.of_image.get(own["image"] or Digest(""), ()):
            result = chain[RESULT.name]
            if result.key != now and all(own[name] == each for name, each in given.items()):
                witness = self.witnesses.get((result.logical, own["drags"]))
                return {**chain, WITNESS.name: witness} if witness else chain
        return {}


def _seen(witness: Record) -> tuple[Digest | None, Digest | None]:
    return witness.inputs.get(RESULT.name), witness.inputs.get("drags")
