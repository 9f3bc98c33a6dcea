"""What edits take of a device's memory, by calculation: see docs/memory.md.

Nothing is loaded: weights are counted by the headers of their files, and what a pass of the UNet
keeps for the way back by the figure of its architecture.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from adaptivedrag.model.parts import read_settings
from stages.planning.models import DiffusionFiles
from stages.planning.resolved import Setting
from stages.stage import Stage

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_OF_A_DRAG = 1.25
"""A step that drags keeps this many times what a training step keeps for one item."""
_WITH_CHECKPOINTS = 0.7
"""With gradient checkpointing, so does the most demanding step; see docs/failures.md."""
_WITHOUT_GRADIENTS = 0.4
"""Where none are taken, so does decoding by the VAE; see docs/memory.md."""
_UNCOUNTED = 2**30
"""Bytes for what no calculation counts: CUDA's context, workspaces of kernels, fragmentation."""

MOST_TOGETHER = 8
"""The most edits of a batch whose size is left to the memory: what one more gains is little then
(docs/batches.md)."""


@dataclass(frozen=True)
class Peak:
    """Bytes that an edit takes at its most demanding step, models included."""

    usual: int
    least: int
    """If stages save memory where it is short: with idle models unloaded, batches of one and
    gradient checkpointing."""


def peak_of(setting: Setting, *, trains: bool) -> Peak:
    """Calculate the peak of an edit.

    Args:
        trains: whether a LoRA is trained.

    Raises:
        ModelUnavailable: if the headers of weights cannot be read.
    """
    held, item = _held(setting), _item(setting)
    items = max(setting.config.train_lora.batch_size if trains else 0, _OF_A_DRAG)
    has_gradients = trains or setting.config.optimize_latent.needs_latents
    share = _WITH_CHECKPOINTS if has_gradients else _WITHOUT_GRADIENTS
    unet = _BYTES[setting.config.dtype] * weights_of(setting.diffusion)["unet"]
    return Peak(round(held + items * item), round(unet + share * item))


def most_together(stage: Stage, setting: Setting, free: int) -> int:
    """Return how many edits fit into a batch of a stage, from 1 to `MOST_TOGETHER`.

    Args:
        free: bytes of the device that are there for models and stage.
    """
    item = _item(setting)
    room = free - _UNCOUNTED - _held(setting) - _WITHOUT_GRADIENTS * item
    return max(1, min(MOST_TOGETHER, math.floor(room / (stage.memory_of_item * item))))


def _held(setting: Setting) -> int:
    """Return the bytes of the weights of all models."""
    size, weights = _BYTES[setting.config.dtype], weights_of(setting.diffusion)
    held = size * sum(weights.values()) + (_vae_size(setting) - size) * weights["vae"]
    if setting.segmenter is not None:
        held += sum(file.stat().st_size for file in setting.segmenter.files)
    return held


def _vae_size(setting: Setting) -> int:
    """Return the bytes of a number of the VAE: in float16, one of XL is wider than the others."""
    settings = read_settings(setting.diffusion.source.settings("vae") / "config.json")
    part = setting.diffusion.architecture.parts["vae"]
    return _BYTES[part.widened(settings, setting.config.dtype)]


@cache
def weights_of(files: DiffusionFiles) -> Mapping[str, int]:
    """Count the numbers that are the weights of each part of a model."""
    parts = files.architecture.parts.items()
    found = {name: files.source.part(name, part).tensors for name, part in parts}
    return {
        name: sum(math.prod(form.shape) for form in tensors.forms().values())
        for name, tensors in found.items()
        if tensors
    }


@cache
def _width(files: DiffusionFiles) -> int:
    """Return the channels of the UNet's first level."""
    file = files.source.settings("unet") / "config.json"
    return int(read_settings(file).get("block_out_channels", (320,))[0])


def _item(setting: Setting) -> float:
    """Return the bytes that a pass keeps of one item for the way back; they grow with cells and
    channels.
    """
    cells = _BYTES[setting.config.dtype] * math.prod(setting.frame.latent_size)
    return cells * _width(setting.diffusion) * setting.diffusion.architecture.kept_by_a_pass
