"""The glow around content: what a sun or a lamp does to its surroundings goes where it goes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

REACH = 1.8
"""A glow reaches this many radii (of a disc of the content's size) beyond its outline."""

BEYOND = 1.5
"""What lies as far as this many times the reach tells what the surroundings are without it."""

EXPLAINED = 0.6
"""A glow explains at least this share of how its surroundings differ from those beyond it."""

SHARP = 5.0
"""Slopes of the surroundings, levels per pixel of the working image; where more than one in twenty
are steeper, there are things around content, and no glow."""

FRINGE = 2
"""Pixels of the working image around content that are partly content."""

Region = Bool[np.ndarray, "h w"]
Pixels = Float[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Glow:
    """How much brighter it is around content, by the distance from its outline in whole pixels."""

    profile: Float[np.ndarray, "steps 3"]

    def around(self, region: Region) -> Pixels:
        """Return the glow around a region, and at its outline within it; none if it is empty."""
        if not region.any():
            return np.zeros((*region.shape, 3), np.float32)
        steps = np.concatenate([self.profile, np.zeros((1, 3))]).astype(np.float32)
        found: Pixels = steps[np.minimum(_away(region), len(self.profile))]
        return found


def find_glow(image: Pixels, region: Region, scale: float) -> Glow | None:
    """Return the glow around a region; None if it has none, or there are things in it.

    Without it the surroundings would be a plane through the colors beyond its reach.

    Args:
        scale: pixels of the image per pixel of the working image.
    """
    reach, first = int(REACH * np.sqrt(region.sum() / np.pi)), round(FRINGE * scale) + 1
    away = _away(region)
    around, beyond = (away >= first) & (away < reach), (away >= reach) & (away < BEYOND * reach)
    if reach <= 2 * first or beyond.sum() < region.sum() or _is_sharp(image, around, scale):
        return None
    differs, steps = image[around] - _plane(image, beyond, around), away[around]
    sums = [np.bincount(steps, differs[:, channel], reach) for channel in range(3)]
    profile = np.stack(sums, axis=1) / np.maximum(np.bincount(steps, minlength=reach), 1)[:, None]
    left = ((differs - profile[steps]) ** 2).sum()
    if left > (1 - EXPLAINED) * (differs**2).sum() or profile.sum() <= 0:
        return None
    profile[:first] = profile[first]
    return Glow(profile - np.linspace(0, 1, reach)[:, None] * profile[-1])


def _away(region: Region) -> np.ndarray:
    """Return the distance to a region in whole pixels, 0 within it."""
    from scipy.ndimage import distance_transform_edt

    return np.rint(distance_transform_edt(~region)).astype(int)


def _is_sharp(image: Pixels, around: Region, scale: float) -> bool:
    from scipy.ndimage import gaussian_gradient_magnitude

    slopes = gaussian_gradient_magnitude(image.mean(axis=-1), scale)[around]
    return bool(np.quantile(slopes, 0.95) * scale > SHARP)


def _plane(image: Pixels, known: Region, wanted: Region) -> Float[np.ndarray, "n 3"]:
    """Continue the colors of one region to another as a plane."""
    places, ends = (
        np.column_stack([np.argwhere(each), np.ones(each.sum())]) for each in (known, wanted)
    )
    fit, *_ = np.linalg.lstsq(places, image[known], rcond=None)
    plane: Float[np.ndarray, "n 3"] = ends @ fit
    return plane
