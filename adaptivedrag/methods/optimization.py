"""The paper's drag method (Sec. 3.4): motion supervision and point tracking, step by step."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from adaptivedrag.methods.method import DragMethod
from adaptivedrag.section import (
    LatentScale,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    RadiusRange,
)

if TYPE_CHECKING:
    from adaptivedrag.drag import DragProblem, DragResult, Hooks
    from adaptivedrag.model.diffusion import DiffusionModel


class Optimization(DragMethod):
    """Semantic-driven optimization (Sec. 3.4). Lengths are in pixels of the feature grid."""

    method: Literal["optimization"] = "optimization"
    steps: Positive = 80
    """The user's number of steps n; l / n is a point's ideal distance per step."""
    max_steps: Positive = 300
    """n_max: the step budget never grows past it."""
    learning_rate: PositiveFloat = 0.01
    background_weight: NonNegativeFloat = 0.1
    stop_distance: PositiveFloat = 2.0
    """A handle within this distance of its target has arrived."""
    skip_distance: PositiveFloat = 2.0
    """A handle within this distance of its target is not pulled any further."""
    supervision_radius: Positive | None = None
    """None: from the spacing of the superpixels, within `supervision_radius_range`."""
    supervision_radius_range: RadiusRange = (1, 8)
    tracking_radius: Positive | None = None
    tracking_radius_range: RadiusRange = (3, 20)
    region_anchor: Literal["current", "transported"] = "current"
    """Whose superpixel bounds the region: that of the handle now, or its first one moved along."""
    regions_in_supervision: bool = True
    regions_in_tracking: bool = True
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
        from adaptivedrag.latent_optimization import optimize

        return optimize(model, problem, self, hooks)

    def fitted_to(self, scale: LatentScale) -> Self:
        """Fit lengths, and the weight of a loss that is a sum over all latents."""
        return self.replaced(
            background_weight=self.background_weight / scale.terms,
            stop_distance=self.stop_distance * scale.length,
            skip_distance=self.skip_distance * scale.length,
            supervision_radius=scale.radius(self.supervision_radius),
            supervision_radius_range=scale.bounds(self.supervision_radius_range),
            tracking_radius=scale.radius(self.tracking_radius),
            tracking_radius_range=scale.bounds(self.tracking_radius_range),
        )
