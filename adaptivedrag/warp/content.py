"""The content under the handles, and how the drags move it; not in the paper (preset `plus`).

A drag says where one point goes, not what goes with it. SAM 2 finds parts, things and groups of
things at a handle; content is the smallest of them that is no mere pattern on another: one that
lies within a segment not much larger goes with it. Handles that go the same way move one content,
if a segment holds them. A thin part that sticks out of a segment (a sleeve, a tail), and a lobe
that a neck joins to the rest of it (one of two leaves), is content by itself; a long one stays
attached.

How it moves (`adaptivedrag.warp.motion`), all on the feature grid, (row, col):

    one handle inside          carries its content
    at an end, along           stretches it; its other side stays, unless it would be pressed flat
    at an end, across          turns it about its other end
    at the edge of a disc      grows it about its center
    in an attached part        turns and stretches the part; where it is attached it stays (a field)
    two handles                turn, stretch and carry
    three and more             a field in which each arrives; where it would fold over, the affine
                               map that comes nearest
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from adaptivedrag.points import Drag, Frame
from adaptivedrag.superpixels import Segments, Superpixels
from adaptivedrag.warp.motion import (
    Affine,
    Point,
    Points,
    Region,
    Sources,
    carried,
    cells,
    field,
    folds,
    grown,
    looked_up,
    moved,
    nearest_affine,
    sources,
    stretched,
    swung,
)

LARGEST = 0.5
"""A segment of more than this share of the image is background, not content."""

BORDER = 0.35
"""A segment with more than this share of its outline on the image's border is background."""

LIKE = 1.7
"""A segment that is at most this many times as large shows the same thing."""

AROUND = 3.0
"""A segment that is at most this many times as large, and surrounds most of the border of another,
shows the thing that the other one lies on."""

EDGE = 3
"""Cells from the outline of a segment within which a border is no longer surrounded by it."""

SAME = 0.5
"""Contents that share more than this part of the smaller one are merged."""

TOGETHER = 0.3
"""Drags whose ways differ by at most this part of the longer one go the same way."""

ALIKE = 0.6
"""Segments that overlap the chosen one by more than this (intersection over union) show the same
thing, and vote on its cells."""

THIN = 0.6
"""A part is thin if its half width is at most this part of its segment's."""

STICKS_OUT = 0.4
"""A part of more than this share of its segment does not stick out of it."""

NECK = 0.5
"""A lobe is joined to the rest of its segment by a neck of at most this part of its width."""

LOBE = 0.6
"""A lobe of more than this share of its segment is the segment."""

LONG = 2.0
"""A lobe at least this many times as long as wide (standard deviations) hangs on its neck."""

END = 0.3
"""A handle in the outermost part of its content, seen from the centroid, lies at an end of it."""

ALONG = 0.6
"""A drag at an end that goes along the line from the centroid (cosine) stretches the content; one
across turns it."""

PRESSED = 0.45
"""A drag inwards that would press content to less than this carries it instead."""

ROUND = 0.76
"""Content that overlaps a disc of its size by more than this (intersection over union) is one."""


RADIAL = 0.9
"""A drag at the rim of a disc that goes along its radius (cosine) grows it."""

RIM = 0.8
"""A handle at least this part of a disc's radius from its center is at its rim."""

MOST_AFFINE = 2
"""Handles on one content that an affine map brings to their targets; for more it takes a field."""

CONTROLS = 24
"""About as many cells of a hinge, and of what hangs on it, are followed by a field."""

NOTICED = 0.02
"""Share of content that leaves the image from which it is worth a warning."""

OUT = 1.3
"""A handle in a part that sticks out is at least this many times half its width from the rest."""


@dataclass(frozen=True)
class Content:
    """The content that one or more handles drag, and how it moves.

    Attributes:
        region: of the cells of the feature grid that hold the image, without padding.
        came_from: for each of them, the (row, col) of what is found there after the
            motion; smooth, and defined everywhere.
        motion: its name.
        warnings: what is odd about it, a line each.
    """

    region: Region
    came_from: Sources
    motion: str = "carried"
    warnings: tuple[str, ...] = ()

    @property
    def arrival(self) -> Region:
        """Return the cells of the grid where the content lies after its motion."""
        return looked_up(self.region, self.came_from)


@dataclass(frozen=True)
class _Thing:
    """What one or more drags move.

    Attributes:
        hinge: the cells at which it is attached to what stays; empty if it is free.
    """

    region: Region
    hinge: Region
    drags: tuple[Drag, ...]


