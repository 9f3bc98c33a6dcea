"""How content moves: for every cell of the feature grid, where what is found there came from.

An affine motion where one will do; a dense field where points go different ways or content is
attached to what stays. Places are (row, col) of the feature grid.
"""

import numpy as np
from jaxtyping import Bool, Float

STRETCHES = (0.25, 4.0)
"""Content is never stretched by more than this."""

Point = Float[np.ndarray, "2"]
Points = Float[np.ndarray, "p 2"]
Region = Bool[np.ndarray, "h w"]
Affine = Float[np.ndarray, "2 3"]
"""Maps (row, col, 1) to (row, col)."""
Sources = Float[np.ndarray, "h w 2"]


def carried(way: Point) -> Affine:
    """Return the map that moves everything by `way`."""
    return np.column_stack([np.eye(2), way])


def stretched(region: Region, handle: Point, way: Point, *, outwards: bool) -> Affine:
    """Return the map that moves a handle along its way and keeps the far side of its region.

    Beyond `STRETCHES` the handle stops short of its target.
    """
    length = np.linalg.norm(way)
    along = way / length
    places = cells(region) @ along
    side = places.min() if outwards else places.max()
    stretch = np.clip(1 + length / (handle @ along - side), *STRETCHES)
    linear = np.eye(2) + (stretch - 1) * np.outer(along, along)
    return np.column_stack([linear, (1 - stretch) * side * along])


def grown(center: Point, handle: Point, target: Point) -> Affine:
    """Return the map that scales and turns about a center and brings a handle to its target."""
    before, after = handle - center, target - center
    size = np.linalg.norm(before) ** 2
    cosine = before @ after / size
    sine = (before[0] * after[1] - before[1] * after[0]) / size
    linear = np.array([[cosine, -sine], [sine, cosine]])
    scale = np.hypot(cosine, sine)
    linear *= np.clip(scale, *STRETCHES) / scale
    return np.column_stack([linear, center - linear @ center])


def swung(handles: Float[np.ndarray, "2 2"], targets: Float[np.ndarray, "2 2"]) -> Affine:
    """Return the map of two points that turns, stretches along their line, and translates."""
    before, after = handles[1] - handles[0], targets[1] - targets[0]
    length, wanted = np.linalg.norm(before), np.linalg.norm(after)
    if min(length, wanted) == 0:
        return carried((targets - handles).mean(axis=0))
    old, new = before / length, after / wanted
    cosine, sine = old @ new, old[0] * new[1] - old[1] * new[0]
    turn = np.array([[cosine, -sine], [sine, cosine]])
    stretch = np.clip(wanted / length, *STRETCHES)
    linear = turn @ (np.eye(2) + (stretch - 1) * np.outer(old, old))
    return np.column_stack([linear, targets[0] - linear @ handles[0]])


def nearest_affine(handles: Points, targets: Points) -> Affine:
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


def sources(motion: Affine, shape: tuple[int, int]) -> Sources:
    """Return where everything came from that an affine map has moved."""
    places = np.indices(shape).reshape(2, -1).T.astype(float)
    back = np.linalg.inv(motion[:, :2])
    return ((places - motion[:, 2]) @ back.T).reshape(*shape, 2)


def field(handles: Points, targets: Points, shape: tuple[int, int]) -> Sources:
    """Return where everything came from when each handle goes to its target.

    Moving least squares with similarities (Schaefer et al. 2006, Eq. 7), from targets to handles,
    so that every place has a source: each place is mapped by the similarity that fits the handles
    best, weighted by the inverse square of their distance. At a target it is the handle itself.
    """
    places = np.indices(shape).reshape(2, -1).T.astype(float)
    offsets = targets[None] - places[:, None]
    weights = 1 / np.maximum((offsets**2).sum(axis=-1), 1e-9)
    weights /= weights.sum(axis=1, keepdims=True)
    middles, origins = weights @ targets, weights @ handles
    before = targets[None] - middles[:, None]
    after = handles[None] - origins[:, None]
    spread = np.maximum((weights * (before**2).sum(axis=-1)).sum(axis=1), 1e-12)
    cosine = (weights * (before * after).sum(axis=-1)).sum(axis=1) / spread
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    sine = (weights * cross).sum(axis=1) / spread
    rows, cols = (places - middles).T
    turned = np.stack([cosine * rows - sine * cols, sine * rows + cosine * cols], axis=1)
    return (turned + origins).reshape(*shape, 2)


def moved(motion: Affine, points: Points) -> Points:
    """Return where an affine map takes points."""
    return points @ motion[:, :2].T + motion[:, 2]


def folds(came_from: Sources, region: Region) -> bool:
    """Return whether a field turns over what came from a region, or presses it to nearly nothing.

    Nearly nothing is an area that is pressed more than `STRETCHES` allow along both axes.
    """
    down, right = np.gradient(came_from, axis=(0, 1))
    area = down[..., 0] * right[..., 1] - down[..., 1] * right[..., 0]
    there = looked_up(region, came_from)
    pressed = (area <= 0) | (area > STRETCHES[1] ** 2)
    return bool(pressed[there].any() or not there.any())


def looked_up(region: Region, came_from: Sources) -> Region:
    """Return the cells whose source lies in a region; what comes from outside the grid does not."""
    nearest = np.rint(came_from).astype(int)
    inside = (nearest >= 0).all(axis=-1) & (nearest < region.shape).all(axis=-1)
    rows, cols = np.where(inside[..., None], nearest, 0).transpose(2, 0, 1)
    return inside & region[rows, cols]


def cells(region: Region) -> Points:
    """Return (row, col) of every cell of a region."""
    return np.argwhere(region).astype(float)
