"""What a job had before: the latest other results of its edits that a store knows.

A result is of an edit if it was made from the same image, drags and prompt, whatever the settings,
code and weights; which job asked for it is not recorded.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

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
    """The records of a store, the latest first.

    Equal values may have been made of several images or drags, so that whoever asks for the maker
    of some says for which edit.
    """

    makers: Mapping[tuple[str, Digest, Digest | None], Sequence[Record]]
    """By stage, values and image."""
    results: Mapping[Digest | None, Sequence[Record]]
    """By image."""
    witnesses: Mapping[tuple[Digest | None, Digest | None], Record]
    """By the result and the drags."""

    @classmethod
    def of(cls, store: ArtifactStore) -> "_Past":
        makers = defaultdict[tuple[str, Digest, Digest | None], list[Record]](list)
        results = defaultdict[Digest | None, list[Record]](list)
        witnesses = dict[tuple[Digest | None, Digest | None], Record]()
        images = defaultdict[tuple[str, Digest], set[Digest]](set)
        for stage in STAGES:
            for record in _latest_first(store.records_of(stage.name)):
                of_record = _images_of(record, images)
                images[stage.name, record.logical] |= of_record
                for image in of_record:
                    makers[stage.name, record.logical, image].append(record)
                    if stage is RESULT:
                        results[image].append(record)
                if stage is WITNESS:
                    seen = record.inputs.get(RESULT.name), record.inputs.get("drags")
                    witnesses.setdefault(seen, record)
        return cls(makers, results, witnesses)

    def of_edit(self, plan: EditPlan) -> Chain:
        """Return the latest other result of an edit with what led to it; {} if there is none."""
        own, now = plan.resolved.inputs, plan.stages[RESULT.name].key
        for result in self.results.get(own["image"], ()):
            chain = self._chain(result, own) if result.key != now else None
            if chain and any("drags" in record.inputs for record in chain.values()):
                witness = self.witnesses.get((result.logical, own["drags"]))
                return {**chain, WITNESS.name: witness} if witness else chain
        return {}

    def _chain(self, record: Record, own: Mapping[str, Digest | None]) -> Chain | None:
        """Return a record of an edit with those that made its inputs, as far as they are there.

        None if it is of another edit.
        """
        if any(own[name] != digest for name, digest in record.inputs.items() if name in GIVEN):
            return None
        found: dict[str, Record] = {record.stage: record}
        for name in BY_NAME[record.stage].needs:
            values = record.inputs.get(name)
            makers = self.makers.get((name, values, own["image"]), ()) if values else ()
            chains = (self._chain(maker, own) for maker in makers)
            chain = next((each for each in chains if each), None)
            if makers and chain is None:
                return None
            found |= chain or {}
        return found


def _latest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.circumstances.started, reverse=True)


def _images_of(
    record: Record, images: Mapping[tuple[str, Digest], Set[Digest]]
) -> frozenset[Digest]:
    """Return the images that a record may be of: the one it has read, or those of its inputs."""
    for name in ("image", "relocated_image"):
        if name in record.inputs:
            return frozenset([record.inputs[name]])
    return frozenset().union(*(images.get(item, ()) for item in record.inputs.items()))
