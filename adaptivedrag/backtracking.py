"""Position-supervised backtracking (paper, Sec. 3.4.1): which tracked steps count, and how many.

A handle takes a tracked position only if it lies forward on its way, by the cosine test against the
line from its first position to its target. By these words a handle past its target would never come
back; a switch lets it. Each step in which a handle moves less than its ideal distance l / n adds
one step to the budget, up to n_max.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Progress(NamedTuple):
    """The outcome of one tracked step."""

    handles: Int[Tensor, "p 2"]
    budget: Int[Tensor, ""]
    advanced: Bool[Tensor, ""]
    """Whether any handle moved forward."""


def accept_forward_steps(
    candidates: Int[Tensor, "p 2"],
    handles: Int[Tensor, "p 2"],
    targets: Float[Tensor, "p 2"],
    way: Float[Tensor, "p 2"],
    pending: Bool[Tensor, "p"],
    ideal: Float[Tensor, "p"],
    budget: Int[Tensor, ""],
    max_steps: int,
    *,
    returns: bool,
) -> Progress:
    """Keep forward steps of the pending handles; lengthen the budget when one falls short.

    Args:
        way: from each handle's first position to its target, fixed for the whole edit.
        ideal: the distance l / n that each handle should move per step.
        budget: steps allowed so far.
        returns: for a handle past its target, forward is back along its way.
    """
    step = (candidates - handles).float()
    past = ((targets - handles) * way).sum(dim=-1) < 0
    along = (step * way).sum(dim=-1)
    if returns:
        along = torch.where(past, -along, along)
    forward = (along > 0) & pending
    short = pending & (~forward | (step.norm(dim=-1) < ideal))
    return Progress(
        torch.where(forward[:, None], candidates, handles),
        (budget + short.any()).clamp(max=max_steps),
        forward.any(),
    )
