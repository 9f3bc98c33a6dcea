"""Pasting: contents are moved in the picture, and what they leave is filled; no model is used.

Everything happens at the image's own size, so that what is moved loses no detail to the size at
which the models see it. Lengths below are in pixels of the working image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, UInt8

from adaptivedrag.compositing import as_pixels
from adaptivedrag.points import Frame
from adaptivedrag.warp.content import Content
from adaptivedrag.warp.glow import Glow, find_glow

RIM = 1
"""Margin that moves with content, since anti-aliasing leaves some of it there."""

FRINGE = 2
"""Margin around content and its rim that is filled in behind it: it holds its glow."""

SOFTNESS = 0.7
"""Width (standard deviation) of the soft edge of moved content."""

GLOW = 0.08
"""How far around a gap its glow, shadow and remains are looked for, as a share of the shorter side
of the working image."""

NOTICED = 3.0
"""Least difference in gray levels that counts as a glow."""

NOTICED_LIGHT = 0.5
"""Change of a glow in gray levels from which a pixel counts as changed."""

SMOOTHING = 40
"""Rounds of smoothing of the filled gap."""

REACH = 2
"""Half the side of the square that a round of smoothing averages."""

Region = Bool[np.ndarray, "h w"]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Pasted:
    """An image whose contents have been moved, without a model.

    Attributes:
        picture: the image with the contents at their new places, the gaps behind them filled
            smoothly; of the image's own size, as are the masks.
        hole: what was filled: content has left, and nothing has come.
        arrived: where content was laid.
        changed: where the picture may differ from the image.
        rim: around the hole, what differs from what lies beyond by more than that varies: glow,
            shadow, remains of the content. The picture shows it as it was.
        cleared: the picture with the rim filled too.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    hole: Region
    arrived: Region
    changed: Region
    rim: Region
    cleared: UInt8[np.ndarray, "h w 3"]


PARTS = tuple(part.name for part in fields(Pasted))


def paste(image: UInt8[np.ndarray, "h w 3"], contents: Sequence[Content], frame: Frame) -> Pasted:
    """Move contents in an image, later ones in front; without contents nothing changes.

    A glow around content goes with it (`adaptivedrag.warp.glow`).
    """
    nothing = np.zeros(image.shape[:2], dtype=bool)
    if not contents:
        return Pasted(image.copy(), nothing, nothing, nothing, nothing, image.copy())
    scale = _scale(frame)
    outlines = [_at_own_size(content.region, frame) for content in contents]
    regions = [_grown(outline, RIM * scale) for outline in outlines]
    gap = _grown(np.any(regions, axis=0), FRINGE * scale)
    source = image.astype(np.float32)
    glows = [find_glow(source, outline, scale) for outline in outlines]
    left, was_lit = _light(glows, outlines)
    light, is_lit = _light(glows, [_at_own_size(content.arrival, frame) for content in contents])
    unlit = source - left
    result = filled(unlit, gap, frame) + light
    covered = np.zeros(image.shape[:2], np.float32)
    for content, region in zip(contents, regions, strict=True):
        _lay(content, region, source, frame, result, covered)
    hole, arrived = gap & (covered < 0.5), covered > 0
    rim = _rim(unlit, gap, frame) & ~arrived
    rim = _touching(hole | rim, hole) & rim
    behind = filled(unlit, gap | rim, frame) + light
    cleared = np.where((hole | rim)[..., None], behind, result)
    changed = gap | arrived | was_lit | is_lit
    return Pasted(as_pixels(result), hole, arrived, changed, rim, as_pixels(cleared))


def _light(
    glows: Sequence[Glow | None], regions: Sequence[Region]
) -> tuple[Float[np.ndarray, "h w 3"], Region]:
    """Return the sum of glows, each around its region, and where one of them is noticed."""
    light, lit = np.zeros((*regions[0].shape, 3), np.float32), np.zeros_like(regions[0])
    for glow, region in zip(glows, regions, strict=True):
        if glow is not None:
            own = glow.around(region)
            light += own
            lit |= (np.abs(own) > NOTICED_LIGHT).any(axis=-1)
    return light, lit


def filled(
    image: Float[np.ndarray, "h w 3"], gap: Region, frame: Frame
) -> Float[np.ndarray, "h w 3"]:
    """Fill a gap from the nearest pixels around it, then smooth the filling."""
    from scipy.ndimage import distance_transform_edt, uniform_filter

    result = image.copy()
    if gap.all() or not gap.any():
        return result
    reach = round(REACH * _scale(frame))
    box = _box(gap, 2 * reach)
    inside, seen = gap[box], result[box]
    # The nearest pixel lies within the box, unless the gap fills it.
    rows, cols = distance_transform_edt(inside, return_distances=False, return_indices=True)
    part = seen[rows, cols]
    for _ in range(SMOOTHING):
        smooth = uniform_filter(part, (2 * reach + 1, 2 * reach + 1, 0))
        np.copyto(part, smooth, where=inside[..., None])
    result[box] = part
    return result


