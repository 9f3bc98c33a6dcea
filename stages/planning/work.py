"""Work items: actions to do, each once, with everything that whoever does them has to know."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from artifacts import Action, Key, Lookup
from stages.jobs.edit import Edit
from stages.planning.plan import EditPlan, Status
from stages.planning.resolved import Resolved
from stages.stage import Stage


@dataclass(frozen=True)
class WorkItem:
    """One action to do, and everyone who waits for it.

    Attributes:
        inputs: what the store has of the stages before it, by their names.
        sharers: ids of all edits that need this action, its own among them.
    """

    stage: Stage
    action: Action
    key: Key
    resolved: Resolved
    inputs: Mapping[str, Lookup]
    sharers: tuple[str, ...]

    @property
    def edit(self) -> Edit:
        """The edit for which the work is done first."""
        return self.resolved.edit

    @property
    def weights_and_size(self) -> tuple[Hashable, ...]:
        """The weights of the model, a LoRA's among them, their precision, and the latents' size:
        what items have in common that go through a model together.
        """
        resolved, lora = self.resolved, self.inputs.get("train_lora")
        model = (resolved.setting.diffusion.digest, resolved.config.dtype)
        return (*model, resolved.frame.latent_size, lora and lora.logical)

    @classmethod
    def of(cls, stage: Stage, plan: EditPlan, sharers: Sequence[str] = ()) -> "WorkItem":
        """Name the work of a stage that has everything it needs."""
        action = plan.action(stage)
        ids = tuple(sharers) or (plan.edit.id,)
        return cls(stage, action, action.key, plan.resolved, plan.found, ids)


def work_for(
    stage: Stage, plans: Sequence[EditPlan], *, force: bool = False, retry: bool = True
) -> tuple[list[WorkItem], list[EditPlan]]:
    """Return what has to be done of one stage, each action once, and who cannot be served.

    These are edits whose earlier stages are not made, and without `retry` those that are
    quarantined. With `force`, actions that are hits are returned too.
    """
    waiting: dict[Key, list[EditPlan]] = {}
    blocked = []
    for plan in plans:
        staged = plan.stages[stage.name]
        if staged.status is Status.OFF or not (force or stage.name in plan.to_make):
            continue
        quarantined = staged.status is Status.QUARANTINED and not (force or retry)
        if staged.key is None or quarantined or not _has_inputs(stage, plan):
            blocked.append(plan)
        else:
            waiting.setdefault(staged.key, []).append(plan)
    items = [
        WorkItem.of(stage, sharing[0], [plan.edit.id for plan in sharing])
        for sharing in waiting.values()
    ]
    return items, blocked


def _has_inputs(stage: Stage, plan: EditPlan) -> bool:
    return all(plan.stages[name].status in (Status.HIT, Status.OFF) for name in stage.needs)


def cut_batches(
    items: Sequence[WorkItem], most: Callable[[WorkItem], int]
) -> Iterator[list[WorkItem]]:
    """Yield the items of a stage in batches of those that may go together, of nearly equal size.

    Args:
        most: how many items may go together with one. Where that is 1, the order stays.
    """
    groups: dict[Hashable, list[WorkItem]] = {}
    for place, item in enumerate(items):
        together = item.stage.together
        group_of = together(item) if together and most(item) > 1 else place
        groups.setdefault(group_of, []).append(item)
    for group in groups.values():
        count = math.ceil(len(group) / most(group[0]))
        for number in range(count):
            yield group[number * len(group) // count : (number + 1) * len(group) // count]
