"""Stable Diffusion 1.x: four levels, sixteen transformer blocks, one CLIP text encoder.

The pocket model is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from adaptivedrag.model.architecture import Architecture
from adaptivedrag.model.parts import CLIP_TEXT, CLIP_TOKENIZER, SCHEDULER, UNET, VAE
from adaptivedrag.model.prompts import cut_note
from adaptivedrag.section import REFERENCE

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer

    from adaptivedrag.model.conditioning import Conditioning


@dataclass(frozen=True)
class ClipPrompts:
    """One CLIP text encoder, whose last hidden states the UNet attends to."""

    text_encoder: "torch.nn.Module"
    tokenizer: "CLIPTokenizer"

    @classmethod
    def of(cls, parts: Mapping[str, Any], ending: str = "") -> Self:
        """Take text encoder and tokenizer out of the loaded parts.

        Args:
            ending: of their folders' names.

        Raises:
            ValueError: if the tokenizer pads prompts beyond what the text encoder takes, or knows
                more tokens, or reads all prompts alike.
        """
        text_encoder, tokenizer = parts[f"text_encoder{ending}"], parts[f"tokenizer{ending}"]
        length, places = tokenizer.model_max_length, text_encoder.config.max_position_embeddings
        if type(length) not in (int, float) or not 0 < length <= places:
            raise ValueError(
                f"tokenizer{ending}: model_max_length is {length!r:.40}, and the text encoder "
                f"takes {places} tokens: correct tokenizer_config.json"
            )
        if len(tokenizer) > text_encoder.config.vocab_size:
            raise ValueError(
                f"tokenizer{ending} knows {len(tokenizer)} tokens, and the text encoder "
                f"{text_encoder.config.vocab_size}: take both from one model"
            )
        found = cls(text_encoder, tokenizer)
        if found.tokens("a").equal(found.tokens("b")):
            raise ValueError(f"tokenizer{ending} reads all prompts alike: fetch it again")
        return found

    @property
    def modules(self) -> tuple["torch.nn.Module", ...]:
        """The text encoder."""
        return (self.text_encoder,)

    def tokens(self, prompt: str) -> "torch.Tensor":
        """Return the tokens of a prompt, padded or truncated to the text encoder's length."""
        found: torch.Tensor = self.tokenizer(
            prompt,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return found

    def encode(self, prompt: str, device: "torch.device") -> "Conditioning":
        """Embed a prompt."""
        from adaptivedrag.model.conditioning import Conditioning

        return Conditioning(self.text_encoder(self.tokens(prompt).to(device))[0])

    def notes(self, prompt: str) -> tuple[str, ...]:
        """Say where a prompt is cut, if it is too long."""
        note = cut_note(self.tokenizer, prompt)
        return (note,) if note else ()


STABLE_DIFFUSION_1 = Architecture(
    name="Stable Diffusion 1.x",
    parts={
        "unet": UNET,
        "vae": VAE,
        "text_encoder": CLIP_TEXT,
        "tokenizer": CLIP_TOKENIZER,
        "scheduler": SCHEDULER,
    },
    topology={
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 2,
        "transformer_layers_per_block": 1,
        "use_linear_projection": False,
    },
    feature_block=2,  # DragDiffusion's layer 3
    self_attentions=16,
    first_controlled=10,  # the paper's choice: the six of the last two up blocks
    reference_latents=REFERENCE,
    working_size=768,
    kept_by_a_pass=428,
    read_prompts_with=ClipPrompts.of,
)
