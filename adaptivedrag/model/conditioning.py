"""What a UNet is conditioned on beside the noise level: prompts, as its text encoders see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """One or more prompts, ready for a UNet.

    Made by `DiffusionModel.encode_prompt`. Only the model looks inside; everything else passes it
    on, expands it to the items of a batch, or concatenates it with others.
    """

    tokens: Float[Tensor, "b tokens d"]
    added: dict[str, Float[Tensor, "b ..."]] = field(default_factory=dict)
    """Further conditions of each item that an architecture defines, by the UNet's names."""

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the items of several conditionings of one model into a batch, in order.

        Raises:
            ValueError: if there are none.
        """
        if not parts:
            raise ValueError("there is no conditioning to concatenate")
        return cls(
            torch.cat([part.tokens for part in parts]),
            {name: torch.cat([part.added[name] for part in parts]) for name in parts[0].added},
        )

    def expand(self, count: int) -> Self:
        """Repeat a single item `count` times, without a copy; `count` items stay as they are.

        Raises:
            ValueError: if there are several items, and not `count`.
        """
        if len(self) not in (1, count):
            raise ValueError(f"a conditioning of {len(self)} items does not fit {count} latents")
        return self._map(lambda values: values.expand(count, *values.shape[1:]))

    def to(self, dtype: torch.dtype) -> Self:
        """Return the conditioning in another floating-point type."""
        return self._map(lambda values: values.to(dtype))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        added = {name: change(values) for name, values in self.added.items()}
        return type(self)(change(self.tokens), added)