def _rim(source: Float[np.ndarray, "h w 3"], gap: Region, frame: Frame) -> Region:
    """Return what around a gap differs from a filling from beyond, by more than that varies."""
    from scipy.ndimage import gaussian_filter

    reach = GLOW * min(frame.height, frame.width) * _scale(frame)
    wide = _grown(gap, reach)
    beyond = _grown(wide, reach) & ~wide
    if not beyond.any():
        return np.zeros_like(gap)
    box = _box(wide | beyond, round(8 * _scale(frame)))
    narrow, broad = 2 * _scale(frame), 8 * _scale(frame)
    seen, filling = source[box], filled(source, wide, frame)[box]

    def blurred(picture: Float[np.ndarray, "h w 3"], width: float) -> Float[np.ndarray, "h w 3"]:
        return gaussian_filter(picture, (width, width, 0))

    varies = np.abs(blurred(seen, narrow) - blurred(seen, broad)).mean(axis=2)[beyond[box]]
    differs = np.abs(blurred(seen - filling, narrow)).mean(axis=2)
    rim = np.zeros_like(gap)
    rim[box] = differs > max(NOTICED, float(np.percentile(varies, 95)))
    return _grown(_touching((rim & wide) | gap, gap), _scale(frame)) & wide & ~gap


def _touching(region: Region, core: Region) -> Region:
    """Return the pieces of a region that touch its core."""
    from scipy.ndimage import label

    pieces, _ = label(region)
    found = np.unique(pieces[core])
    return np.isin(pieces, found[found > 0])


def _lay(
    content: Content,
    region: Region,
    source: Float[np.ndarray, "h w 3"],
    frame: Frame,
    result: Float[np.ndarray, "h w 3"],
    covered: Float[np.ndarray, "h w"],
) -> None:
    """Lay moved content on a result, in place; `covered` keeps its share of each pixel."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    scale = _scale(frame)
    arrival = _at_own_size(content.arrival, frame)
    if not arrival.any():
        return
    box = _box(arrival, round(8 * scale))
    places = _sources(content, frame, box)
    soft = gaussian_filter(region.astype(np.float32), SOFTNESS * scale)
    share = map_coordinates(soft, places, order=1, mode="constant")
    channels = [
        map_coordinates(source[..., channel], places, order=3, mode="nearest")
        for channel in range(source.shape[2])
    ]
    result[box] += share[..., None] * (np.stack(channels, axis=-1) - result[box])
    covered[box] = np.maximum(covered[box], share)


def _sources(content: Content, frame: Frame, box: Box) -> Float[np.ndarray, "2 rows cols"]:
    """Return where in the image the pixels of a box come from, (row, col) in pixels."""
    from scipy.ndimage import map_coordinates

    down, right = frame.features_per_pixel
    rows, cols = (np.arange(side.start, side.stop) for side in box)
    cells = np.stack(
        np.meshgrid((rows + 0.5) * down - 0.5, (cols + 0.5) * right - 0.5, indexing="ij")
    )
    grid = np.indices(content.region.shape).astype(np.float64)
    ways = np.moveaxis(content.came_from, -1, 0) - grid
    found = [map_coordinates(way, cells, order=1, mode="nearest") for way in ways]
    per_cell = np.array([down, right])[:, None, None]
    return (cells + np.stack(found) + 0.5) / per_cell - 0.5


def _at_own_size(region: Bool[np.ndarray, "hf wf"], frame: Frame) -> Region:
    """Show a region of the feature grid at the image's own size, its outline smoothed."""
    from scipy.ndimage import map_coordinates

    down, right = frame.features_per_pixel
    rows = (np.arange(frame.image_height) + 0.5) * down - 0.5
    cols = (np.arange(frame.image_width) + 0.5) * right - 0.5
    cells = np.stack(np.meshgrid(rows, cols, indexing="ij"))
    return map_coordinates(region.astype(np.float32), cells, order=1, mode="nearest") >= 0.5


def _grown(region: Region, width: float) -> Region:
    from scipy.ndimage import binary_dilation

    return binary_dilation(region, iterations=max(1, round(width)))


def _scale(frame: Frame) -> float:
    """Return pixels of the image per pixel of the working image."""
    return frame.image_width / frame.width


def _box(region: Region, margin: int) -> Box:
    """Return the smallest box that holds a region, and a margin around it."""
    (top, bottom), (left, right) = (
        np.flatnonzero(region.any(axis=axis))[[0, -1]] for axis in (1, 0)
    )
    rows, cols = region.shape
    return (
        slice(max(0, top - margin), min(rows, bottom + margin + 1)),
        slice(max(0, left - margin), min(cols, right + margin + 1)),
    )
