"""Correspondence sampling (paper, Sec. 3.5): from optimised latents back to clean ones."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.correspondence import corresponding_update
from adaptivedrag.errors import NotFinite
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.points import Drag, Frame
from adaptivedrag.reference_control import reference_control


@dataclass(frozen=True)
class Background:
    """What an edit leaves as it is: latents of the inversion wherever the mask is False.

    An empty mask holds nothing, as in the optimisation.
    """

    trajectory: Float[Tensor, "steps_1 c h w"]
    """Clean latents, then those after each inversion step."""
    editable: Bool[Tensor, "h w"]

    def laid_under(self, edited: Float[Tensor, "1 c h w"], level: int) -> Float[Tensor, "1 c h w"]:
        """Put the background around edited latents that `level` steps remain to be taken of."""
        held = ~self.editable & self.editable.any()
        return torch.where(held, self.trajectory[level : level + 1], edited)


@torch.no_grad()
def sample(
    model: DiffusionModel,
    reference: Float[Tensor, "1 c h w"],
    edited: Float[Tensor, "1 c h w"],
    conditioning: Conditioning,
    drags: Sequence[Drag],
    frame: Frame,
    config: SampleImageConfig,
    inversion: InvertImageConfig,
    *,
    background: Background | None = None,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 c h w"]]:
    """Denoise the reference and the edited latents side by side.

    The reference's passes come first in each step and depend on nothing of the edit.

    Args:
        reference: inverted latents at the start timestep.
        edited: optimised latents at the start timestep.
        background: what is not edited; needed for `hold_background`.

    Returns:
        Clean latents of the reference and of the edit.

    Raises:
        NotFinite: if the latents of the edit are not finite.
        ValueError: if the background is to be held, and is not given.
    """
    if config.hold_background and background is None:
        raise ValueError("hold_background needs a background")
    schedule = model.schedule
    timesteps = schedule.timesteps(inversion.num_steps)[-inversion.inverted_steps :]
    first_layer = config.reference_first_layer if config.reference_control else None
    needs_reference = first_layer is not None or config.correspondence != "off"
    with reference_control(model, first_layer) as control:
        for step, timestep in enumerate(timesteps):
            below = schedule.previous(timestep, inversion.num_steps)
            if needs_reference:
                with control.writing():
                    noise = model.predict_noise(reference, timestep, conditioning)
                reference = schedule.move(reference, noise, timestep, below)
            with control.reading() if first_layer is not None else nullcontext():
                noise = model.predict_noise(edited, timestep, conditioning)
            edited = schedule.move(edited, noise, timestep, below)
            if config.correspondence != "off" and timestep != timesteps[-1]:
                edited = corresponding_update(reference, edited, drags, frame, config)
            if config.hold_background and background:
                edited = background.laid_under(edited, len(timesteps) - 1 - step)
            on_step(step + 1, len(timesteps))
    if not edited.isfinite().all():
        raise NotFinite("sampled latents are not finite: use a wider dtype")
    return reference, edited
