"""Editable masks (paper, Sec. 3.3); True may change. On the feature grid unless said otherwise."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from skimage.draw import line

from adaptivedrag.config import BuildMaskConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.mask_warnings import mask_warnings
from adaptivedrag.points import FEATURES_PER_LATENT, Drag, Frame
from adaptivedrag.superpixels import Segments, Superpixels
from adaptivedrag.warp.content import content_mask, find_contents

WHOLE_FROM = 0.5
"""Share of a handle's segment ahead of it from which the whole segment may change."""

Cell = tuple[int, int]


def build_mask(
    config: BuildMaskConfig,
    superpixels: Superpixels,
    segments: Segments | None,
    drags: Sequence[Drag],
    frame: Frame,
    user: Bool[np.ndarray, "hi wi"] | None = None,
) -> tuple[Bool[np.ndarray, "h w"], list[str]]:
    """Build the mask of the configured mode; return it with warnings, a line each.

    Args:
        segments: for the modes `segment`, `union`, `swept` and `content`.
        user: True where the image may change, at its own size; for the mode `user`.

    Raises:
        InvalidEdit: if the mode lacks its input.
    """
    mask, warnings = _masked(config, superpixels, segments, drags, frame, user)
    share = float(image_mask(mask, frame).mean())
    return mask, warnings + mask_warnings(share, lambda point: mask[frame.to_cell(point)], drags)


def limits_content(config: BuildMaskConfig) -> bool:
    """Return whether a mask says where moved content ends; that of the content itself does not."""
    return config.mode != "content"


def _masked(
    config: BuildMaskConfig,
    superpixels: Superpixels,
    segments: Segments | None,
    drags: Sequence[Drag],
    frame: Frame,
    user: Bool[np.ndarray, "hi wi"] | None,
) -> tuple[Bool[np.ndarray, "h w"], list[str]]:
    if config.mode == "user":
        return user_mask(_given(user, config, "mask"), frame), []
    along = superpixel_line_mask(superpixels, drags, frame, config.line_extension)
    if config.mode == "superpixel_line":
        return along, []
    segments = _given(segments, config, "segments")
    if config.mode == "content":
        contents = find_contents(segments, superpixels, drags, frame)
        mask = content_mask(contents, superpixels.labels.shape, config.content_margin)
        return mask, _handles_in_no_segment(segments, drags, frame)
    warnings = _handles_in_no_segment(segments, drags, frame)
    if config.mode == "swept":
        return swept_mask(segments, drags, frame), warnings
    own = segment_mask(segments, drags, frame)
    return (own | along if config.mode == "union" else own), warnings


def _given(value: np.ndarray | None, config: BuildMaskConfig, name: str) -> np.ndarray:
    if value is None:
        raise InvalidEdit(f'build_mask.mode is "{config.mode}", but there is no {name}')
    return value


def superpixel_line_mask(
    superpixels: Superpixels, drags: Sequence[Drag], frame: Frame, line_extension: bool = True
) -> Bool[np.ndarray, "h w"]:
    """Join the superpixels of the handles and, extended, those on each line to the target."""
    cells = _line_cells if line_extension else _handle_cell
    touched = [superpixels.labels[cells(drag, frame)] for drag in drags]
    return np.isin(superpixels.labels, np.unique(np.concatenate(touched)))


def segment_mask(
    segments: Segments, drags: Sequence[Drag], frame: Frame
) -> Bool[np.ndarray, "h w"]:
    """Join the segments of the handles, as the authors' code does; see `handle_segment`."""
    own = [handle_segment(segments, *_ends(drag, frame)) for drag in drags]
    return np.logical_or.reduce(own)


def swept_mask(segments: Segments, drags: Sequence[Drag], frame: Frame) -> Bool[np.ndarray, "h w"]:
    """Join all places of each handle's segment while it moves along the line to the target."""
    mask = np.zeros(segments.shape[1:], dtype=bool)
    for drag in drags:
        handle, target = _ends(drag, frame)
        own = handle_segment(segments, handle, target)
        for row, col in zip(*line(*handle, *target), strict=True):
            _lay(own, int(row) - handle[0], int(col) - handle[1], mask)
    return mask


def handle_segment(segments: Segments, handle: Cell, target: Cell) -> Bool[np.ndarray, "h w"]:
    """Return the smallest segment at a handle; empty where there is none.

    It is whole if at least half of it lies within 90° of the way to the target; otherwise only that
    part is returned.
    """
    holding = np.flatnonzero(segments[:, handle[0], handle[1]])
    if not holding.size:
        return np.zeros(segments.shape[1:], dtype=bool)
    whole = segments[holding[-1]]
    rows, cols = np.indices(whole.shape)
    onward = np.subtract(target, handle)
    ahead = whole & ((rows - handle[0]) * onward[0] + (cols - handle[1]) * onward[1] >= 0)
    return whole if ahead.sum() >= WHOLE_FROM * whole.sum() else ahead


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


def _handles_in_no_segment(segments: Segments, drags: Sequence[Drag], frame: Frame) -> list[str]:
    return [
        f"handle {number} at ({drag.handle.x:g}, {drag.handle.y:g}) lies in no segment"
        for number, drag in enumerate(drags, start=1)
        if not segments[(slice(None), *frame.to_cell(drag.handle))].any()
    ]


def _ends(drag: Drag, frame: Frame) -> tuple[Cell, Cell]:
    return frame.to_cell(drag.handle), frame.to_cell(drag.target)


def _handle_cell(drag: Drag, frame: Frame) -> tuple[Int[np.ndarray, "1"], Int[np.ndarray, "1"]]:
    row, col = frame.to_cell(drag.handle)
    return np.array([row]), np.array([col])


def _line_cells(drag: Drag, frame: Frame) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Rasterize the way from a handle to its target, both ends included."""
    handle, target = _ends(drag, frame)
    return line(*handle, *target)


def _lay(
    shape: Bool[np.ndarray, "h w"], down: int, right: int, onto: Bool[np.ndarray, "h w"]
) -> None:
    """Add a moved shape to `onto`; what leaves the grid is lost."""
    rows, cols = shape.shape
    onto[max(0, down) : rows + down, max(0, right) : cols + right] |= shape[
        max(0, -down) : rows - down, max(0, -right) : cols - right
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
