"""Reference-latent control (mutual self-attention of MasaCtrl): keys and values of the reference.

In the controlled self-attentions the edited latents' queries attend to the keys and values that
the reference latents had in the same layer at the same step. The reference itself is an ordinary
reconstruction: its pass only leaves its keys and values behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from adaptivedrag.model.diffusion import DiffusionModel


class _ReferenceProcessor:
    """Plain attention that leaves its keys and values in `memory`, or takes them from there."""

    def __init__(self, control: "ReferenceControl") -> None:
        self.control = control
        self.memory: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        batch = len(hidden_states)

        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.to_q(hidden_states))
        if self.control.mode == "read":
            if self.memory is None:
                raise RuntimeError("reference control was read before the reference was seen")
            key, value = (part.expand(batch, -1, -1, -1) for part in self.memory)
        else:
            key, value = heads(attn.to_k(hidden_states)), heads(attn.to_v(hidden_states))
        if self.control.mode == "write":
            self.memory = key.detach(), value.detach()
        mixed = (
            functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        )
        return attn.to_out[1](attn.to_out[0](mixed))


class ReferenceControl:
    """Switch of the installed processors: pass through, write the reference, or read it."""

    def __init__(self) -> None:
        self.mode: Literal["off", "write", "read"] = "off"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Passes inside are of the reference: their keys and values are kept."""
        yield from self._switched("write")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Passes inside are of edited latents: they attend to the reference."""
        yield from self._switched("read")

    def _switched(self, mode: Literal["write", "read"]) -> Iterator[None]:
        self.mode = mode
        try:
            yield
        finally:
            self.mode = "off"


@contextmanager
def reference_control(model: DiffusionModel, first_layer: int | None) -> Iterator[ReferenceControl]:
    """Install reference control from self-attention `first_layer` on, in call order, or nowhere.

    Of the sixteen of Stable Diffusion 1.x, ten gives the six of the last two up blocks. The
    processors that were there are put back on leaving.
    """
    control = ReferenceControl()
    every = list(model.self_attentions().values())
    attentions = [] if first_layer is None else every[first_layer:]
    originals = [attention.processor for attention in attentions]
    try:
        for attention in attentions:
            attention.set_processor(_ReferenceProcessor(control))
        yield control
    finally:
        for attention, processor in zip(attentions, originals, strict=True):
            attention.set_processor(processor)
