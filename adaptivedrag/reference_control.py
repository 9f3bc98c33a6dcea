"""Reference-latent control (mutual self-attention of MasaCtrl): keys and values of the reference.

In the controlled self-attentions the edited latents' queries attend to the keys and values that
their reference latents had in the same layer at the same step. The reference itself is an ordinary
reconstruction; its pass only stores its keys and values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from adaptivedrag.config import SampleImageConfig
from adaptivedrag.model.diffusion import DiffusionModel


class _ReferenceProcessor:
    """Plain attention that stores its keys and values in `memory`, or takes them from there."""

    def __init__(self, control: "ReferenceControl") -> None:
        self.control = control
        self.memory: tuple[Tensor, Tensor] | None = None
        """Keys and values of the references, each of shape (references, tokens, channels)."""

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Float[Tensor, "b tokens d"],
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "b tokens d"]:
        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.to_q(hidden_states))
        key, value = map(heads, self._keys_and_values(attn, hidden_states))
        seen = self.control.seen(key.shape[-2])
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))

    def _keys_and_values(
        self, attn: torch.nn.Module, hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.control.mode == "read":
            if self.memory is None:
                raise RuntimeError("reference control was read before a reference was seen")
            key, value = self.memory
            return key[self.control.references], value[self.control.references]
        key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        if self.control.mode == "write":
            self.memory = key.detach(), value.detach()
        return key, value


class ReferenceControl:
    """Switch of the installed processors: pass through, write the references, or read them.

    Attributes:
        references: for each reading item, the index of its reference in the batch that wrote.
        hidden: latent cells of each reference that nothing reads.
    """

    def __init__(self, hidden: Bool[Tensor, "r h w"] | None = None) -> None:
        self.mode: Literal["off", "write", "read"] = "off"
        self.references: Tensor | None = None
        self.hidden = hidden

    def seen(self, tokens: int) -> Bool[Tensor, "b 1 1 tokens"] | None:
        """Return which of a layer's tokens each item reads; None for all of them.

        A token that shows any hidden cell is left out, unless that would leave an item none.
        """
        if self.hidden is None or self.mode != "read":
            return None
        rows, cols = self.hidden.shape[-2:]
        side = round((rows * cols / tokens) ** 0.5)
        hidden = functional.max_pool2d(self.hidden[:, None].float(), side).flatten(1) > 0
        hidden &= ~hidden.all(dim=1, keepdim=True)
        return ~hidden[self.references][:, None, None] if hidden.any() else None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Store the keys and values of the passes inside, which are those of references."""
        yield from self._switched("write")

    @contextmanager
    def reading(self, references: Int[Tensor, "b"]) -> Iterator[None]:
        """Let each item of the passes inside, edited latents, attend to its reference."""
        self.references = references
        yield from self._switched("read")

    def _switched(self, mode: Literal["write", "read"]) -> Iterator[None]:
        self.mode = mode
        try:
            yield
        finally:
            self.mode = "off"


@contextmanager
def reference_control(
    model: DiffusionModel,
    first_layer: int | None,
    hidden: Bool[Tensor, "r h w"] | None = None,
) -> Iterator[ReferenceControl]:
    """Install reference control from self-attention `first_layer` on, in call order, or nowhere.

    The previous processors are restored on exit.

    Args:
        hidden: latent cells of each reference whose keys and values are not read.
    """
    control = ReferenceControl(hidden)
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


def first_controlled(model: DiffusionModel, config: SampleImageConfig) -> int | None:
    """Return the self-attention at which reference control begins; None if it is off."""
    if not config.reference_control:
        return None
    first = config.reference_first_layer
    return model.architecture.first_controlled if first is None else first
