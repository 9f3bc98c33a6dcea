"""What variants of an edit share: the stages whose keys they have in common."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from stages.pipeline import STAGES
from stages.planning.plan import EditPlan
from stages.planning.resolved import Resolved


class Sharing(NamedTuple):
    """What some edits of a variant share with those of the job as it is.

    Attributes:
        own: the stages that are done for the variant itself.
        shared: those that are done once for both.
        edits: how many edits that is true of.
    """

    variant: str
    own: tuple[str, ...]
    shared: tuple[str, ...]
    edits: int


def sharing(plans: Iterable[EditPlan]) -> list[Sharing]:
    """Say what variants share with the job as it is, before anything is made.

    A stage that is done for both may share more: where results come out equal, so do later keys.
    """
    plans = list(plans)
    as_it_is = {plan.edit.id: plan.resolved for plan in plans if not plan.edit.variant}
    found = Counter(
        (plan.edit.variant, *_divided(plan.resolved, base))
        for plan in plans
        if plan.edit.variant and (base := as_it_is.get(plan.edit.base_id))
    )
    return [Sharing(*each, number) for each, number in found.items()]


def _divided(variant: Resolved, base: Resolved) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the stages of a variant into its own ones and those that it shares."""
    going = [stage for stage in STAGES if not stage.off(variant.edit)]
    others: set[str] = set()
    for stage in STAGES:
        on_or_off = bool(stage.off(variant.edit)) != bool(stage.off(base.edit))
        alone = variant.action(stage, {}).key != base.action(stage, {}).key
        if on_or_off or alone or others & {*stage.needs}:
            others.add(stage.name)
    own = tuple(stage.name for stage in going if stage.name in others)
    return own, tuple(stage.name for stage in going if stage.name not in others)
