"""Relocation: content is moved in the picture, and the picture inverted (`methods.warp`)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
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

RIM = 1
"""Margin in pixels that moves with content, since anti-aliasing leaves some of it there."""

FRINGE = 2
"""Margin in pixels around content and its rim that is filled in behind it: it holds its glow."""

SOFTNESS = 0.7
"""Width in pixels (standard deviation) of the soft edge of moved content."""

SMOOTHING = 40
"""Rounds of smoothing of the filled gap, each over 5 × 5 pixels."""


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
                {"share": float(content.region.mean()), "motion": content.motion.tolist()}
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
    clean = model.posterior(move_contents(problem.image, contents))[0]
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


def move_contents(
    image: UInt8[np.ndarray, "hp wp 3"], contents: Sequence[Content]
) -> UInt8[np.ndarray, "hp wp 3"]:
    """Return an image with the contents moved, later ones in front.

    The gap behind content is filled from its surroundings. Without contents nothing changes.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter
    from skimage.transform import resize, warp

    if not contents:
        return image.copy()
    rows, cols = image.shape[:2]
    step = rows / contents[0].region.shape[0]
    regions = [
        binary_dilation(resize(content.region, (rows, cols), order=0), iterations=RIM)
        for content in contents
    ]
    gap = binary_dilation(np.any(regions, axis=0), iterations=FRINGE)
    source = image.astype(np.float64)
    result = _filled(source, gap)
    for content, region in zip(contents, regions, strict=True):
        back = _in_pixels(content.back, step)
        soft = gaussian_filter(region.astype(np.float64), SOFTNESS)
        share = warp(soft, back, order=1, preserve_range=True)[..., None]
        moved = warp(source, back, order=3, mode="edge", preserve_range=True)
        result += share * (moved - result)
    return result.round().clip(0, 255).astype(np.uint8)


def _in_pixels(motion: Float[np.ndarray, "2 3"], step: float) -> Float[np.ndarray, "3 3"]:
    """Convert a map of (row, col) of the feature grid to one of (x, y) in pixels."""
    to_pixel = np.array([[0, step, (step - 1) / 2], [step, 0, (step - 1) / 2], [0, 0, 1]])
    return to_pixel @ np.vstack([motion, [0, 0, 1]]) @ np.linalg.inv(to_pixel)


def _filled(
    image: Float[np.ndarray, "hp wp 3"], gap: Bool[np.ndarray, "hp wp"]
) -> Float[np.ndarray, "hp wp 3"]:
    """Fill a gap from the nearest pixels around it, then smooth the filling."""
    from scipy.ndimage import distance_transform_edt, uniform_filter

    if gap.all():
        return image.copy()
    rows, cols = distance_transform_edt(gap, return_distances=False, return_indices=True)
    filled = image[rows, cols]
    for _ in range(SMOOTHING):
        filled[gap] = uniform_filter(filled, (5, 5, 0))[gap]
    return filled
