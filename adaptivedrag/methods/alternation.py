"""GoodDrag's pair (Zhang et al., 2024): supervision by the first patch, drags between denoising.

A patch that is compared with what it was a step ago may become anything in small steps; one that is
compared with the first keeps its content. Drags that are spread over noise levels leave every level
a small change, which denoising can make a picture of. Not in the paper; masks, regions and sampling
are those of AdaptiveDrag. See `adaptivedrag.alternating_optimization` for the steps.
"""

from typing import TYPE_CHECKING, Literal, Self

from adaptivedrag.methods.supervised import SupervisedMethod
from adaptivedrag.section import LatentScale, Positive, PositiveFloat

if TYPE_CHECKING:
    from adaptivedrag.drag import DragProblem, DragResult, Hooks
    from adaptivedrag.model.diffusion import DiffusionModel


class Alternation(SupervisedMethod):
    """Drags and denoising in turn, level by level; a step is some updates and a tracking."""

    method: Literal["alternation"] = "alternation"
    levels: Positive = 7
    """Levels at which handles are dragged, the start level first."""
    trackings: Positive = 10
    """Most steps at a level."""
    updates: Positive = 3
    """Updates of the latents before the handles are tracked."""
    learning_rate: PositiveFloat = 0.02
    step_length: PositiveFloat = 4.0
    """How far ahead of a handle its patch is pulled from, at most."""
    supervision_radius: Positive | None = 4
    tracking_radius: Positive | None = 12
    patience: Positive = 5
    """End a level when no handle has moved for this many steps."""
    first_patch: bool = True
    """Patches are to look like those of the unchanged picture; else like those at the handles."""
    alternation: bool = True
    """Between the levels the latents are denoised; else all steps are taken at the first one."""
    renoising: bool = False
    """Before each tracking, what may change is denoised and noised afresh, so that only motion
    which survives that is found (DragLoRA); the rest goes back to the inversion."""

    @property
    def levels_down(self) -> int:
        """Sampling steps that it takes itself, at most."""
        return self.levels if self.alternation else 0

    @property
    def draws(self) -> bool:
        """Whether it draws noise."""
        return self.renoising

    def drag(self, model: "DiffusionModel", problem: "DragProblem", hooks: "Hooks") -> "DragResult":
        """Drag and denoise until every handle has arrived or the levels are used up."""
        from adaptivedrag.alternating_optimization import alternate

        return alternate(model, problem, self, hooks)

    def fitted_to(self, scale: LatentScale) -> Self:
        """Fit lengths, that of a step too, and the weight of the summed loss."""
        fitted = super().fitted_to(scale)
        return fitted.replaced(step_length=self.step_length * scale.length)
