"""Correspondence loss (paper, Sec. 3.5, Eq. 4): the target's patch resembles the handle's.

The paper's symmetric cross-entropy, taken over the tokens inside a pair of patches: over whole
patches it would be zero for a single drag. The gradient goes to the edited latents directly.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize, unfold

from adaptivedrag.config import SampleImageConfig
from adaptivedrag.points import Drag, Frame, ImagePoint

TOKEN_SIZE = 3
"""Side of a token, the neighborhood of a latent cell, whose few channels alone say too little."""

MSE_WEIGHT = 100.0
"""Weight of the squared difference in the authors' code."""

MAX_STEPS = 3.0
"""The most steps by which a latent moves at once."""


def patch_slices(
    handle: tuple[int, int], target: tuple[int, int], radius: int, size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return equal windows around two latent cells, cut where either would leave the grid."""
    before = [min(radius, h, t) for h, t in zip(handle, target, strict=True)]
    after = [
        min(radius, side - 1 - h, side - 1 - t)
        for h, t, side in zip(handle, target, size, strict=True)
    ]

    def around(center: tuple[int, int]) -> tuple[slice, slice]:
        rows, cols = (
            slice(c - b, c + a + 1) for c, b, a in zip(center, before, after, strict=True)
        )
        return rows, cols

    return around(handle), around(target)


def correspondence_loss(
    reference: Float[Tensor, "1 c h w"],
    edited: Float[Tensor, "1 c h w"],
    config: SampleImageConfig,
) -> Float[Tensor, ""]:
    """Compare two patches of one size: contrastively over their tokens, or by their squares."""
    if config.correspondence == "mse":
        return MSE_WEIGHT * mse_loss(edited, reference)
    anchors, tokens = (_tokens(patch) for patch in (reference, edited))
    similarity = anchors @ tokens.T / config.correspondence_temperature
    diagonal = torch.arange(len(similarity), device=similarity.device)
    return (cross_entropy(similarity, diagonal) + cross_entropy(similarity.T, diagonal)) / 2


def _tokens(patch: Float[Tensor, "1 c h w"]) -> Float[Tensor, "n d"]:
    return normalize(unfold(patch, TOKEN_SIZE, padding=TOKEN_SIZE // 2)[0].T, dim=-1)


def corresponding_update(
    reference: Float[Tensor, "1 c h w"],
    edited: Float[Tensor, "1 c h w"],
    drags: Sequence[Drag],
    frame: Frame,
    config: SampleImageConfig,
) -> Float[Tensor, "1 c h w"]:
    """Take one step of the edited latents down the loss of all pairs; the reference stays.

    Both are at the same noise level. The step is scaled by the gradient's own size over the
    patches, so that `correspondence_rate` is in units of the latents. A drag of no length adds
    nothing.
    """
    drags = [drag for drag in drags if drag.handle != drag.target]
    if not drags:
        return edited
    leaf = edited.detach().requires_grad_(True)
    touched = torch.zeros(edited.shape[-2:], dtype=torch.bool, device=edited.device)
    losses = []
    with torch.enable_grad():
        for drag in drags:
            handle, target = patch_slices(
                _latent_cell(drag.handle, frame),
                _latent_cell(drag.target, frame),
                config.correspondence_radius,
                frame.latent_size,
            )
            losses.append(correspondence_loss(reference[..., *handle], leaf[..., *target], config))
            touched[target] = True
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), leaf)
    size = gradient[..., touched].square().mean().sqrt() + 1e-8
    step = (gradient / size).clamp(-MAX_STEPS, MAX_STEPS)
    return edited - config.correspondence_rate * step


def _latent_cell(point: ImagePoint, frame: Frame) -> tuple[int, int]:
    rows, cols = frame.latent_size
    row, col = frame.to_latent(point)
    return min(max(round(row), 0), rows - 1), min(max(round(col), 0), cols - 1)
