"""Memory that runs out in the middle of a stage, and the distance between two results."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch.nn.modules.module import register_module_forward_pre_hook

from artifacts import ArtifactStore, Record


@contextmanager
def short_of_memory(*, times: int, at_pass: int = 2) -> Iterator[list[tuple[int, bool]]]:
    """Let the UNet run out of memory in pass `at_pass` of the first `times` attempts.

    Yields the passes after the last failure, each as (items, gradient checkpointing).
    """
    state, seen = {"failed": 0, "passes": 0}, []

    def hook(module, inputs):
        if not isinstance(module, UNet2DConditionModel):
            return
        state["passes"] += 1
        if state["failed"] < times and state["passes"] == at_pass:
            state.update(failed=state["failed"] + 1, passes=0)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        checkpointing = any(getattr(m, "gradient_checkpointing", False) for m in module.modules())
        seen.append((len(inputs[0]), checkpointing))

    handle = register_module_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def difference(store: ArtifactStore, one: Record, other: Record) -> float:
    """Return the largest relative difference of the parts of two payloads, norm over norm."""

    def parts(record):
        for name, part in sorted(store.read(record).items()):
            values = [part[key] for key in sorted(part)] if isinstance(part, dict) else [part]
            yield name, np.concatenate([value.astype(float).ravel() for value in values])

    pairs = zip(parts(one), parts(other), strict=True)
    return max(np.linalg.norm(a - b) / (np.linalg.norm(a) or 1.0) for (_, a), (_, b) in pairs)
