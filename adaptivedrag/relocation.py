"""Latent relocation: content is moved in the inverted latents before the drag (preset `plus`).

The paper's optimisation pulls the latents towards the target a little at a time. Where features at
the start timestep follow the latents without the picture following, that leaves the content behind.
Here its inverted latents are moved themselves, whole cells at a time: values between cells would be
less noisy than the model expects, and a cell's noise holds the details of its clean latent. What
is then missing to the target, at most half a cell, is left to the optimisation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.content import Content
from adaptivedrag.model import DiffusionModel
from adaptivedrag.points import FEATURES_PER_LATENT

RIM = 2
"""Feature cells around content that go with it: latents at its border show both sides."""

SMOOTHING = 60
"""Rounds in which what is filled in becomes smooth."""


def relocated_latents(
    model: DiffusionModel,
    trajectory: Float[Tensor, "steps_1 c h w"],
    contents: Sequence[Content],
    inversion: InvertImageConfig,
) -> Float[Tensor, "1 c h w"] | None:
    """Return `relocate` of an inversion; None without any content.

    Args:
        trajectory: clean latents, then those after each inversion step.
    """
    if not contents:
        return None
    start = model.schedule.start(inversion.num_steps, inversion.inverted_steps)
    clean, noised = (trajectory[place].to(model.device)[None] for place in (0, -1))
    return relocate(clean, noised, model.schedule.alpha(start), contents)


@torch.no_grad()
def relocate(
    clean: Float[Tensor, "1 c h w"],
    noised: Float[Tensor, "1 c h w"],
    alpha: float,
    contents: Sequence[Content],
) -> Float[Tensor, "1 c h w"]:
    """Return inverted latents in which contents lie where their motions take them.

    What content leaves behind is filled from around it; the noise there is that of the background
    which the content now covers.

    Args:
        clean: latents of the image.
        noised: the same inverted to the start timestep.
        alpha: cumulative product of alphas at the start timestep.
    """
    noise = (noised - alpha**0.5 * clean) / (1 - alpha) ** 0.5
    shares = [_share_of_latents(content).to(clean.device) for content in contents]
    touched = torch.stack([share > 0 for share in shares]).any(dim=0)
    gone = torch.stack([share > 0.5 for share in shares]).any(dim=0)
    moves = [
        _moved_cells(content, share > 0.5) for content, share in zip(contents, shares, strict=True)
    ]
    laid = torch.stack([arrived for _, arrived in moves]).any(dim=0)
    behind = _refilled(noise, gone & ~laid, laid & ~gone)
    result = alpha**0.5 * _filled(clean, touched) + (1 - alpha) ** 0.5 * behind
    for source, arrived in moves:
        result[..., arrived] = noised.flatten(2)[..., source[arrived]]
    return result


def _share_of_latents(content: Content) -> Float[Tensor, "h w"]:
    """Return how much of each latent cell is content or its rim."""
    from scipy.ndimage import binary_dilation

    region = binary_dilation(content.region, iterations=RIM)
    rows, cols = (side // FEATURES_PER_LATENT for side in region.shape)
    cells = region.reshape(rows, FEATURES_PER_LATENT, cols, FEATURES_PER_LATENT)
    return torch.from_numpy(cells.mean(axis=(1, 3), dtype=np.float32))


def _moved_cells(
    content: Content, held: Bool[Tensor, "h w"]
) -> tuple[Int[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Return from which cell (row-major) each latent cell would come, and which ones do."""
    rows, cols = held.shape
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), axis=-1)
    centres = (grid + 0.5) * FEATURES_PER_LATENT - 0.5
    origins = centres @ content.back[:, :2].T + content.back[:, 2]
    cells = np.rint((origins + 0.5) / FEATURES_PER_LATENT - 0.5).astype(int)
    inside = ((cells >= 0) & (cells < (rows, cols))).all(axis=-1)
    index = np.where(inside, cells[..., 0] * cols + cells[..., 1], 0)
    source = torch.from_numpy(index).to(held.device)
    return source, held.flatten()[source] & torch.from_numpy(inside).to(held.device)


def _filled(clean: Float[Tensor, "1 c h w"], gap: Bool[Tensor, "h w"]) -> Float[Tensor, "1 c h w"]:
    """Fill a gap from the nearest latents around it, then smooth what was filled in."""
    from scipy.ndimage import distance_transform_edt

    if gap.all():
        return clean.clone()
    rows, cols = distance_transform_edt(
        gap.cpu().numpy(), return_distances=False, return_indices=True
    )
    filled = clean[..., torch.from_numpy(rows).long(), torch.from_numpy(cols).long()]
    for _ in range(SMOOTHING):
        around = avg_pool2d(pad(filled, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        filled = torch.where(gap, around, filled)
    return filled


def _refilled(
    noise: Float[Tensor, "1 c h w"], empty: Bool[Tensor, "h w"], covered: Bool[Tensor, "h w"]
) -> Float[Tensor, "1 c h w"]:
    """Give empty cells the noise of covered ones, in their order; over again if they are few."""
    noise, spare, count = noise.clone(), noise[..., covered], int(empty.sum())
    if spare.shape[-1] and count:
        noise[..., empty] = spare[..., torch.arange(count, device=noise.device) % spare.shape[-1]]
    return noise
