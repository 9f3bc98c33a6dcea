"""DDIM inversion (paper, Sec. 3.1, Eq. 3): from clean latents to the start timestep."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel


@torch.no_grad()
def invert(
    model: DiffusionModel,
    latents: Float[Tensor, "1 c h w"],
    conditioning: Conditioning,
    config: InvertImageConfig,
    *,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Float[Tensor, "steps_1 c h w"]:
    """Return the clean latents and those after each inversion step.

    Each step is labelled with the timestep it leads to (MasaCtrl's convention), without
    classifier-free guidance.

    Raises:
        NotFinite: if latents are not finite.
    """
    schedule, trajectory = model.schedule, [latents]
    upward = list(reversed(schedule.timesteps(config.num_steps)))[: config.inverted_steps]
    for step, timestep in enumerate(upward):
        noise = model.predict_noise(latents, timestep, conditioning)
        below = schedule.previous(timestep, config.num_steps)
        latents = schedule.move(latents, noise, below, timestep)
        trajectory.append(latents)
        on_step(step + 1, config.inverted_steps)
    stacked = torch.cat(trajectory)
    finite = stacked.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        step = int(finite.long().argmin())
        raise NotFinite(f"latents are not finite after {step} inversion steps: use a wider dtype")
    return stacked
