"""What a stage can do with less memory, rung by rung, from the cheapest measure to the slowest.

A rung holds all measures of those above it. None changes what is computed, only the order in which
floats may be added (docs/failures.md has measurements and savings).

Not used: tiling the VAE, which changes pixels at the seams; slicing the VAE, which splits a batch
where ours has one image; attention in slices or head by head, which saves nothing where attention
is fused.
"""

import gc
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from adaptivedrag.model.diffusion import DiffusionModel

Measure = Literal["smaller batches", "gradient checkpointing"]

POINTS_AT_ONCE = 64
"""Points of an image whose masks a segmenter decodes together if memory allows."""

# Messages of torch's CPU allocator, cuBLAS and cuDNN; torch.OutOfMemoryError is a type.
_SIGNS = ("you tried to allocate", "_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Rung:
    """One way to save memory; by default nothing is saved."""

    idle_models_away: bool = False
    """Unload models that the stage does not use; VAE and text encoder wait on the CPU."""
    at_once: int | None = None
    """Items of a batch to process at a time; None for all."""
    gradient_checkpointing: bool = False
    """Compute activations of the UNet again for the backward pass."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures in words; none at the top."""
        words = {
            "idle models away": self.idle_models_away,
            f"batches of {self.at_once}": self.at_once is not None,
            "gradient checkpointing": self.gradient_checkpointing,
        }
        return tuple(word for word, taken in words.items() if taken)


TOP = Rung()


def ladder(measures: Sequence[Measure], batch: int = 1) -> tuple[Rung, ...]:
    """Return the rungs of a stage, the top first.

    Args:
        measures: those that the stage knows; any stage can do without idle models.
        batch: items that the stage takes at once; smaller batches halve it down to one.
    """
    rungs = [TOP, Rung(idle_models_away=True)]
    if "smaller batches" in measures:
        while batch > 1:
            batch = (batch + 1) // 2
            rungs.append(replace(rungs[-1], at_once=batch))
    if "gradient checkpointing" in measures:
        rungs.append(replace(rungs[-1], gradient_checkpointing=True))
    return tuple(rungs)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory of the device or of the machine was not enough."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release_memory(error: BaseException) -> None:
    """Free what a failed attempt held: the frames that its traceback names hold its tensors."""
    failed: BaseException | None = error
    while failed is not None:
        traceback.clear_frames(failed.__traceback__)
        failed = failed.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def stepped_down(model: "DiffusionModel", rung: Rung) -> Iterator[None]:
    """Set a model to a rung; restore it on exit."""
    with ExitStack() as stack:
        if rung.idle_models_away:
            stack.enter_context(_idle_parts_away(model))
        if rung.gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
            stack.callback(model.unet.disable_gradient_checkpointing)
        yield


@contextmanager
def _idle_parts_away(model: "DiffusionModel") -> Iterator[None]:
    import torch

    model.idle_device = torch.device("cpu")
    for part in model.idle_parts:
        part.to(model.idle_device)
    try:
        yield
    finally:
        # They come back when they are needed: on leaving there may be no room for them yet.
        model.idle_device = None
