"""Mean distance and drag accuracy: has the content at the handle moved to the target?

MD (Shi et al., 2024): the handle's feature in the source picture is compared with every pixel of
the edited one (cosine); the pixel that matches best is where the handle ended, and MD is the mean
distance to the target over all pairs. m-MD looks inside a mask only. DAI (Zhang et al., 2024)
compares the pixels around the target with those that were around the handle.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from adaptivedrag.points import Drag, ImagePoint

ARRIVED_WITHIN = 1 / 16
"""A point has arrived within this part of the image's shorter side."""


def find_handles(
    source: Float[np.ndarray, "c h w"],
    edited: Float[np.ndarray, "c h w"],
    handles: Sequence[ImagePoint],
    size: tuple[int, int],
    within: Bool[np.ndarray, "rows cols"] | None = None,
) -> list[ImagePoint]:
    """Find handles again in an edited picture by the features of both.

    The result is that of maps upsampled to the picture's size, without upsampling them: products
    and norms are computed from the products of neighboring cells. A handle between pixels keeps
    its fraction, so that a picture compared with itself returns the handles.

    Args:
        handles: in pixels of the picture.
        size: (height, width) of the picture in pixels.
        within: pixels in which to look for the match (m-MD); all of them by default.

    Returns:
        The match of each handle; the first by row, then column, if several are equally good.

    Raises:
        ValueError: if `within` has no pixel.
    """
    if within is not None and not within.any():
        raise ValueError("the mask in which handles are to be found is empty")
    height, width = size
    pixels = [_pixel(handle).clip(0, (height - 1, width - 1)) for handle in handles]
    found = []
    maps = similarities(source, edited, pixels, size)
    for (x, y), (row, col), similarity in zip(handles, pixels, maps, strict=True):
        inside = similarity if within is None else np.where(within, similarity, -np.inf)
        match_row, match_col = np.unravel_index(inside.argmax(), size)
        found.append(ImagePoint(x + float(match_col - col), y + float(match_row - row)))
    return found


def similarities(
    source: Float[np.ndarray, "c h w"],
    edited: Float[np.ndarray, "c h w"],
    pixels: Sequence[Int[np.ndarray, "2"]],
    size: tuple[int, int],
) -> Iterator[Float[np.ndarray, "rows cols"]]:
    """Yield how like every pixel of an edited picture is to each of some pixels of its source.

    The cosine of the features at the edited pixel and at the source's, times the length of the
    latter.

    Args:
        pixels: (row, col) inside the picture.
        size: as in `find_handles`.
    """
    grid = _Upsampling(source.shape[1:], size)
    wanted = np.stack([grid.at(source.astype(float), *pixel) for pixel in pixels])
    edited = edited.astype(float)
    lengths = np.sqrt(grid.squared_norms(edited)).clip(np.finfo(float).tiny)
    for product in np.einsum("nc,chw->nhw", wanted, edited):
        yield grid.full(product) / lengths


def distances(ends: Sequence[ImagePoint], targets: Sequence[ImagePoint]) -> list[float]:
    """Return how far each end is from its target, in pixels; MD is the mean over all pairs."""
    return [math.dist(end, target) for end, target in zip(ends, targets, strict=True)]


def drag_accuracy_index(
    before: UInt8[np.ndarray, "h w 3"],
    edited: UInt8[np.ndarray, "h w 3"],
    drags: Sequence[Drag],
    radius: int,
) -> float:
    """Return DAI: squared RGB difference, in [0, 3], of the patches at target and at handle.

    The mean over pairs of the mean over offsets of the (2·radius + 1)² patch. At a border only the
    offsets at which both patches lie in the picture count.
    """
    first, second = before / 255, edited / 255
    side = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    means = []
    for handle, target in drags:
        old, new = _pixel(handle) + offsets, _pixel(target) + offsets
        inside = _inside(old, before.shape[:2]) & _inside(new, before.shape[:2])
        difference = first[tuple(old[inside].T)] - second[tuple(new[inside].T)]
        means.append((difference**2).sum(axis=1).mean())
    return float(np.mean(means))


def legacy_drag_accuracy_index(
    before: UInt8[np.ndarray, "h w 3"],
    edited: UInt8[np.ndarray, "h w 3"],
    drags: Sequence[Drag],
    radius: int,
) -> float:
    """Return DAI as in GoodDrag's published script, which divides by the number of pairs twice."""
    return drag_accuracy_index(before, edited, drags, radius) / len(drags)


class _Upsampling:
    """Bilinear upsampling, cell centers aligned as in torch's `interpolate(mode="bilinear")`.

    Every pixel is a weighted sum of four cells, its corners.
    """

    def __init__(self, cells: tuple[int, int], size: tuple[int, int]) -> None:
        (rows, down), (cols, across) = (
            _corners(count, pixels) for count, pixels in zip(cells, size, strict=True)
        )
        self.cells = cells
        self.rows, self.cols = rows, cols
        self.weights = down[:, None, :, None] * across[None, :, None, :]

    def at(self, fields: Float[np.ndarray, "c h w"], row: int, col: int) -> Float[np.ndarray, "c"]:
        """Read the upsampled maps at one pixel."""
        corners = fields[:, self.rows[:, row, None], self.cols[None, :, col]]
        return np.einsum("cij,ij->c", corners, self.weights[:, :, row, col])

    def full(self, field: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "rows cols"]:
        """Upsample one map."""
        corners = field[self.rows[:, None, :, None], self.cols[None, :, None, :]]
        return (corners * self.weights).sum(axis=(0, 1))

    def squared_norms(self, fields: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "rows cols"]:
        """Return the squared length of the upsampled vectors.

        A squared weighted sum needs only the products of the corners with each other, and those
        are the products of a cell with its neighbors.
        """
        height, width = self.cells
        below, right = (np.minimum(np.arange(n) + 1, n - 1) for n in self.cells)
        whole = np.arange(height), np.arange(width)
        corners = [
            fields[:, row][:, :, col] for row in (whole[0], below) for col in (whole[1], right)
        ]
        weights = self.weights.reshape(4, *self.weights.shape[2:])
        top, left = np.ix_(self.rows[0], self.cols[0])
        squares = np.zeros(weights.shape[1:])
        for first, weight in zip(corners, weights, strict=True):
            for second, other in zip(corners, weights, strict=True):
                products = np.einsum("chw,chw->hw", first, second)
                squares += weight * other * products[top, left]
        return squares


def _corners(
    cells: int, pixels: int
) -> tuple[Int[np.ndarray, "2 pixels"], Float[np.ndarray, "2 pixels"]]:
    """Return the two cells on either side of every pixel along one axis, and their weights."""
    position = ((np.arange(pixels) + 0.5) * cells / pixels - 0.5).clip(0, cells - 1)
    first = position.astype(int)
    share = position - first
    return np.stack([first, np.minimum(first + 1, cells - 1)]), np.stack([1 - share, share])


def _pixel(point: ImagePoint) -> Int[np.ndarray, "2"]:
    return np.array([round(point.y), round(point.x)])


def _inside(cells: Int[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "n"]:
    return ((cells >= 0) & (cells < size)).all(axis=1)
