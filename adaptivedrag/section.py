"""Building blocks of settings: frozen sections, checked numbers, and their fit to a latent size.

Constants that the paper and its baseline give for 512 px images and 64×64 latents are written for
that size; `LatentScale` is the one place that fits them to another.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RadiusRange = Annotated[tuple[Positive, Positive], Field(strict=False)]  # JSON and TOML have lists

REFERENCE = (4, 64, 64)
"""Channels, rows and columns of the latents that the constants of Stable Diffusion 1.x are for."""


class Section(BaseModel):
    """Settings of one stage: frozen, and an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def replaced(self, **changes: Any) -> Self:
        """Return these settings with some of them changed.

        Raises:
            pydantic.ValidationError: for a value out of range.
        """
        return type(self).model_validate({**self.model_dump(), **changes})


@dataclass(frozen=True)
class LatentScale:
    """Fits constants given for the reference latents to another size; the identity at that size.

    Attributes:
        area: latent pixels, as a multiple of those of the reference.
        terms: values of the latents, as a multiple of those of the reference.
    """

    area: float
    terms: float

    @classmethod
    def of(
        cls, channels: int, height: int, width: int, reference: tuple[int, int, int] = REFERENCE
    ) -> Self:
        """Return the scale of latents of `channels`×`height`×`width`, against a reference."""
        area = height * width / (reference[1] * reference[2])
        return cls(area, area * channels / reference[0])

    @property
    def length(self) -> float:
        """Lengths, as a multiple of those at 64×64."""
        return math.sqrt(self.area)

    def cells(self, value: int) -> int:
        """Fit a length in whole cells: at least 1, and 0 stays 0."""
        return max(1, round(value * self.length)) if value else 0

    def radius(self, value: int | None) -> int | None:
        """Fit a radius, or None."""
        return None if value is None else self.cells(value)

    def bounds(self, value: RadiusRange) -> RadiusRange:
        """Fit the bounds of a radius."""
        return self.cells(value[0]), self.cells(value[1])
