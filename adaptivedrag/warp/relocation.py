"""Relocation: content is moved in the picture, which is inverted anew (preset `plus`).

The paper's optimisation pulls the latents towards the target a little at a time. Where features at
the start timestep follow the latents without the picture following, that leaves the content behind.
Here the drag begins from the inverted latents of a picture in which the content has been moved: by
fractions of a pixel, where latents could only be moved by whole cells of eight. The preset stops
there; with a larger budget of steps the optimisation goes on from those latents.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.inversion import invert
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.warp.content import Content

RIM = 1
"""Pixels around content that go with it: anti-aliased, they hold some of it."""

FRINGE = 2
"""Pixels around content and its rim that are filled in behind it: they hold its glow."""

SOFTNESS = 0.7
"""Width in pixels (standard deviation) of the edge at which moved content is laid on."""

SMOOTHING = 40
"""Rounds in which what is filled in becomes smooth, each over 5 × 5 pixels."""


def relocated_latents(
    model: DiffusionModel,
    image: UInt8[np.ndarray, "hp wp 3"],
    conditioning: Conditioning,
    contents: Sequence[Content],
    inversion: InvertImageConfig,
) -> Float[Tensor, "1 c h w"]:
    """Return the inverted latents of an image whose contents have been moved.

    Args:
        image: the working image.

    Raises:
        NotFinite: if latents are not finite.
    """
    moved = move_contents(image, contents)
    try:
        return invert(model, model.posterior(moved)[0], conditioning, inversion)[:, -1]
    except NotFinite as error:
        raise NotFinite(f"content that was moved: {error}") from error


def move_contents(
    image: UInt8[np.ndarray, "hp wp 3"], contents: Sequence[Content]
) -> UInt8[np.ndarray, "hp wp 3"]:
    """Return an image in which contents lie where their motions take them, later ones in front.

    What content leaves behind is filled from around it. Without any contents nothing changes.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter
    from skimage.transform import resize, warp

    if not contents:
        return image.copy()
    rows, cols = image.shape[:2]
    step = rows / contents[0].region.shape[0]
    regions = [
        binary_dilation(resize(content.region, (rows, cols), order=0), iterations=RIM)
        for content in contents
    ]
    gap = binary_dilation(np.any(regions, axis=0), iterations=FRINGE)
    source = image.astype(np.float64)
    result = _filled(source, gap)
    for content, region in zip(contents, regions, strict=True):
        back = _in_pixels(content.back, step)
        soft = gaussian_filter(region.astype(np.float64), SOFTNESS)
        share = warp(soft, back, order=1, preserve_range=True)[..., None]
        moved = warp(source, back, order=3, mode="edge", preserve_range=True)
        result += share * (moved - result)
    return result.round().clip(0, 255).astype(np.uint8)


def _in_pixels(motion: Float[np.ndarray, "2 3"], step: float) -> Float[np.ndarray, "3 3"]:
    """Bring a map of (row, col) of the feature grid to one of (x, y) in pixels."""
    to_pixel = np.array([[0, step, (step - 1) / 2], [step, 0, (step - 1) / 2], [0, 0, 1]])
    return to_pixel @ np.vstack([motion, [0, 0, 1]]) @ np.linalg.inv(to_pixel)


def _filled(
    image: Float[np.ndarray, "hp wp 3"], gap: Bool[np.ndarray, "hp wp"]
) -> Float[np.ndarray, "hp wp 3"]:
    """Fill a gap from the nearest pixels around it, then smooth what was filled in."""
    from scipy.ndimage import distance_transform_edt, uniform_filter

    if gap.all():
        return image.copy()
    rows, cols = distance_transform_edt(gap, return_distances=False, return_indices=True)
    filled = image[rows, cols]
    for _ in range(SMOOTHING):
        filled[gap] = uniform_filter(filled, (5, 5, 0))[gap]
    return filled
