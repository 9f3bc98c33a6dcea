"""A real but tiny Stable Diffusion, drawn at random, and jobs that use it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SETTINGS = """
model = {model}
segmenter = {segmenter}

[train_lora]
steps = 2
batch_size = 1

[invert_image]
num_steps = 4
inverted_steps = 3

[extract_superpixels]
source = "rgb"

[optimize_latent]
steps = 3
max_steps = 4
"""

DIVERGING = {"optimize_latent": {"learning_rate": 1e30}}
"""Settings that make latents stop being finite."""


def build_tiny_model(directory: Path, *, seed: int = 0, channels: int = 4) -> Path:
    """Save a random Stable Diffusion with SD 1.x's topology and 8 to 16 channels."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=2,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    ).save_pretrained(directory / "unet")
    AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=128,
    ).save_pretrained(directory / "vae")
    tokens = _save_tokenizer(directory / "tokenizer")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
            pad_token_id=tokens - 1,
        )
    ).save_pretrained(directory / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(directory / "scheduler")
    (directory / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "StableDiffusionPipeline",
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "scheduler": ["diffusers", "DDIMScheduler"],
            }
        )
    )
    return directory


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


def write_job(folder: Path, model: Path, images: int = 1, each: int = 1, **settings: dict) -> Path:
    """Write a job of `images` pictures with `each` edits; settings are by edit id."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.pt").write_bytes(b"never loaded: superpixels are made of colors here")
    draw = np.random.default_rng(0)
    lines = []
    for picture in range(images):
        cells = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((128, 128)).save(folder / f"{picture}.png")
        for number in range(each):
            edit_id = f"edit-{picture}-{number}"
            drag = {"handle": [40 + number, 40], "target": [60, 64]}
            edit = {"id": edit_id, "image": f"{picture}.png", "prompt": "a", "drags": [drag]}
            lines.append(json.dumps(edit | {"settings": settings.get(edit_id, {})}))
    (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
    text = SETTINGS.format(model=json.dumps(str(model)), segmenter='"weights.pt"')
    (folder / "job.toml").write_text(text)
    return folder / "job.toml"