def find_contents(
    segments: Segments, superpixels: Superpixels, drags: Sequence[Drag], frame: Frame
) -> tuple[Content, ...]:
    """Return the contents of all drags that have a length, larger ones first.

    If no segment of at most half of the image holds a handle, its superpixel is its content.
    Regions are those of the image: its mirror image in the padding is no content.
    """
    rows, cols = frame.image_cells
    inside = segments[:, :rows, :cols]
    segments = inside[np.argsort(-inside.sum(axis=(1, 2)), kind="stable")]
    superpixels = Superpixels(superpixels.labels[:rows, :cols])
    things: list[_Thing] = []
    for drag in drags:
        if drag.handle == drag.target:
            continue
        thing = _thing_at(segments, superpixels, drag, frame)
        for place, other in enumerate(things):
            joined = _joined(segments, other, thing, frame)
            if joined is not None:
                things[place] = joined
                break
        else:
            things.append(thing)
    contents = [_content(thing, drags, frame) for thing in things]
    return tuple(sorted(contents, key=lambda content: -int(content.region.sum())))


def content_mask(contents: Sequence[Content], shape: tuple[int, int], margin: int) -> Region:
    """Return where content was or will be, and everything within `margin` cells of it."""
    from scipy.ndimage import binary_dilation

    mask = np.zeros(shape, dtype=bool)
    for content in contents:
        rows, cols = content.region.shape
        mask[:rows, :cols] |= content.region | content.arrival
    return binary_dilation(mask, iterations=margin) if margin else mask


def _thing_at(segments: Segments, superpixels: Superpixels, drag: Drag, frame: Frame) -> _Thing:
    from scipy.ndimage import binary_dilation

    cell = frame.to_cell(drag.handle)
    region = _segment_holding(segments, [cell])
    if region is None:
        region = _piece(superpixels.labels == superpixels.labels[cell], cell)
    free = np.zeros_like(region)
    part, lobe = _part_that_sticks_out(region, cell), _lobe(region, cell)
    if part is None and (lobe is None or not _is_long(lobe)):
        return _Thing(region if lobe is None else lobe, free, (drag,))
    attached = lobe if part is None else part
    return _Thing(attached, attached & binary_dilation(region & ~attached), (drag,))


def _joined(segments: Segments, one: _Thing, other: _Thing, frame: Frame) -> _Thing | None:
    """Return what moves two things as one; None if they move by themselves."""
    drags = (*one.drags, *other.drags)
    if all(_go_together(*pair, frame) for pair in pairwise(drags)):
        common = _segment_holding(segments, [frame.to_cell(drag.handle) for drag in drags])
        if common is not None:
            return _Thing(common, np.zeros_like(common), drags)
    shared = (one.region & other.region).sum()
    if shared <= SAME * min(one.region.sum(), other.region.sum()):
        return None
    return _Thing(one.region | other.region, one.hinge | other.hinge, drags)


def _go_together(one: Drag, other: Drag, frame: Frame) -> bool:
    ways = [_way(drag, frame) for drag in (one, other)]
    return bool(np.linalg.norm(ways[0] - ways[1]) <= TOGETHER * max(map(np.linalg.norm, ways)))


def _segment_holding(segments: Segments, handles: Sequence[tuple[int, int]]) -> Region | None:
    """Return the smallest segment at all handles that is no pattern on another; None without one.

    It is in one piece and without holes; its cells are those of at least half of the segments like
    it that hold the handles.
    """
    holding = [
        segment
        for segment in segments[::-1]
        if not _is_background(segment)
        and _piece(segment, handles[0])[tuple(zip(*handles, strict=True))].all()
    ]
    if not holding:
        return None
    chosen = holding[0]
    for segment in holding[1:]:
        if segment.sum() <= LIKE * chosen.sum() or (
            segment.sum() <= AROUND * chosen.sum() and _surrounds(segment, chosen)
        ):
            chosen = segment
    alike = [each for each in holding if (each & chosen).sum() > ALIKE * (each | chosen).sum()]
    return _piece(np.mean(alike, axis=0) >= 0.5, handles[0])


def _is_background(segment: Region) -> bool:
    """Return whether a segment is too large for a thing, or lies along the image's border."""
    from scipy.ndimage import binary_erosion

    outline = (segment & ~binary_erosion(segment)).sum()
    sides = segment[[0, -1]].sum() + segment[1:-1, [0, -1]].sum()
    return bool(segment.mean() > LARGEST or sides > BORDER * outline)


