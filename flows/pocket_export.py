"""From training runs to directories that ship: fp16 safetensors beside their configurations."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import nn

from adaptivedrag.pocket_training.diffusion import DiffusionTraining, build_scheduler
from adaptivedrag.pocket_training.segmenter import SegmenterTraining, architecture
from adaptivedrag.pocket_training.vae import VaeTraining


def export_diffusion(vae: VaeTraining, diffusion: DiffusionTraining, directory: Path) -> None:
    """Writes a StableDiffusionPipeline directory of the averaged weights, replacing another."""
    averaged = cast(nn.ModuleDict, diffusion.averaged_model())
    coder: Any = vae.averaged_model()
    coder.register_to_config(scaling_factor=vae.code.scaling)
    pipeline: Any = StableDiffusionPipeline(  # type: ignore[no-untyped-call]
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


def export_segmenter(segmenter: SegmenterTraining, directory: Path) -> None:
    """Writes the averaged pocket segmenter, replacing another."""
    fresh = _fresh_folder(directory)
    shape = architecture(segmenter.settings).model_dump(mode="json")
    (fresh / "config.json").write_text(json.dumps(shape, indent=2) + "\n", "utf-8")
    weights = segmenter.averaged_model().state_dict()
    half = {name: value.half().contiguous() for name, value in weights.items()}
    save_file(half, fresh / "model.safetensors", metadata={"format": "pt"})
    _replace(fresh, directory)


def _fresh_folder(directory: Path) -> Path:
    fresh = directory.with_name(directory.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def _replace(fresh: Path, directory: Path) -> None:
    for file in fresh.rglob("*.safetensors"):
        file.chmod(0o644)  # libraries write weights for their owner only
    if directory.exists():
        shutil.rmtree(directory)
    fresh.rename(directory)
