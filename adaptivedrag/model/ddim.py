"""DDIM (Song et al., 2021) without noise: the schedule and one deterministic move between levels.

The paper's Eq. 2 is misprinted (its root is of a negative number); the move is written in the
form that goes through the predicted clean latents, and serves both sampling and inversion.

A UNet predicts the noise ε itself, or v = √ᾱ ε − √(1 − ᾱ) x₀ (Salimans and Ho, 2022), from which
the noise follows. Everything but the training of a LoRA asks for the noise alone.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from jaxtyping import Float
from torch import Tensor

MOST_TIMESTEPS = 100_000

PredictionType = Literal["epsilon", "v_prediction"]
"""What a UNet predicts, by the names of diffusers' schedulers."""


@dataclass(frozen=True)
class Schedule:
    """Cumulative products of alpha per training timestep, in float64."""

    alphas_cumprod: tuple[float, ...]
    steps_offset: int = 1
    prediction_type: PredictionType = "epsilon"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Read a diffusers scheduler config with the `scaled_linear` or `linear` betas.

        Raises:
            ValueError: for another `beta_schedule` or `prediction_type`, or numbers that make no
                schedule; what else a config says, `known_settings` decides on.
        """
        kind = config.get("beta_schedule", "linear")
        prediction = config.get("prediction_type", "epsilon")
        if kind not in ("linear", "scaled_linear"):
            raise ValueError(
                f"beta_schedule is {kind!r:.40}; supported are 'linear' and 'scaled_linear'"
            )
        if prediction not in get_args(PredictionType):
            supported = " and ".join(map(repr, get_args(PredictionType)))
            raise ValueError(f"prediction_type is {prediction!r:.40}; supported are {supported}")
        steps = config["num_train_timesteps"]
        if not isinstance(steps, int) or not 1 <= steps <= MOST_TIMESTEPS:
            raise ValueError(f"num_train_timesteps is {steps!r:.40}, not 1 to {MOST_TIMESTEPS}")
        offset = config.get("steps_offset", 1)
        if not isinstance(offset, int) or not 0 <= offset < steps:
            raise ValueError(f"steps_offset is {offset!r:.40}, not 0 to {steps - 1}")
        power = 2 if kind == "scaled_linear" else 1
        bounds = (config["beta_start"] ** (1 / power), config["beta_end"] ** (1 / power))
        betas = np.linspace(*bounds, steps) ** power
        if not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas are not between 0 and 1")
        alphas = tuple(np.cumprod(1 - betas).tolist())
        return cls(alphas, offset, prediction)

    def timesteps(self, num_steps: int) -> list[int]:
        """Return the sampling timesteps, highest first ("leading" spacing): 981, 961, …, 1 for 50.

        Raises:
            ValueError: if `num_steps` is more than the training timesteps.
        """
        trained = len(self.alphas_cumprod)
        stride = trained // num_steps
        if (num_steps - 1) * stride + self.steps_offset >= trained or stride == 0:
            raise ValueError(f"{num_steps} steps do not fit into the {trained} of training")
        return [step * stride + self.steps_offset for step in reversed(range(num_steps))]

    def alpha(self, timestep: int) -> float:
        """Return the cumulative alpha at `timestep`; before the first one, that of timestep 0."""
        return self.alphas_cumprod[max(timestep, 0)]

    def noise(
        self,
        prediction: Float[Tensor, "b c h w"],
        latents: Float[Tensor, "b c h w"],
        timestep: int,
        level: int,
    ) -> Float[Tensor, "b c h w"]:
        """Return the noise in latents that are at the noise level of timestep `level`.

        Where that is not the `timestep` that the UNet was told, as in inversion, the noise is that
        which gives this very v at `timestep`: a sampling step with the same v leads back.

        Args:
            prediction: what the UNet predicted for `timestep`.
        """
        if self.prediction_type == "epsilon":
            return prediction
        told, there = self.alpha(timestep), self.alpha(level)
        turned = (told * there) ** 0.5 + ((1 - told) * (1 - there)) ** 0.5
        return (there**0.5 * prediction + (1 - told) ** 0.5 * latents) / turned

    def target(
        self,
        clean: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        alphas: Float[Tensor, "b 1 1 1"],
    ) -> Float[Tensor, "b c h w"]:
        """Return what a UNet should predict for clean latents with noise, at cumulative alphas."""
        if self.prediction_type == "epsilon":
            return noise
        return alphas.sqrt() * noise - (1 - alphas).sqrt() * clean

    def move(
        self,
        latents: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        source: int,
        destination: int,
    ) -> Float[Tensor, "b c h w"]:
        """Move latents from the noise level of timestep `source` to that of `destination`."""
        alpha_from, alpha_to = self.alpha(source), self.alpha(destination)
        clean = (latents - (1 - alpha_from) ** 0.5 * noise) / alpha_from**0.5
        return alpha_to**0.5 * clean + (1 - alpha_to) ** 0.5 * noise

    def previous(self, timestep: int, num_steps: int) -> int:
        """Return the timestep one sampling step below; negative below the last one."""
        return timestep - len(self.alphas_cumprod) // num_steps

    def start(self, num_steps: int, inverted_steps: int) -> int:
        """Return the timestep that `inverted_steps` of inversion reach: 681 for 35 of 50."""
        return self.timesteps(num_steps)[num_steps - inverted_steps]
