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
    latents: Float[Tensor, "b c h w"],
    conditioning: Conditioning,
    config: InvertImageConfig,
    *,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Float[Tensor, "b steps_1 c h w"]:
    """Return the clean latents of each image and those after each inversion step.

    Each step is labeled with the timestep it leads to (MasaCtrl's convention), without
    classifier-free guidance. Images do not affect each other: in a batch, latents differ from those
    of one image alone only by float32 rounding.

    Args:
        latents: clean latents, one item per image.
        conditioning: one item for all images, or one per image.

    Raises:
        NotFinite: if latents of any image are not finite.
    """
    schedule, trajectory = model.schedule, [latents]
    upward = list(reversed(schedule.timesteps(config.num_steps)))[: config.inverted_steps]
    for step, timestep in enumerate(upward, start=1):
        below = schedule.previous(timestep, config.num_steps)
        noise = model.predict_noise(latents, timestep, conditioning, level=below)
        latents = schedule.move(latents, noise, below, timestep)
        trajectory.append(latents)
        on_step(step, config.inverted_steps)
    finite = torch.stack([latents.isfinite().all() for latents in trajectory])
    if not finite.all():
        step = int(finite.long().argmin())
        raise NotFinite(f"latents are not finite after {step} inversion steps: use a wider dtype")
    return torch.stack(trajectory, dim=1)
