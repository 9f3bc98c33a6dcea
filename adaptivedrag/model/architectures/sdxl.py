"""Stable Diffusion XL: three levels, seventy transformer blocks, two text encoders, sizes as input.

Constants of the settings count cells of the latents that a family was trained on: at 1024 pixels
SDXL takes them as they are, as Stable Diffusion 1.x does at 512. So a patch holds as many cells of
the network as the paper's, and half as much of the picture's side; the superpixels, whose count is
one of the constants, keep their share of the picture, and the radii that follow from their spacing
keep theirs within bounds in cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from adaptivedrag.model.architecture import Architecture, UnfitModel
from adaptivedrag.model.architectures.sd1 import ClipPrompts
from adaptivedrag.model.parts import (
    CLIP_TEXT,
    CLIP_TEXT_WITH_PROJECTION,
    CLIP_TOKENIZER,
    SCHEDULER,
    SIZED_UNET,
    UPCAST_VAE,
)

if TYPE_CHECKING:
    import torch

    from adaptivedrag.model.conditioning import Conditioning


_SIZES = 6
"""Numbers of a picture's size and place that the UNet takes; see `DiffusionModel.predict`."""


@dataclass(frozen=True)
class TwoClipPrompts:
    """Two CLIP text encoders: the penultimate states of both, and what the second one pools."""

    first: ClipPrompts
    second: ClipPrompts

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Self:
        """Take text encoders and tokenizers out of the loaded parts.

        Raises:
            ValueError: if a tokenizer pads prompts beyond what its text encoder takes, or the UNet
                takes another number of inputs than text encoder and sizes give.
        """
        found = cls(ClipPrompts.of(parts), ClipPrompts.of(parts, "_2"))
        unet, pooled = parts["unet"].config, parts["text_encoder_2"].config.projection_dim
        given = pooled + _SIZES * (unet.addition_time_embed_dim or 0)
        if not unet.addition_time_embed_dim or given != unet.projection_class_embeddings_input_dim:
            raise ValueError(
                "unet: projection_class_embeddings_input_dim is "
                f"{unet.projection_class_embeddings_input_dim}, and addition_time_embed_dim is "
                f"{unet.addition_time_embed_dim}: with {pooled} numbers of text_encoder_2 they do "
                "not add up: take all parts from one model"
            )
        return found

    @property
    def modules(self) -> tuple["torch.nn.Module", ...]:
        """Both text encoders."""
        return (*self.first.modules, *self.second.modules)

    def encode(self, prompt: str, device: "torch.device") -> "Conditioning":
        """Embed a prompt, padded or truncated to each text encoder's length."""
        import torch

        from adaptivedrag.model.conditioning import Conditioning

        seen = [
            each.text_encoder(each.tokens(prompt).to(device), output_hidden_states=True)
            for each in (self.first, self.second)
        ]
        tokens = torch.cat([each.hidden_states[-2] for each in seen], dim=-1)
        return Conditioning(tokens, {"text_embeds": seen[1].text_embeds})

    def notes(self, prompt: str) -> tuple[str, ...]:
        """Say where a prompt is cut, if it is too long for either."""
        return self.first.notes(prompt) or self.second.notes(prompt)


STABLE_DIFFUSION_XL = Architecture(
    name="Stable Diffusion XL",
    parts={
        "unet": SIZED_UNET,
        "vae": UPCAST_VAE,
        "text_encoder": CLIP_TEXT,
        "text_encoder_2": CLIP_TEXT_WITH_PROJECTION,
        "tokenizer": CLIP_TOKENIZER,
        "tokenizer_2": CLIP_TOKENIZER,
        "scheduler": SCHEDULER,
    },
    topology={
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
    },
    # As in 1.x, the last up block but one: 640 channels at the resolution of the latents, made by
    # the attention at half of it.
    feature_block=1,
    self_attentions=70,
    # In 1.x the paper controls the decoder's attentions at half the resolution of the latents and
    # at the whole of it. Here nothing attends at the whole, and the decoder's at half are the last
    # six of seventy: three modules of two blocks, again six of 640 channels. The thirty at a
    # quarter decide on the layout that a drag shall change; 1.x leaves them free. Of the three
    # beginnings that MasaCtrl's authors tried on SDXL (44, 54, 64) it is the last.
    first_controlled=64,
    reference_latents=(4, 128, 128),
    working_size=1024,
    kept_by_a_pass=770,
    read_prompts_with=TwoClipPrompts.of,
    window_condition="time_ids",
)

REFINER = UnfitModel(
    "the refiner of Stable Diffusion XL",
    {
        "down_block_types": (
            *("DownBlock2D", "CrossAttnDownBlock2D"),
            *("CrossAttnDownBlock2D", "DownBlock2D"),
        ),
        "addition_embed_type": "text_time",
    },
    "it only finishes what the base model has begun, at low noise: use the base model",
)
