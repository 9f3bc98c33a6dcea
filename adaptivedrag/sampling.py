"""Correspondence sampling (paper, Sec. 3.5): from optimized latents back to clean ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adaptivedrag.config import SampleImageConfig
from adaptivedrag.correspondence import corresponding_update
from adaptivedrag.errors import NotFinite
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.points import Drag, Frame
from adaptivedrag.reference_control import first_controlled, reference_control


@dataclass(frozen=True, eq=False)
class Reference:
    """An inverted image: what all edits of it with one prompt have in common."""

    trajectory: Float[Tensor, "level_1 c h w"]
    """Clean latents, then those after each inversion step up to the level of the edits."""
    conditioning: Conditioning
    """Of one item."""


@dataclass(frozen=True, eq=False)
class DraggedEdit:
    """An edit whose latents have been dragged."""

    latents: Float[Tensor, "1 c h w"]
    """Edited latents, at the level where the trajectory of the reference ends."""
    reference: int
    """Place of its reference among those that are given with it."""
    drags: Sequence[Drag]
    frame: Frame
    editable: Bool[Tensor, "h w"]
    """True where the image may change."""

    @property
    def held(self) -> Bool[Tensor, "h w"]:
        """Where `hold_background` keeps the latents of the inversion at every step.

        An empty mask holds nothing, as in the optimization.
        """
        return ~self.editable & self.editable.any()


@torch.no_grad()
def sample(
    model: DiffusionModel,
    references: Sequence[Reference],
    edits: Sequence[DraggedEdit],
    config: SampleImageConfig,
    num_steps: int,
    *,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> tuple[Float[Tensor, "r c h w"], Float[Tensor, "b c h w"]]:
    """Denoise references and edits side by side, each reference once for all its edits.

    In each step the pass of the references comes first, and depends on nothing of the edits. Nor do
    edits affect each other: in a batch, latents differ from those of one edit alone by the rounding
    of float32 only. All have the same size and begin at the same level.

    Args:
        num_steps: sampling steps from pure noise, of which those below the level are taken.

    Returns:
        Clean latents of the references and of the edits.

    Raises:
        NotFinite: if the latents of any edit are not finite.
    """
    prompts = [reference.conditioning for reference in references]
    places = [edit.reference for edit in edits]
    place_of = torch.tensor(places, device=model.device)
    trajectories = torch.stack([reference.trajectory for reference in references])
    reference, reference_prompts = trajectories[:, -1], Conditioning.concatenate(prompts)
    edited = torch.cat([edit.latents for edit in edits])
    edit_prompts = Conditioning.concatenate([prompts[place] for place in places])
    held = torch.stack([edit.held for edit in edits])[:, None]

    first_layer = first_controlled(model, config)
    needs_references = first_layer is not None or config.correspondence != "off"
    level = trajectories.shape[1] - 1
    timesteps = model.schedule.timesteps(num_steps)[num_steps - level :]
    with reference_control(model, first_layer) as control:
        for step, timestep in enumerate(timesteps, start=1):
            below = model.schedule.previous(timestep, num_steps)
            if needs_references:
                with control.writing():
                    noise = model.predict_noise(reference, timestep, reference_prompts)
                reference = model.schedule.move(reference, noise, timestep, below)
            with control.reading(place_of):
                noise = model.predict_noise(edited, timestep, edit_prompts)
            edited = model.schedule.move(edited, noise, timestep, below)
            if config.correspondence != "off" and step < level:
                edited = _corresponding(reference, edited, edits, config)
            if config.hold_background:
                edited = torch.where(held, trajectories[place_of, level - step], edited)
            on_step(step, level)
    if not edited.isfinite().all():
        raise NotFinite("sampled latents are not finite: use a wider dtype")
    return reference, edited


def _corresponding(
    reference: Float[Tensor, "r c h w"],
    edited: Float[Tensor, "b c h w"],
    edits: Sequence[DraggedEdit],
    config: SampleImageConfig,
) -> Float[Tensor, "b c h w"]:
    """Update each edit by its own drags."""
    updated = [
        corresponding_update(
            reference[edit.reference, None], latents[None], edit.drags, edit.frame, config
        )
        for edit, latents in zip(edits, edited, strict=True)
    ]
    return torch.cat(updated)
