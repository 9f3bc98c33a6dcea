"""Semantic regions (paper, Sec. 3.4.2): where a handle's features are moved and searched.

A region is the part of the handle's superpixel ahead of it, within 90° of the way to its target.
Where little of the superpixel is left ahead, a half disc takes its place, so that a handle can
cross into the next superpixel.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adaptivedrag.features import inside
from adaptivedrag.section import RadiusRange
from adaptivedrag.superpixels import Superpixels

AREA_SHARE = 4
"""A superpixel with less than 1 / AREA_SHARE of the mean area ahead of the handle is used up."""


@dataclass(frozen=True)
class RegionMap:
    """The superpixels of an image, on the device where the latents are optimized."""

    labels: Int[Tensor, "h w"]
    spacing: Float[Tensor, "n"]
    grid: Float[Tensor, "h w 2"]

    @classmethod
    def of(cls, superpixels: Superpixels, device: torch.device) -> Self:
        """Put superpixels on `device`."""
        labels = torch.from_numpy(superpixels.labels.astype(np.int64)).to(device)
        spacing = torch.from_numpy(superpixels.spacing).float().to(device)
        axes = (torch.arange(side, device=device).float() for side in labels.shape)
        return cls(labels, spacing, torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the feature grid."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def smallest_area(self) -> float:
        """Cells that must lie ahead of a handle for its superpixel to be its region."""
        return self.labels.numel() / (AREA_SHARE * len(self.spacing))

    def label_at(self, cells: Int[Tensor, "*n 2"]) -> Int[Tensor, "*n"]:
        """Return the superpixel of each cell; cells off the grid take the nearest one's."""
        rows, cols = self.size
        return self.labels[cells[..., 0].clamp(0, rows - 1), cells[..., 1].clamp(0, cols - 1)]

    def radius(
        self,
        handles: Int[Tensor, "p 2"],
        share: float,
        bounds: RadiusRange,
        fixed: int | None = None,
    ) -> tuple[Int[Tensor, "p"], int]:
        """Return the radius at each handle, and the largest that any may have.

        A share of the spacing of the superpixels there, in whole cells within bounds, where no
        radius is fixed.
        """
        if fixed is not None:
            return torch.full_like(handles[:, 0], fixed), fixed
        spacing = self.spacing[self.label_at(handles)]
        return (spacing * share).floor().clamp(*bounds).long(), bounds[1]

    def contains(
        self,
        cells: Int[Tensor, "p n 2"],
        handles: Int[Tensor, "p 2"],
        targets: Float[Tensor, "p 2"],
        radius: Int[Tensor, "p"],
        anchors: Int[Tensor, "p 2"],
    ) -> Bool[Tensor, "p n"]:
        """Return which cells lie in the region of each handle; the handle itself always does.

        Args:
            anchors: cells whose superpixels count. The handles themselves, or, for regions that
                are transported with the content, the handles' first positions: then a cell
                belongs to the superpixel that it would lie in before the content moved.
        """
        toward = targets - handles
        moved = handles - anchors
        label = self.label_at(anchors)
        ahead = ((cells - handles[:, None]) * toward[:, None]).sum(dim=-1) >= 0
        own = (self.label_at(cells - moved[:, None]) == label[:, None]) & inside(cells, self.size)
        disc = (cells - handles[:, None]).square().sum(dim=-1) <= radius[:, None] ** 2
        used_up = self._area_ahead(handles, toward, label, moved) < self.smallest_area
        center = (cells == handles[:, None]).all(dim=-1)
        return (torch.where(used_up[:, None], disc, own) & ahead) | center

    def _area_ahead(
        self,
        handles: Int[Tensor, "p 2"],
        toward: Float[Tensor, "p 2"],
        label: Int[Tensor, "p"],
        moved: Int[Tensor, "p 2"],
    ) -> Int[Tensor, "p"]:
        """Count the cells of each handle's superpixel that lie ahead of it."""
        offset = self.grid[None] + (moved - handles)[:, None, None]
        ahead = (offset * toward[:, None, None]).sum(dim=-1) >= 0
        return (ahead & (self.labels[None] == label[:, None, None])).sum(dim=(1, 2))
