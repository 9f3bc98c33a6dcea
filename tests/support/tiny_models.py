"""Real but tiny Stable Diffusion models, drawn at random: one of each family."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Saved = dict[str, Any]
"""Parts of a model that can be saved, by folder."""


def write_model(
    directory: Path, family: str = "sd1", *, seed: int = 0, **changes: Mapping[str, Any]
) -> Path:
    """Save a random model with the topology of a family and 8 to 16 channels.

    Args:
        changes: other settings of a part, by its folder: unet={"in_channels": 9}.
    """
    import torch

    torch.manual_seed(seed)
    pipeline, make = FAMILIES[family]
    tokens = _save_tokenizer(directory / "tokenizer")
    parts = make(tokens, lambda part, **settings: settings | dict(changes.get(part, {})))
    for part, made in parts.items():
        made.save_pretrained(directory / part)
    named = {part: [type(made).__module__.split(".")[0], type(made).__name__]
             for part, made in parts.items()}  # fmt: skip
    index = {"_class_name": pipeline, **named, "tokenizer": ["transformers", "CLIPTokenizer"]}
    (directory / "model_index.json").write_text(json.dumps(index))
    return directory


def _stable_diffusion_1(tokens: int, of: Callable[..., dict[str, Any]]) -> Saved:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet = of(
        "unet",
        sample_size=16,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=2,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = of(
        "vae",
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=128,
    )
    text_encoder = of(
        "text_encoder",
        vocab_size=tokens,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
    )
    scheduler = of(
        "scheduler",
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return {
        "unet": UNet2DConditionModel(**unet),
        "vae": AutoencoderKL(**vae),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text_encoder)),
        "scheduler": DDIMScheduler(**scheduler),
    }


FAMILIES: dict[str, tuple[str, Callable[[int, Callable[..., dict[str, Any]]], Saved]]] = {
    "sd1": ("StableDiffusionPipeline", _stable_diffusion_1),
}
"""Class of the pipeline, and what makes its parts but for the tokenizer."""


def _save_tokenizer(directory: Path) -> int:
    """Write a CLIP tokenizer of single letters; return the size of its vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz,."
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    directory.mkdir(parents=True)
    (directory / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
    return len(words)
