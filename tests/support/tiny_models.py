"""Real but tiny Stable Diffusion models, drawn at random: one of each family."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Settings = dict[str, dict[str, Any]]
"""Settings of the parts of a model, by folder."""

PLAIN: Settings = {
    "unet": {
        "sample_size": 16,
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 2,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    "vae": {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 4,
        "sample_size": 128,
    },
    "text_encoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    "tokenizer": {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77},
    "scheduler": {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}

LINEAR = {"use_linear_projection": True, "attention_head_dim": (1, 2, 2, 2)}

FAMILIES: dict[str, Settings] = {
    "sd1": {},
    "sd2": {"unet": LINEAR},
    "sd2-v": {
        "unet": {**LINEAR, "sample_size": 96},
        "scheduler": {"prediction_type": "v_prediction"},
    },
    "sdxl": {
        "unet": {
            "sample_size": 128,
            "block_out_channels": (8, 16, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (1, 2, 2),
            "use_linear_projection": True,
            "cross_attention_dim": 16 + 32,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 6 * 4 + 24,
        },
        "vae": {"scaling_factor": 0.13025},
        "text_encoder": {"num_hidden_layers": 2},
        "text_encoder_2": {"hidden_size": 32, "num_hidden_layers": 2, "projection_dim": 24},
        # As the real one it pads with another vector than that of the end.
        "tokenizer_2": {"pad_token": ","},
    },
}
"""What each family has in other ways than Stable Diffusion 1.x."""


def write_model(
    directory: Path, family: str = "sd1", *, seed: int = 0, **changes: Mapping[str, Any]
) -> Path:
    """Save a random model with the topology of a family and 8 to 16 channels.

    Args:
        changes: other settings of a part, by its folder: unet={"in_channels": 9}.
    """
    import torch

    def settings(part: str) -> dict[str, Any]:
        plain = PLAIN[part.removesuffix("_2")]
        return plain | FAMILIES[family].get(part, {}) | dict(changes.get(part, {}))

    torch.manual_seed(seed)
    endings = ("", "_2") if "text_encoder_2" in FAMILIES[family] else ("",)
    for ending in endings:
        _save_tokenizer(directory / f"tokenizer{ending}", settings(f"tokenizer{ending}"))
    _save_image_parts(directory, settings("unet"), settings("vae"), settings("scheduler"))
    for ending in endings:
        _save_text_encoder(directory / f"text_encoder{ending}", settings(f"text_encoder{ending}"))
    _save_index(
        directory, "StableDiffusionXLPipeline" if endings[1:] else "StableDiffusionPipeline"
    )
    return directory


@cache
def shared_model(seed: int = 0) -> Path:
    """Return a model that tests of one process share: it is written and checked once."""
    folder = Path(tempfile.mkdtemp(prefix="adaptivedrag-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_model(folder / "model", seed=seed)


def _save_image_parts(
    directory: Path, unet: dict[str, Any], vae: dict[str, Any], scheduler: dict[str, Any]
) -> None:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    UNet2DConditionModel(**unet).save_pretrained(directory / "unet")
    AutoencoderKL(**vae).save_pretrained(directory / "vae")
    DDIMScheduler(**scheduler).save_pretrained(directory / "scheduler")


def _save_text_encoder(folder: Path, settings: dict[str, Any]) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokens = len(WORDS)
    special = {"bos_token_id": tokens - 2, "eos_token_id": tokens - 1, "pad_token_id": tokens - 1}
    kind = CLIPTextModelWithProjection if folder.name.endswith("_2") else CLIPTextModel
    config = CLIPTextConfig(**{"vocab_size": tokens, **special, **settings})
    kind(config).save_pretrained(folder)


LETTERS = "abcdefghijklmnopqrstuvwxyz,."
WORDS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]


def _save_tokenizer(folder: Path, settings: dict[str, Any]) -> None:
    """Write a CLIP tokenizer of single letters."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _save_index(directory: Path, pipeline: str) -> None:
    classes = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    there = {part: named for part, named in classes.items() if (directory / part).is_dir()}
    (directory / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **there}))
