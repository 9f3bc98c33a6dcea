"""AdaptiveDrag (Chen et al., 2024): mask-free drag editing on Stable Diffusion.

Where the paper's sections are:

    Sec. 3.1  diffusion, inversion        model, inversion
    Sec. 3.3  auto mask generation        segmenter, superpixels, masks
    Sec. 3.4  semantic-driven             latent_optimization, handle_motion,
              optimization                motion_supervision, point_tracking, backtracking,
                                          semantic_region
    Sec. 3.5  correspondence sample       sampling, reference_control, correspondence
    Sec. 4.1  implementation details      config, presets, model.lora

Tensors in, tensors out: nothing here writes a file or knows of a workflow. `edit` does one edit in
memory. Importing this package loads no torch.
"""

from typing import TYPE_CHECKING, Any

from adaptivedrag.config import EditConfig, Runtime
from adaptivedrag.errors import (
    AdaptiveDragError,
    InvalidEdit,
    ModelUnavailable,
    NotFinite,
    UnsupportedModel,
)
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.presets import PRESETS, preset

if TYPE_CHECKING:
    from adaptivedrag.editing import EditResult, edit

__all__ = [
    "PRESETS",
    "AdaptiveDragError",
    "Drag",
    "EditConfig",
    "EditResult",
    "ImagePoint",
    "InvalidEdit",
    "ModelUnavailable",
    "NotFinite",
    "Runtime",
    "UnsupportedModel",
    "edit",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name in ("edit", "EditResult"):
        from adaptivedrag import editing

        return getattr(editing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
