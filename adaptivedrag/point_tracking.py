"""Point tracking (DragDiffusion's Eq. 6): find each handle again by its initial feature."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adaptivedrag.features import inside, sample_features, window, within

TRACKING_SHARE = 4 / 5
"""Tracking radius per superpixel spacing, on the feature grid (two fifths of it in pixels)."""


class Track(NamedTuple):
    """Where the handles are found."""

    cells: Int[Tensor, "p 2"]
    distances: Float[Tensor, "p"]
    """L1 distance of the feature found to the initial one."""


def track_points(
    features: Float[Tensor, "c h w"],
    initial: Float[Tensor, "p c"],
    handles: Int[Tensor, "p 2"],
    region: Bool[Tensor, "p n"],
    radius: Int[Tensor, "p"],
    reach: int,
    size: tuple[int, int],
) -> Track:
    """Return the cell of each search window whose feature is nearest to the initial one.

    Ties go to the first cell in row-major order; a handle without a finite candidate stays.

    Args:
        initial: features of the first map at the first handles.
        region: cells of `window(handles, reach)` that may be found.
        radius: half size of each search window, in cells; at most `reach`.
        size: rows and columns that may be found; padding beyond the image may not.
    """
    cells = window(handles, reach)
    candidates = region & within(cells, handles, radius) & inside(cells, size)
    found = sample_features(features, cells.float())
    distance = (found - initial[:, None]).abs().sum(dim=-1)
    distance = distance.masked_fill(~candidates | distance.isnan(), torch.inf)
    best = distance.amin(dim=1, keepdim=True)
    order = torch.arange(cells.shape[1], device=cells.device)
    first = torch.where(distance == best, order, len(order)).amin(dim=1)
    chosen = cells[torch.arange(len(cells), device=cells.device), first]
    return Track(torch.where(best.isinf(), handles, chosen), best[:, 0])
