"""Latent relocation: content is moved in the inverted latents before the drag (preset `plus`).

The paper's optimisation pulls the latents towards the target a little at a time. Where features at
the start timestep follow the latents without the picture following, that leaves the content behind.
Inverted latents are clean latents plus noise, and both are known: here each is moved by itself, the
clean part smoothly, the noise cell by cell so that it stays as white as it was.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, pad

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
    left = torch.stack([share > 0 for share in shares]).any(dim=0)
    layered, moved = _filled(clean, left), noise.clone()
    laid, gone = torch.zeros_like(left), torch.stack([share > 0.5 for share in shares]).any(dim=0)
    for content, share in zip(contents, shares, strict=True):
        source = _sources(content, clean)
        cover = _sampled(share[None, None], source, "bilinear", "zeros")
        layered = cover * _sampled(clean, source, "bilinear") + (1 - cover) * layered
        whole = cover[0, 0] > 0.5
        moved = torch.where(whole, _sampled(noise, source, "nearest"), moved)
        laid |= whole
    _refill(moved, noise, gone & ~laid, laid & ~gone)
    return alpha**0.5 * layered + (1 - alpha) ** 0.5 * moved


def _share_of_latents(content: Content) -> Float[Tensor, "h w"]:
    """Return how much of each latent cell is content or its rim."""
    from scipy.ndimage import binary_dilation

    region = binary_dilation(content.region, iterations=RIM)
    rows, cols = (side // FEATURES_PER_LATENT for side in region.shape)
    cells = region.reshape(rows, FEATURES_PER_LATENT, cols, FEATURES_PER_LATENT)
    return torch.from_numpy(cells.mean(axis=(1, 3), dtype=np.float32))


def _sources(content: Content, latents: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 h w 2"]:
    """Return from where each latent cell takes content, as `grid_sample` wants it."""
    rows, cols = latents.shape[-2:]
    scale = FEATURES_PER_LATENT
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), axis=-1)
    cells = (grid + 0.5) * scale - 0.5
    back = content.back
    source = ((cells @ back[:, :2].T + back[:, 2]) + 0.5) / scale
    unit = 2 * source / np.array([rows, cols]) - 1
    return torch.from_numpy(unit[None, ..., ::-1].astype(np.float32)).to(latents.device)


def _sampled(
    values: Float[Tensor, "1 c h w"],
    source: Float[Tensor, "1 h w 2"],
    mode: str,
    beyond: str = "border",
) -> Float[Tensor, "1 c h w"]:
    return grid_sample(values, source, mode=mode, padding_mode=beyond, align_corners=False)


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


def _refill(
    moved: Float[Tensor, "1 c h w"],
    noise: Float[Tensor, "1 c h w"],
    empty: Bool[Tensor, "h w"],
    covered: Bool[Tensor, "h w"],
) -> None:
    """Give empty cells the noise of covered ones, in their order; over again if they are few."""
    spare = noise[0, :, covered]
    count = int(empty.sum())
    if spare.shape[1] and count:
        order = torch.arange(count, device=noise.device) % spare.shape[1]
        moved[0, :, empty] = spare[:, order]
