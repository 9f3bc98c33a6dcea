"""Relocation: the contents under the handles are moved in the picture (`methods.warp`)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from adaptivedrag.drag import Handles, MovedPicture, PictureProblem
from adaptivedrag.masks import image_mask
from adaptivedrag.methods.warp import Warp
from adaptivedrag.warp.content import Content, find_contents
from adaptivedrag.warp.pasting import Pasted, paste

CUT = 0.01
"""Share of what changes from which a mask that leaves it out is worth a warning."""


def relocate(problem: PictureProblem, settings: Warp) -> MovedPicture:
    """Move the contents of all drags that have a length, within the mask."""
    handles = _handles(problem, settings)
    contents = find_contents(problem.segments, problem.superpixels, problem.drags, problem.frame)
    pasted, warnings = _within_mask(paste(problem.image, contents, problem.frame), problem)
    ends = _ends(contents, handles.first)
    tracks = [handles.first] if handles.still.all() else [handles.first, ends]
    return MovedPicture(
        pasted=pasted,
        tracks=torch.stack(tracks).float().numpy(),
        points=handles.reports(ends, lost=torch.zeros_like(handles.still)),
        steps=len(tracks) - 1,
        budget=1,
        details={
            "contents": [
                {"share": float(content.region.mean()), "motion": content.motion}
                for content in contents
            ]
        },
        warnings=(*warnings, *(line for each in contents for line in each.warnings)),
    )


def _within_mask(pasted: Pasted, problem: PictureProblem) -> tuple[Pasted, list[str]]:
    """Keep the image outside the mask, and say so if content is cut by it."""
    if problem.mask is None or not problem.mask.any():
        return pasted, []
    may = image_mask(problem.mask, problem.frame)
    cut = pasted.changed & ~may
    if not cut.any():
        return pasted, []
    share = cut.sum() / pasted.changed.sum()
    warnings = [
        f"the mask cuts what moves: {share:.0%} of it lies outside, and stays as it was; "
        "widen the mask, or leave it out"
    ]
    kept = Pasted(
        picture=np.where(may[..., None], pasted.picture, problem.image),
        hole=pasted.hole & may,
        arrived=pasted.arrived & may,
        changed=pasted.changed & may,
        rim=pasted.rim & may,
        cleared=np.where(may[..., None], pasted.cleared, problem.image),
    )
    return kept, warnings if share >= CUT else []


def _handles(problem: PictureProblem, settings: Warp) -> Handles:
    """Return the handles, of which only those stay whose drag has no length."""
    still = torch.tensor([drag.handle == drag.target for drag in problem.drags])
    return replace(Handles.of(problem, settings.stop_distance), still=still)


def _ends(
    contents: Sequence[Content], handles: Int[torch.Tensor, "p 2"]
) -> Int[torch.Tensor, "p 2"]:
    """Return the cells where handles were put."""
    ends = handles.clone()
    for content in contents:
        for place, handle in enumerate(handles.tolist()):
            if not content.region[tuple(handle)]:
                continue
            away = np.linalg.norm(content.came_from - handle, axis=-1)
            end = np.unravel_index(away.argmin(), away.shape)
            ends[place] = torch.tensor([int(side) for side in end])
    return ends
