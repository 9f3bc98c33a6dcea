"""What the methods have in common that pull handles by their features."""

from abc import ABC
from typing import Literal, Self

from adaptivedrag.methods.method import LatentMethod
from adaptivedrag.section import (
    LatentScale,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    RadiusRange,
)


class SupervisedMethod(LatentMethod, ABC):
    """Motion supervision and point tracking. Lengths are in pixels of the feature grid."""

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
    """None: from the spacing of the superpixels, within `tracking_radius_range`."""
    tracking_radius_range: RadiusRange = (3, 20)
    region_anchor: Literal["current", "transported"] = "current"
    """Whose superpixel bounds the region: that of the handle now, or its first one moved along."""
    regions_in_supervision: bool = True
    regions_in_tracking: bool = True

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
