"""Measures of an edit: against the true result of a rendered drag, and those of the literature.

    truth            recovery and preservation against the true result
    true_end         where the dragged content ended: the rendered scene nearest to the picture
    controls         pictures that no method made: erased, flat, blurred
    mean_distance    MD, m-MD and DAI: the handle found again by its features
    dift             the features that MD compares (DIFT)
    fidelity         IF = 1 − LPIPS, and CLIP similarity
    bootstrap        means with intervals; whole images are resampled

Images are uint8, height × width × 3; masks are bool, height × width. A value that is undefined is
None, never 0. Importing this package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptivedrag.metrics.bootstrap import Interval, mean_interval, paired_difference
    from adaptivedrag.metrics.controls import blurred, erased, flattened, render_without
    from adaptivedrag.metrics.dift import (
        DRAGBENCH_PROTOCOL,
        POCKET_PROTOCOL,
        DiftProtocol,
        dift_features,
    )
    from adaptivedrag.metrics.fidelity import ClipImages, ImageFidelity
    from adaptivedrag.metrics.mean_distance import (
        distances,
        drag_accuracy_index,
        find_handles,
        legacy_drag_accuracy_index,
    )
    from adaptivedrag.metrics.true_end import TrueEnd, find_true_end
    from adaptivedrag.metrics.truth import Recovery, TrueResult, preservation, recovery

_HOMES = {
    "bootstrap": ("Interval", "mean_interval", "paired_difference"),
    "controls": ("blurred", "erased", "flattened", "render_without"),
    "dift": ("DRAGBENCH_PROTOCOL", "POCKET_PROTOCOL", "DiftProtocol", "dift_features"),
    "fidelity": ("ClipImages", "ImageFidelity"),
    "mean_distance": (
        "distances",
        "drag_accuracy_index",
        "find_handles",
        "legacy_drag_accuracy_index",
    ),
    "true_end": ("TrueEnd", "find_true_end"),
    "truth": ("Recovery", "TrueResult", "preservation", "recovery"),
}

__all__ = [
    "DRAGBENCH_PROTOCOL",
    "POCKET_PROTOCOL",
    "ClipImages",
    "DiftProtocol",
    "ImageFidelity",
    "Interval",
    "Recovery",
    "TrueEnd",
    "TrueResult",
    "blurred",
    "dift_features",
    "distances",
    "drag_accuracy_index",
    "erased",
    "find_handles",
    "find_true_end",
    "flattened",
    "legacy_drag_accuracy_index",
    "mean_interval",
    "paired_difference",
    "preservation",
    "recovery",
    "render_without",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
