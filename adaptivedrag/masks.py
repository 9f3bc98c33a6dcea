"""Editable masks (paper, Sec. 3.3); True may change. On the feature grid unless said otherwise."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from skimage.draw import line

from adaptivedrag.points import FEATURES_PER_LATENT, Drag, Frame
from adaptivedrag.superpixels import Superpixels


def superpixel_line_mask(
    superpixels: Superpixels, drags: Sequence[Drag], frame: Frame
) -> Bool[np.ndarray, "h w"]:
    """Join the superpixels of the handles and those on each line from handle to target."""
    touched = [
        superpixels.labels[line(*frame.to_cell(drag.handle), *frame.to_cell(drag.target))]
        for drag in drags
    ]
    return np.isin(superpixels.labels, np.unique(np.concatenate(touched)))


def user_mask(mask: Bool[np.ndarray, "h w"], frame: Frame) -> Bool[np.ndarray, "hf wf"]:
    """Bring a mask of the image's own size to the feature grid; a cell touched by it is True."""
    rows, cols = _cells_of_pixels(frame)
    grid = np.zeros(frame.feature_size, dtype=bool)
    pixel_rows, pixel_cols = np.nonzero(mask)
    grid[rows[pixel_rows], cols[pixel_cols]] = True
    return grid


def image_mask(mask: Bool[np.ndarray, "hf wf"], frame: Frame) -> Bool[np.ndarray, "h w"]:
    """Show a mask of the feature grid at the image's own size."""
    rows, cols = _cells_of_pixels(frame)
    return mask[np.ix_(rows, cols)]


def latent_mask(mask: Bool[np.ndarray, "hf wf"]) -> Bool[np.ndarray, "hl wl"]:
    """Max-pool a mask to the latent grid: a latent cell touched by it is True."""
    rows, cols = (side // FEATURES_PER_LATENT for side in mask.shape)
    return mask.reshape(rows, FEATURES_PER_LATENT, cols, FEATURES_PER_LATENT).any(axis=(1, 3))


def mask_warnings(
    mask: Bool[np.ndarray, "hf wf"], drags: Sequence[Drag], frame: Frame
) -> list[str]:
    """Say which handles and targets lie outside the mask, and whether it is empty."""
    if not mask.any():
        return ["the mask is empty: nothing holds the background"]
    return [
        f"{name} {number} at ({point.x:g}, {point.y:g}) lies outside the mask"
        for number, drag in enumerate(drags, start=1)
        for name, point in zip(("handle", "target"), drag, strict=True)
        if not mask[frame.to_cell(point)]
    ]


def _cells_of_pixels(frame: Frame) -> tuple[Int[np.ndarray, "h"], Int[np.ndarray, "w"]]:
    """Return the feature row of each pixel row, and the feature column of each pixel column."""
    step = frame.pixels_per_feature
    sides = ((frame.image_height, frame.height), (frame.image_width, frame.width))
    rows, cols = (
        np.floor((np.arange(own) + 0.5) * working / own / step).astype(int)
        for own, working in sides
    )
    return rows, cols
