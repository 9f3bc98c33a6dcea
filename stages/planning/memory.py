"""What an edit takes of a device's memory at most, by calculation: see docs/memory.md.

Nothing is loaded: weights are counted by the headers of their files, and what a pass of the UNet
keeps for the way back by the figure of its architecture.
"""

import json
import math
from dataclasses import dataclass
from functools import cache

from stages.planning.models import DiffusionFiles
from stages.planning.resolved import Setting

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_OF_A_DRAG = 1.25
"""A step that drags keeps this many times what a training step keeps for one item."""
_WITH_CHECKPOINTS = 0.7
"""With gradient checkpointing, so does the most demanding step; see docs/failures.md."""


@dataclass(frozen=True)
class Peak:
    """Bytes that an edit takes at its most demanding step, models included."""

    usual: int
    least: int
    """If stages save memory where it is short: by small batches and gradient checkpointing."""


def peak_of(setting: Setting, *, trains: bool) -> Peak:
    """Calculate the peak of an edit.

    Args:
        trains: whether a LoRA is trained.

    Raises:
        ModelUnavailable: if the headers of weights cannot be read.
    """
    size = _BYTES[setting.config.dtype]
    held = size * weights_of(setting.diffusion)
    if setting.segmenter is not None:
        held += sum(file.stat().st_size for file in setting.segmenter.files)
    item = size * _kept_by_a_pass(setting)
    items = max(setting.config.train_lora.batch_size if trains else 0, _OF_A_DRAG)
    return Peak(round(held + items * item), round(held + _WITH_CHECKPOINTS * item))


@cache
def weights_of(files: DiffusionFiles) -> int:
    """Count the numbers that are a model's weights."""
    found = (files.source.part(name, part) for name, part in files.architecture.parts.items())
    return sum(
        math.prod(form.shape)
        for part in found
        if part.tensors
        for form in part.tensors.forms().values()
    )


@cache
def _width(files: DiffusionFiles) -> int:
    """Return the channels of the UNet's first level."""
    file = files.source.settings("unet") / "config.json"
    return int(json.loads(file.read_text("utf-8")).get("block_out_channels", (320,))[0])


def _kept_by_a_pass(setting: Setting) -> float:
    """Count the numbers that a pass keeps for one item; they grow with cells and channels."""
    cells = math.prod(setting.frame.latent_size)
    return cells * _width(setting.diffusion) * setting.diffusion.architecture.kept_by_a_pass
