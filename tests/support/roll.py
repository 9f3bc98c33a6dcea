"""A drag method in one file: it rolls latents of an early inversion step toward the target."""

from typing import Literal

import torch

from adaptivedrag.drag import DragProblem, DragResult, Handles, Hooks
from adaptivedrag.methods import LatentMethod
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.points import FEATURES_PER_LATENT
from adaptivedrag.section import NonNegative


class Roll(LatentMethod):
    """Rolls all latents by the first drag, in whole cells."""

    method: Literal["roll"] = "roll"
    level: NonNegative = 2
    """Inversion steps that its latents are away from clean ones."""

    def drag(self, model: DiffusionModel, problem: DragProblem, hooks: Hooks) -> DragResult:
        """Roll the latents of the inversion at `level`."""
        handles = Handles.of(problem, 2.0, model.device)
        way = (handles.targets - handles.first)[0].div(FEATURES_PER_LATENT).round().int().tolist()
        latents = problem.trajectory[self.level : self.level + 1]
        ends = handles.targets.round().long()
        return DragResult(
            latents=torch.roll(latents, way, dims=(2, 3)),
            level=self.level,
            tracks=torch.stack([handles.first, ends]).float().cpu().numpy(),
            points=handles.reports(ends, torch.zeros_like(handles.still)),
            steps=1,
            budget=1,
            details={"rolled": way},
        )
