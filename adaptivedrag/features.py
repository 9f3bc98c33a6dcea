"""Reading the UNet's feature map at points of the feature grid.

The grid is four times as fine as the map. Only the cells that are asked for are interpolated,
never the whole map, and they are cast to float32 after being picked.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adaptivedrag.points import FEATURES_PER_LATENT


def sample_features(
    features: Float[Tensor, "c h w"], points: Float[Tensor, "*n 2"]
) -> Float[Tensor, "*n c"]:
    """Interpolate the feature map at (row, col) points of the feature grid.

    Equals `torch.nn.functional.interpolate(mode="bilinear")` to the grid's size, read at the
    points; beyond the border the outermost values continue.
    """
    channels, rows, cols = features.shape
    position = (points + 0.5) / FEATURES_PER_LATENT - 0.5
    row = position[..., 0].clamp(0, rows - 1)
    col = position[..., 1].clamp(0, cols - 1)
    top, left = row.floor().long(), col.floor().long()
    bottom, right = (top + 1).clamp(max=rows - 1), (left + 1).clamp(max=cols - 1)
    flat = features.reshape(channels, -1)

    def pick(r: Int[Tensor, "*n"], c: Int[Tensor, "*n"]) -> Float[Tensor, "*n c"]:
        index = r * cols + c
        return flat.index_select(1, index.flatten()).T.float().reshape(*index.shape, channels)

    down, across = (row - top)[..., None], (col - left)[..., None]
    upper = pick(top, left) * (1 - across) + pick(top, right) * across
    lower = pick(bottom, left) * (1 - across) + pick(bottom, right) * across
    return upper * (1 - down) + lower * down


def window(centers: Int[Tensor, "p 2"], reach: int) -> Int[Tensor, "p n 2"]:
    """Return the cells of the square window around each center, in row-major order."""
    side = torch.arange(-reach, reach + 1, device=centers.device)
    offsets = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(-1, 2)
    return centers[:, None] + offsets


def inside(cells: Int[Tensor, "*n 2"], size: tuple[int, int]) -> Bool[Tensor, "*n"]:
    """Return which cells lie on the grid."""
    rows, cols = size
    row, col = cells[..., 0], cells[..., 1]
    return (row >= 0) & (row < rows) & (col >= 0) & (col < cols)


def within(
    cells: Int[Tensor, "p n 2"], centers: Int[Tensor, "p 2"], radius: Int[Tensor, "p"]
) -> Bool[Tensor, "p n"]:
    """Return which cells lie in the square of each center's own radius."""
    return (cells - centers[:, None]).abs().amax(dim=-1) <= radius[:, None]
