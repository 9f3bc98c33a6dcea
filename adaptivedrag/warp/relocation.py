"""Relocation: content is moved in the picture, and the picture inverted (`methods.warp`)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adaptivedrag.drag import DragProblem, DragResult, Handles, Hooks, looks
from adaptivedrag.errors import NotFinite
from adaptivedrag.features import window
from adaptivedrag.inversion import invert
from adaptivedrag.methods.warp import Warp
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.point_tracking import TRACKING_SHARE, Track, track_points
from adaptivedrag.semantic_region import RegionMap
from adaptivedrag.warp.content import Content, find_contents
from adaptivedrag.warp.pasting import paste


@torch.no_grad()
def relocate(
    model: DiffusionModel, problem: DragProblem, settings: Warp, hooks: Hooks
) -> DragResult:
    """Return the inverted latents of the picture in which the contents under the handles moved.

    Then the handles are searched once around their targets, which shows how far the motion appears
    in the features.

    Raises:
        NotFinite: if latents are not finite.
    """
    handles = Handles.of(problem, settings.stop_distance, model.device)
    contents = find_contents(problem.segments, problem.superpixels, problem.drags, problem.frame)
    initial, chance = looks(_features(model, problem, problem.inverted), handles.first)
    latents, tracks = problem.inverted, [handles.first]
    lost = torch.zeros_like(handles.still)
    if handles.pending(handles.first).any():
        latents = relocated_latents(model, problem, contents, hooks)
        features = _features(model, problem, latents)
        found = _found_near_targets(features, initial, handles, problem, settings)
        tracks.append(found.cells)
        lost = found.distances >= chance
    return DragResult(
        latents=latents,
        level=problem.level,
        tracks=torch.stack(tracks).float().cpu().numpy(),
        points=handles.reports(tracks[-1], lost),
        steps=len(tracks) - 1,
        budget=1,
        details={
            "contents": [
                {"share": float(content.region.mean()), "motion": content.motion}
                for content in contents
            ]
        },
    )


def relocated_latents(
    model: DiffusionModel, problem: DragProblem, contents: Sequence[Content], hooks: Hooks
) -> Float[Tensor, "1 c h w"]:
    """Return the inverted latents of the working image whose contents have been moved.

    Raises:
        NotFinite: if latents are not finite.
    """
    moved = paste(problem.image, contents, problem.frame.padded).picture
    clean = model.posterior(moved)[0]
    try:
        return invert(model, clean, problem.conditioning, problem.inversion, on_step=hooks.on_step)[
            :, -1
        ]
    except NotFinite as error:
        raise NotFinite(f"content that was moved: {error}") from error


def _features(
    model: DiffusionModel, problem: DragProblem, latents: Float[Tensor, "1 c h w"]
) -> Float[Tensor, "d h w"]:
    start = model.schedule.start(problem.inversion.num_steps, problem.level)
    return model.predict_with_features(latents, start, problem.conditioning)[1]


def _found_near_targets(
    features: Float[Tensor, "c h w"],
    initial: Float[Tensor, "p c"],
    handles: Handles,
    problem: DragProblem,
    settings: Warp,
) -> Track:
    """Find the handles in whole windows around their targets, if they should have moved."""
    ends = [problem.frame.to_cell(drag.target) for drag in problem.drags]
    targets = torch.tensor(ends, device=handles.first.device)
    cells = torch.where(handles.still[:, None], handles.first, targets)
    radius, reach = RegionMap.of(problem.superpixels, cells.device).radius(
        cells, TRACKING_SHARE, settings.tracking_radius_range, settings.tracking_radius
    )
    everywhere = torch.ones(window(cells, reach).shape[:2], dtype=torch.bool, device=cells.device)
    size = problem.frame.image_cells
    return track_points(features, initial, cells, everywhere, radius, reach, size)
