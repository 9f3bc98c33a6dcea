"""Motion supervision (paper, Sec. 3.4; DragDiffusion's Eq. 3): the loss that moves content.

The patch one unit step ahead of each handle is pulled onto the detached patch at the handle, so
the gradient only carries content forward. What the mask does not cover is held in place.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from adaptivedrag.features import inside, sample_features, window, within

SUPERVISION_SHARE = 2 / 7
"""Supervision radius per superpixel spacing, on the feature grid (a seventh of it in pixels)."""


def motion_loss(
    features: Float[Tensor, "c h w"],
    handles: Int[Tensor, "p 2"],
    targets: Float[Tensor, "p 2"],
    region: Bool[Tensor, "p n"],
    radius: Int[Tensor, "p"],
    reach: int,
    size: tuple[int, int],
    pulled: Bool[Tensor, "p"],
    wanted: Float[Tensor, "p n c"] | None = None,
    step_length: float | None = None,
) -> Float[Tensor, ""]:
    """Sum over the pulled points the L1 difference of the patches, averaged over channels.

    Args:
        region: cells of `window(handles, reach)` that take part.
        radius: half patch size of each point, in cells; at most `reach`.
        size: rows and columns of the feature grid.
        pulled: points that are far enough from their targets; the others add nothing.
        wanted: features that the cells of the window should get; None: those that they have.
        step_length: how far ahead the pulled patch is at most, and never beyond the target; None:
            one cell.
    """
    toward = targets - handles
    distance = toward.norm(dim=-1, keepdim=True)
    step = toward / distance.clamp(min=1e-6)
    if step_length is not None:
        step = step * distance.clamp(max=step_length)
    cells = window(handles, reach)
    patch = within(cells, handles, radius) & inside(cells, size)
    if wanted is None:
        wanted = sample_features(features.detach(), cells.float())
    ahead = sample_features(features, cells + step[:, None])
    difference = (ahead - wanted).abs().mean(dim=-1)
    # (2r + 1)² times the mean over the patch, as in the baseline: a sum unless the patch is cut.
    weight = (2 * radius + 1) ** 2 / patch.sum(dim=1)
    per_point = (difference * (patch & region)).sum(dim=1) * weight
    return (per_point * pulled).sum()


def background_loss(
    lower: Float[Tensor, "1 c h w"],
    initial_lower: Float[Tensor, "1 c h w"],
    editable: Bool[Tensor, "h w"],
) -> Float[Tensor, ""]:
    """Sum how far the latents one step below have moved outside the editable mask."""
    return ((lower - initial_lower) * ~editable).abs().sum()
