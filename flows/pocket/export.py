"""Weights of training runs to directories that ship, fp16 beside configurations, and back."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from adaptivedrag.pocket_training.diffusion import DiffusionTraining, build_scheduler
from adaptivedrag.pocket_training.linear_code import LatentCode
from adaptivedrag.pocket_training.segmenter import SegmenterTraining, architecture
from adaptivedrag.pocket_training.settings import VaeSettings
from adaptivedrag.pocket_training.vae import VaeTraining

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_CODE = "linear_code.safetensors"
_READABLE = 0o644  # libraries write weights for their owner only


def export_diffusion(vae: VaeTraining, diffusion: DiffusionTraining, directory: Path) -> None:
    """Write a StableDiffusionPipeline directory of the averaged weights, replacing another."""
    averaged = cast(nn.ModuleDict, diffusion.averaged_model())
    coder: Any = vae.averaged_model()
    coder.register_to_config(scaling_factor=vae.code.scaling)
    pipeline: Any = StableDiffusionPipeline(
        vae=coder,
        text_encoder=averaged["text_encoder"],
        tokenizer=diffusion.tokenizer,
        unet=averaged["unet"],
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    fresh = _fresh_folder(directory)
    pipeline.to(torch.float16).save_pretrained(fresh, safe_serialization=True)
    _replace(fresh, directory)
    save_file(vae.code.tensors(), directory.parent / _CODE)
    (directory.parent / _CODE).chmod(_READABLE)


def read_code(directory: Path, settings: VaeSettings) -> LatentCode:
    """Read the linear code that exported weights were trained on; it lies beside them."""
    tensors = load_file(directory / _CODE)
    return LatentCode.from_tensors(tensors, settings.whitening, settings.picture)


def export_segmenter(segmenter: SegmenterTraining, directory: Path) -> None:
    """Write the averaged pocket segmenter, replacing another."""
    fresh = _fresh_folder(directory)
    shape = architecture(segmenter.settings).model_dump(mode="json")
    (fresh / "config.json").write_text(json.dumps(shape, indent=2) + "\n", "utf-8")
    weights = segmenter.averaged_model().state_dict()
    half = {name: value.half().contiguous() for name, value in weights.items()}
    save_file(half, fresh / "model.safetensors", metadata={"format": "pt"})
    _replace(fresh, directory)


def start_vae(training: VaeTraining, directory: Path) -> None:
    """Start from the VAE of an exported diffusion directory."""
    training.start_from(load_file(directory / "vae" / _WEIGHTS))


def start_diffusion(training: DiffusionTraining, directory: Path) -> None:
    """Start from an exported UNet and text encoder; new words keep their random start."""
    weights = {f"unet.{n}": v for n, v in load_file(directory / "unet" / _WEIGHTS).items()}
    text = load_file(directory / "text_encoder" / "model.safetensors")
    known = CLIPTokenizer.from_pretrained(directory / "tokenizer").get_vocab()
    parts = cast(nn.ModuleDict, training.model)
    embedding = cast(Any, parts["text_encoder"]).get_input_embeddings()
    for name, value in text.items():
        if value.shape[0] == len(known) and name.endswith("token_embedding.weight"):
            value = _embeddings_by_word(value, known, training.tokenizer, embedding.weight)
        weights[f"text_encoder.{name}"] = value
    training.start_from(weights)


def start_segmenter(training: SegmenterTraining, directory: Path) -> None:
    """Start from an exported segmenter."""
    training.start_from(load_file(directory / "model.safetensors"))


@torch.no_grad()
def _embeddings_by_word(
    values: Tensor, known: dict[str, int], tokenizer: CLIPTokenizer, fresh: Tensor
) -> Tensor:
    """Reorder the rows of ``values`` from the vocabulary ``known`` to that of ``tokenizer``."""
    moved = fresh.detach().clone()
    for word, row in tokenizer.get_vocab().items():
        if word in known:
            moved[row] = values[known[word]]
    return moved


def _fresh_folder(directory: Path) -> Path:
    fresh = directory.with_name(directory.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def _replace(fresh: Path, directory: Path) -> None:
    for file in fresh.rglob("*.safetensors"):
        file.chmod(_READABLE)
    if directory.exists():
        shutil.rmtree(directory)
    fresh.rename(directory)
