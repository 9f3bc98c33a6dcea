"""How the handles of an edit are pulled and found again, by the settings of its method."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adaptivedrag.drag import DragProblem, Handles
from adaptivedrag.features import sample_features, window
from adaptivedrag.masks import latent_mask
from adaptivedrag.methods.supervised import SupervisedMethod
from adaptivedrag.motion_supervision import SUPERVISION_SHARE, background_loss, motion_loss
from adaptivedrag.point_tracking import TRACKING_SHARE, Track, track_points
from adaptivedrag.semantic_region import RegionMap


@dataclass(frozen=True, eq=False)
class HandleMotion:
    """Motion supervision and point tracking of one edit.

    Attributes:
        editable: True where the image may change, on the latent grid. An empty one holds nothing.
        size: rows and columns of the feature grid that the image takes, without padding.
    """

    settings: SupervisedMethod
    handles: Handles
    regions: RegionMap
    editable: Bool[Tensor, "h w"]
    size: tuple[int, int]

    @classmethod
    def of(cls, problem: DragProblem, settings: SupervisedMethod, device: torch.device) -> Self:
        """Put the handles, superpixels and mask of a problem on `device`."""
        return cls(
            settings=settings,
            handles=Handles.of(problem, settings.stop_distance, device),
            regions=RegionMap.of(problem.superpixels, device),
            editable=torch.from_numpy(latent_mask(problem.mask)).to(device),
            size=problem.frame.image_cells,
        )

    @property
    def holds(self) -> bool:
        """Whether anything is held in place."""
        return bool(self.editable.any()) and self.settings.background_weight > 0

    def patches(
        self, features: Float[Tensor, "c h w"], cells: Int[Tensor, "p 2"]
    ) -> Float[Tensor, "p n c"]:
        """Return the features of the windows around `cells` that supervision compares."""
        _, reach = self._supervised(cells)
        return sample_features(features, window(cells, reach).float())

    def pull(
        self,
        features: Float[Tensor, "c h w"],
        cells: Int[Tensor, "p 2"],
        wanted: Float[Tensor, "p n c"] | None = None,
        step_length: float | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss that pulls the handles at `cells` toward their targets.

        Args:
            wanted, step_length: as in `motion_loss`.
        """
        radius, reach = self._supervised(cells)
        return motion_loss(
            features,
            cells,
            self.handles.targets,
            self._region(cells, radius, reach, semantic=self.settings.regions_in_supervision),
            radius,
            reach,
            self.regions.size,
            self.handles.away(cells, self.settings.skip_distance),
            wanted,
            step_length,
        )

    def hold(
        self, lower: Float[Tensor, "1 c h w"], initial_lower: Float[Tensor, "1 c h w"]
    ) -> Float[Tensor, ""]:
        """Return the weighted loss that holds in place what may not change."""
        return self.settings.background_weight * background_loss(
            lower, initial_lower, self.editable
        )

    @torch.no_grad()
    def track(
        self,
        features: Float[Tensor, "c h w"],
        initial: Float[Tensor, "p c"],
        cells: Int[Tensor, "p 2"],
    ) -> Track:
        """Find handles that were at `cells` by their initial features."""
        settings = self.settings
        radius, reach = self.regions.radius(
            cells, TRACKING_SHARE, settings.tracking_radius_range, settings.tracking_radius
        )
        region = self._region(cells, radius, reach, semantic=settings.regions_in_tracking)
        return track_points(features, initial, cells, region, radius, reach, self.size)

    def _supervised(self, cells: Int[Tensor, "p 2"]) -> tuple[Int[Tensor, "p"], int]:
        settings = self.settings
        return self.regions.radius(
            cells,
            SUPERVISION_SHARE,
            settings.supervision_radius_range,
            settings.supervision_radius,
        )

    def _region(
        self, handles: Int[Tensor, "p 2"], radius: Int[Tensor, "p"], reach: int, *, semantic: bool
    ) -> Bool[Tensor, "p n"]:
        cells = window(handles, reach)
        if not semantic:
            return torch.ones(cells.shape[:2], dtype=torch.bool, device=cells.device)
        is_current = self.settings.region_anchor == "current"
        anchors = handles if is_current else self.handles.first
        return self.regions.contains(cells, handles, self.handles.targets, radius, anchors)
