"""The warp: content is moved in the picture, and the picture inverted (preset `plus`).

The optimization pulls the latents toward the target a little at a time. Where features at the
start timestep follow the latents and the picture does not follow the features, that leaves the
content behind. The warp moves content in the picture, by fractions of a pixel, where latents could
only be moved by whole cells of eight. Not in the paper.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from adaptivedrag.methods.method import DragMethod
from adaptivedrag.section import LatentScale, Positive, PositiveFloat, RadiusRange

if TYPE_CHECKING:
    from adaptivedrag.drag import DragProblem, DragResult, Hooks
    from adaptivedrag.model.diffusion import DiffusionModel


class Warp(DragMethod):
    """Where the moved handles are looked for. Lengths are in pixels of the feature grid."""

    reads_image: ClassVar[bool] = True
    needs_segments: ClassVar[bool] = True
    gains_by_lora: ClassVar[bool] = False

    method: Literal["warp"] = "warp"
    stop_distance: PositiveFloat = 2.0
    """A handle that is found within this distance of its target has arrived."""
    tracking_radius: Positive | None = None
    """None: from the spacing of the superpixels, within `tracking_radius_range`."""
    tracking_radius_range: RadiusRange = (3, 20)

    def drag(self, model: "DiffusionModel", problem: "DragProblem", hooks: "Hooks") -> "DragResult":
        """Move the contents under the handles in the picture, and invert that."""
        from adaptivedrag.warp.relocation import relocate

        result: DragResult = relocate(model, problem, self, hooks)
        return result

    def fitted_to(self, scale: LatentScale) -> Self:
        """Fit lengths."""
        return self.replaced(
            stop_distance=self.stop_distance * scale.length,
            tracking_radius=scale.radius(self.tracking_radius),
            tracking_radius_range=scale.bounds(self.tracking_radius_range),
        )
