"""The content under the handles, and how the drags move it; not in the paper (preset `plus`).

A drag says where one point goes, not what goes with it. Here its content is the segment of middle
size at its handle: SAM 2 finds parts, things and groups of things. A handle inside its content
carries it along; a handle at an end of it stretches it in the direction of the drag, its other side
staying, or turns it about its other end where the drag goes across; two handles on one content
turn, stretch and carry it. All on the feature grid, (row, col).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from adaptivedrag.points import Drag, Frame
from adaptivedrag.superpixels import Segments, Superpixels

LARGEST = 0.5
"""A segment of more than this share of the image is background, not content."""

SAME = 0.5
"""Contents that share more than this part of the smaller one are merged."""

END = 0.3
"""A handle in the outermost part of its content, seen from the centroid, lies at an end of it."""

ALIKE = 0.6
"""Segments that overlap the chosen one by more than this (intersection over union) show the same
thing, and vote on its cells."""

ALONG = 0.6
"""A drag at an end that goes along the line from the centroid (cosine) stretches the content; one
across turns it."""

STRETCHES = (0.25, 4.0)
"""Content is never stretched by more than this."""

Points = Float[np.ndarray, "p 2"]
Region = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Content:
    """The content that one or more handles drag, and the affine map by which it moves."""

    region: Region
    motion: Float[np.ndarray, "2 3"]
    """Maps (row, col, 1) of the feature grid to (row, col)."""

    @property
    def back(self) -> Float[np.ndarray, "2 3"]:
        """The inverse of `motion`."""
        linear = np.linalg.inv(self.motion[:, :2])
        return np.column_stack([linear, -linear @ self.motion[:, 2]])

    @property
    def came_from(self) -> Float[np.ndarray, "h w 2"]:
        """For every cell of the grid, the (row, col) of what is found there after the motion."""
        places = _mapped(self.back, _cells(np.ones_like(self.region)))
        return places.reshape(*self.region.shape, 2)

    @property
    def arrival(self) -> Region:
        """Return the cells of the grid where the content lies after its motion."""
        came_from = np.rint(self.came_from.reshape(-1, 2)).astype(int)
        rows, cols = came_from.T
        inside = (came_from >= 0).all(axis=1) & (came_from < self.region.shape).all(axis=1)
        arrival = np.zeros(self.region.size, dtype=bool)
        arrival[inside] = self.region[rows[inside], cols[inside]]
        return arrival.reshape(self.region.shape)


def find_contents(
    segments: Segments, superpixels: Superpixels, drags: Sequence[Drag], frame: Frame
) -> tuple[Content, ...]:
    """Return the contents of all drags that have a length, larger ones first.

    If no segment of at most half of the image holds a handle, its superpixel is its content.
    """
    moving = [drag for drag in drags if drag.handle != drag.target]
    groups: list[tuple[Region, list[Drag]]] = []
    for drag in moving:
        region = _region_at(segments, superpixels, frame.to_cell(drag.handle))
        for place, (other, others) in enumerate(groups):
            shared = (region & other).sum()
            if shared > SAME * min(region.sum(), other.sum()):
                groups[place] = (region | other, [*others, drag])
                break
        else:
            groups.append((region, [drag]))
    contents = [Content(region, _motion(region, own, frame)) for region, own in groups]
    return tuple(sorted(contents, key=lambda content: -int(content.region.sum())))


def content_mask(contents: Sequence[Content], shape: tuple[int, int], margin: int) -> Region:
    """Return where content was or will be, and everything within `margin` cells of it."""
    from scipy.ndimage import binary_dilation

    mask = np.zeros(shape, dtype=bool)
    for content in contents:
        mask |= content.region | content.arrival
    return binary_dilation(mask, iterations=margin) if margin else mask


def _region_at(segments: Segments, superpixels: Superpixels, cell: tuple[int, int]) -> Region:
    """Return the segment of middle size at a cell, in one piece and without holes.

    Its cells are those of at least half of the similar segments that hold the cell.
    """
    from scipy.ndimage import binary_fill_holes, label

    holding = [segment for segment in segments if segment[cell] and segment.mean() <= LARGEST]
    if holding:
        middle = sorted(holding, key=np.sum)[len(holding) // 2]
        alike = [each for each in holding if (each & middle).sum() > ALIKE * (each | middle).sum()]
        region = np.mean(alike, axis=0) >= 0.5
    else:
        region = superpixels.labels == superpixels.labels[cell]
    pieces, _ = label(region)
    return binary_fill_holes(pieces == pieces[cell])


def _motion(region: Region, drags: Sequence[Drag], frame: Frame) -> Float[np.ndarray, "2 3"]:
    handles = np.array([frame.to_feature(drag.handle) for drag in drags])
    targets = np.array([frame.to_feature(drag.target) for drag in drags])
    if len(drags) > 2:
        return _nearest_affine(handles, targets)
    if len(drags) == 2:
        return _swing(handles, targets)
    far = _other_end(region, handles[0])
    if far is None:
        return np.column_stack([np.eye(2), (targets - handles)[0]])
    line, way = handles[0] - _cells(region).mean(axis=0), targets[0] - handles[0]
    cosine = line @ way / (np.linalg.norm(line) * np.linalg.norm(way))
    if abs(cosine) >= ALONG:
        return _stretch(region, handles[0], way, outwards=cosine > 0)
    return _swing(np.stack([far, handles[0]]), np.stack([far, targets[0]]))


def _other_end(region: Region, handle: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"] | None:
    """Return the far end of a region whose end the handle lies at; None for a handle inside."""
    cells = _cells(region)
    center = cells.mean(axis=0)
    reach = np.linalg.norm(handle - center)
    if reach == 0:
        return None
    along = (cells - center) @ ((handle - center) / reach)
    if reach < (1 - END) * along.max():
        return None
    return cells[along <= np.quantile(along, 0.1)].mean(axis=0)


def _stretch(
    region: Region, handle: Float[np.ndarray, "2"], way: Float[np.ndarray, "2"], outwards: bool
) -> Float[np.ndarray, "2 3"]:
    """Return the map that moves a handle along its way and keeps the far side of its region.

    Beyond `STRETCHES` the handle stops short of its target.
    """
    length = np.linalg.norm(way)
    along = way / length
    places = _cells(region) @ along
    side = places.min() if outwards else places.max()
    stretch = np.clip(1 + length / (handle @ along - side), *STRETCHES)
    linear = np.eye(2) + (stretch - 1) * np.outer(along, along)
    return np.column_stack([linear, (1 - stretch) * side * along])


def _swing(handles: Points, targets: Points) -> Float[np.ndarray, "2 3"]:
    """Return the map of two points that turns, stretches along their line, and translates."""
    before, after = handles[1] - handles[0], targets[1] - targets[0]
    length, wanted = np.linalg.norm(before), np.linalg.norm(after)
    if min(length, wanted) == 0:
        return np.column_stack([np.eye(2), (targets - handles).mean(axis=0)])
    old, new = before / length, after / wanted
    cosine, sine = old @ new, old[0] * new[1] - old[1] * new[0]
    turn = np.array([[cosine, -sine], [sine, cosine]])
    stretch = np.clip(wanted / length, *STRETCHES)
    linear = turn @ (np.eye(2) + (stretch - 1) * np.outer(old, old))
    return np.column_stack([linear, targets[0] - linear @ handles[0]])


def _nearest_affine(handles: Points, targets: Points) -> Float[np.ndarray, "2 3"]:
    """Return the least-squares affine map; for handles on one line, the smallest one.

    It neither mirrors nor stretches content beyond `STRETCHES`, even if the targets ask for it.
    """
    center = handles.mean(axis=0)
    offsets = (targets - handles) - (targets - handles).mean(axis=0)
    change, *_ = np.linalg.lstsq(handles - center, offsets, rcond=1e-3)
    left, stretches, right = np.linalg.svd(np.eye(2) + change.T)
    if np.linalg.det(left @ right) < 0:
        left[:, 1] *= -1
    linear = left @ np.diag(np.clip(stretches, *STRETCHES)) @ right
    return np.column_stack([linear, targets.mean(axis=0) - linear @ center])


def _cells(region: Region) -> Points:
    return np.argwhere(region).astype(float)


def _mapped(motion: Float[np.ndarray, "2 3"], points: Points) -> Points:
    return points @ motion[:, :2].T + motion[:, 2]
