"""Shared fixtures: a real but tiny Stable Diffusion, drawn at random, and an edit with it."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptivedrag.config import EditConfig, Runtime
from adaptivedrag.points import Drag, ImagePoint
from artifacts import ArtifactStore, StatCache
from stages.images import inspect_image
from stages.job import Edit
from stages.workbench import Workbench

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


QUICK = EditConfig().merged(
    {
        "train_lora": {"steps": 2, "batch_size": 1},
        "invert_image": {"num_steps": 8, "inverted_steps": 5},
        "extract_superpixels": {"source": "rgb"},
        "optimize_latent": {"steps": 3, "max_steps": 4, "learning_rate": 0.1},
    }
)


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


@pytest.fixture(scope="session")
def tiny_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model directory; a hundred thousand parameters, milliseconds per pass."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def edit(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Edit:
    """One drag on a 100×128 photograph; a whole edit takes about a second."""
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("images") / "face.png"
    Image.fromarray(np.ascontiguousarray(astronaut()[60:188, 170:270])).save(path)
    return Edit(
        id="face",
        image_path=path,
        image=inspect_image(path, StatCache(path.with_name("cache.sqlite"))),
        prompt="a face",
        drags=(Drag(ImagePoint(40, 50), ImagePoint(66, 40)),),
        tags=(),
        mask_path=None,
        mask_digest=None,
        config=QUICK,
        lora="train",
        model=str(tiny_model_directory),
        segmenter="pocket",
    )


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """An empty store on the local disk."""
    return ArtifactStore.open(tmp_path / "store")


@pytest.fixture
def bench(store: ArtifactStore) -> Workbench:
    """A bench that keeps its results in `store`."""
    return Workbench(store, Runtime(threads=1))


@pytest.fixture
def changed(edit: Edit):
    """Return the edit with other fields; settings are given as `config={...}` overrides."""

    def change(**fields) -> Edit:
        if "config" in fields:
            fields["config"] = edit.config.merged(fields["config"])
        return replace(edit, **fields)

    return change
