"""The paper's drag method (Sec. 3.4): motion supervision and point tracking, step by step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from adaptivedrag.methods.supervised import SupervisedMethod
from adaptivedrag.section import Positive

if TYPE_CHECKING:
    from adaptivedrag.drag import DragProblem, DragResult, DragTask, Hooks
    from adaptivedrag.model.diffusion import DiffusionModel


class Optimization(SupervisedMethod):
    """Semantic-driven optimization (Sec. 3.4)."""

    shares_passes: ClassVar[bool] = True

    method: Literal["optimization"] = "optimization"
    steps: Positive = 80
    """The user's number of steps n; l / n is a point's ideal distance per step."""
    max_steps: Positive = 300
    """n_max: the step budget never grows past it."""
    backtracking: bool = True
    """Only forward steps count, and short ones lengthen the budget (Sec. 3.4.1)."""
    overshoot_returns: bool = True
    """A handle that was tracked past its target may come back along its way; not in the paper."""
    patience: Positive = 40
    """Stop when no handle has advanced for this many steps."""

    @model_validator(mode="after")
    def _budget_covers_steps(self) -> Self:
        if self.max_steps < self.steps:
            raise ValueError(f"max_steps {self.max_steps} is less than steps {self.steps}")
        return self

    def drag(self, model: "DiffusionModel", problem: "DragProblem", hooks: "Hooks") -> "DragResult":
        """Optimize the inverted latents until every handle has arrived or the budget is spent."""
        from adaptivedrag.drag import DragTask

        (result,) = self.drag_together(model, [DragTask(self, problem, hooks)])
        return result

    @classmethod
    def drag_together(
        cls, model: "DiffusionModel", tasks: "Sequence[DragTask[Self]]"
    ) -> "list[DragResult]":
        """Optimize the latents of several edits side by side."""
        from adaptivedrag.latent_optimization import optimize

        return optimize(model, tasks)