def _surrounds(segment: Region, other: Region) -> bool:
    """Return whether most of the border of another segment lies well within a segment."""
    from scipy.ndimage import binary_erosion

    border = other & ~binary_erosion(other)
    within = binary_erosion(segment, iterations=EDGE, border_value=1)
    return bool((border & within).sum() >= 0.5 * border.sum())


def _piece(region: Region, cell: tuple[int, int]) -> Region:
    """Return the piece of a region at a cell, without holes."""
    from scipy.ndimage import binary_fill_holes, label

    pieces, _ = label(region)
    filled: Region = binary_fill_holes(pieces == pieces[cell]) if region[cell] else region
    return filled


def _part_that_sticks_out(region: Region, handle: tuple[int, int]) -> Region | None:
    """Return the thin part of a region that holds a handle; None if the handle is in no such part.

    Half the width of a part is the radius of the largest disc within the region that holds the
    handle; the part is what no disc a third larger reaches.
    """
    from scipy.ndimage import distance_transform_edt, label

    depth, middle = _largest_disc(region, handle)
    half_width = depth[middle]
    if not 0 < half_width <= THIN * depth.max():
        return None
    wide = distance_transform_edt(depth < 4 / 3 * half_width) < 4 / 3 * half_width
    pieces, _ = label(region & ~wide)
    part: Region = (pieces == pieces[handle]) & region
    beyond = distance_transform_edt(part | ~region)[handle] > OUT * half_width
    if wide[handle] or part.sum() > STICKS_OUT * region.sum() or not beyond:
        return None
    return part


def _lobe(region: Region, handle: tuple[int, int]) -> Region | None:
    """Return the lobe of a region that holds a handle, joined to the rest by a neck; None without.

    A neck is at most half as wide as the lobe at the handle.
    """
    from scipy.ndimage import distance_transform_edt, label

    depth, middle = _largest_disc(region, handle)
    neck = NECK * depth[middle]
    pieces, _ = label(depth > neck)
    away, nearest = distance_transform_edt(pieces == 0, return_indices=True)
    # Corners are farther from what is left of the lobe than its sides are.
    lobe: Region = region & (pieces[*nearest] == pieces[middle]) & (away <= 1.5 * neck)
    return lobe if 0 < lobe.sum() <= LOBE * region.sum() else None


def _largest_disc(
    region: Region, handle: tuple[int, int]
) -> tuple[Float[np.ndarray, "h w"], tuple[int, int]]:
    """Return how deep in a region each cell lies, and the middle of the largest disc at a handle.

    The depth there is its radius; of a handle outside the region it is 0.
    """
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    rows, cols = np.indices(region.shape)
    holding = np.hypot(rows - handle[0], cols - handle[1]) <= depth
    row, col = np.unravel_index(np.where(holding, depth, 0).argmax(), depth.shape)
    return depth, (int(row), int(col)) if holding.any() else handle


def _is_long(region: Region) -> bool:
    """Return whether a region is much longer than wide."""
    spread = np.linalg.eigvalsh(np.cov(cells(region).T))
    return bool(spread[1] >= LONG**2 * spread[0])


def _content(thing: _Thing, drags: Sequence[Drag], frame: Frame) -> Content:
    """Return how a thing moves, with what is odd about it."""
    shape = thing.region.shape
    handles = np.array([frame.to_feature(drag.handle) for drag in thing.drags])
    targets = np.array([frame.to_feature(drag.target) for drag in thing.drags])
    name, motion = _motion(thing, handles, targets)
    came_from, odd = sources(motion, shape), [*_odd_places(thing.region, motion, frame)]
    if thing.hinge.any() or len(handles) > MOST_AFFINE:
        bent = field(*_controls(thing, motion, handles, targets), shape)
        if folds(bent, thing.region):
            odd.append("it would fold over itself if it bent, so it is moved as a whole")
        else:
            name, came_from = "bent", bent
    if name != "bent":
        odd += _short_of_targets(moved(motion, handles), targets, frame)
    numbers = sorted({drags.index(drag) + 1 for drag in thing.drags})
    who = f"content of drag{'s' * (len(numbers) > 1)} {' and '.join(map(str, numbers))}"
    return Content(thing.region, came_from, name, tuple(f"{who}: {line}" for line in odd))


