"""The warp: content is moved in the picture (presets `plus` and `paste`).

The optimization pulls the latents toward the target a little at a time. Where features at the
start timestep follow the latents and the picture does not follow the features, that leaves the
content behind. The warp moves content in the picture, by fractions of a pixel, where latents could
only be moved by whole cells of eight. Not in the paper.
"""

from typing import TYPE_CHECKING, Literal, Self

from adaptivedrag.methods.method import PictureMethod
from adaptivedrag.section import LatentScale, PositiveFloat

if TYPE_CHECKING:
    from adaptivedrag.drag import MovedPicture, PictureProblem


class Warp(PictureMethod):
    """When a moved handle has arrived. Lengths are in pixels of the feature grid."""

    needs_segments = True
    gains_by_lora = False

    method: Literal["warp"] = "warp"
    stop_distance: PositiveFloat = 2.0
    """A handle that is put within this distance of its target has arrived."""

    def move(self, problem: "PictureProblem") -> "MovedPicture":
        """Move the contents under the handles in the picture."""
        from adaptivedrag.warp.relocation import relocate

        return relocate(problem, self)

    def fitted_to(self, scale: LatentScale) -> Self:
        """Fit lengths."""
        return self.replaced(stop_distance=self.stop_distance * scale.length)