def _motion(thing: _Thing, handles: Points, targets: Points) -> tuple[str, Affine]:
    """Return the affine motion of a thing, and its name."""
    if len(handles) > MOST_AFFINE:
        return "fitted", nearest_affine(handles, targets)
    if len(handles) == MOST_AFFINE:
        return "swung", swung(handles, targets)
    if thing.hinge.any():
        return "swung", _about(cells(thing.hinge).mean(axis=0), handles[0], targets[0])
    return _motion_of_one(thing.region, handles[0], targets[0])


def _motion_of_one(region: Region, handle: Point, target: Point) -> tuple[str, Affine]:
    """Return the affine motion of a free thing by one handle, and its name."""
    line, way = handle - cells(region).mean(axis=0), target - handle
    far = _other_end(region, handle)
    if far is None:
        return "carried", carried(way)
    center = handle - line
    cosine = line @ way / (np.linalg.norm(line) * np.linalg.norm(way))
    if cosine >= RADIAL and _at_rim_of_disc(region, handle):
        return "grown", grown(center, handle, target)
    if abs(cosine) < ALONG:
        return "swung", _about(far, handle, target)
    if cosine < 0 and _leaves_too_little(region, handle, way):
        return "carried", carried(way)
    return "stretched", stretched(region, handle, way, outwards=cosine > 0)


def _leaves_too_little(region: Region, handle: Point, way: Point) -> bool:
    """Return whether a way inwards from an end of a region would press it too much."""
    length = np.linalg.norm(way)
    along = way / length
    room = (cells(region) @ along).max() - handle @ along
    return bool(room - length < PRESSED * room)


def _about(pivot: Point, handle: Point, target: Point) -> Affine:
    return swung(np.stack([pivot, handle]), np.stack([pivot, target]))


def _other_end(region: Region, handle: Point) -> Point | None:
    """Return the far end of a region whose end the handle lies at; None for a handle inside."""
    places = cells(region)
    center = places.mean(axis=0)
    reach = np.linalg.norm(handle - center)
    if reach == 0:
        return None
    along = (places - center) @ ((handle - center) / reach)
    if reach < (1 - END) * along.max():
        return None
    far: Point = places[along <= np.quantile(along, 0.1)].mean(axis=0)
    return far


def _at_rim_of_disc(region: Region, handle: Point) -> bool:
    """Return whether a region is a disc, and a handle lies at its rim."""
    center = cells(region).mean(axis=0)
    radius = np.sqrt(region.sum() / np.pi)
    away = np.linalg.norm(np.moveaxis(np.indices(region.shape), 0, -1) - center, axis=-1)
    disc = away <= radius
    alike = (disc & region).sum() / (disc | region).sum()
    return bool(alike > ROUND and np.linalg.norm(handle - center) >= RIM * radius)


def _controls(
    thing: _Thing, motion: Affine, handles: Points, targets: Points
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Return the points that a field follows, and where they go.

    The hinge stays. What is farther from it than it is long follows the affine motion, so that
    only the rest bends.
    """
    from scipy.ndimage import distance_transform_edt

    if not thing.hinge.any():
        return handles, targets
    hinge = _thinned(thing.hinge)
    away = distance_transform_edt(~thing.hinge)
    free = _thinned(thing.region & (away > np.sqrt(thing.hinge.sum())))
    ends = moved(motion, free)
    return np.concatenate([hinge, free, handles]), np.concatenate([hinge, ends, targets])


def _thinned(region: Region) -> Points:
    """Return a few dozen cells of a region, evenly along its rows."""
    places = cells(region)
    return places[:: max(1, len(places) // CONTROLS)]


def _odd_places(region: Region, motion: Affine, frame: Frame) -> Iterator[str]:
    """Say so if content is nearly everything, leaves the image, or is cut by its border."""
    if region.mean() > LARGEST:
        yield f"it is {region.mean():.0%} of the image, and little is left to fill its place from"
    ends = moved(motion, cells(region))
    outside = float(((ends < -0.5) | (ends > np.array(frame.image_cells) - 0.5)).any(axis=1).mean())
    if outside >= NOTICED:
        yield f"{outside:.0%} of it leaves the image"


def _short_of_targets(ends: Points, targets: Points, frame: Frame) -> Iterator[str]:
    """Say so if the handles do not arrive."""
    scale = frame.pixels_per_feature * frame.image_width / frame.width
    short = float(np.linalg.norm(ends - targets, axis=1).max())
    if short > 1:
        yield f"it cannot follow its drags all the way: {short * scale:.0f} pixels are left"


def _way(drag: Drag, frame: Frame) -> Point:
    return np.subtract(frame.to_feature(drag.target), frame.to_feature(drag.handle))
