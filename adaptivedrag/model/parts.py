"""The folders of a checkpoint in diffusers' layout: how each is loaded, and from which files.

Importing this module loads no torch: the files are named before a model is loaded.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivedrag.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer

# Without use_safetensors, diffusers would fall back to a pickle.
_WEIGHTS_ONLY = {"local_files_only": True, "use_safetensors": True}


@dataclass(frozen=True)
class Part:
    """One folder of a checkpoint."""

    load: Callable[[Path, "torch.dtype"], Any]
    """Loads the part from its folder, with weights of a floating-point type; may raise anything."""
    settings: tuple[str, ...]
    """Files that are read if they exist."""
    weights: str | None = None
    """Name of the safetensors file without its ending, whole or in shards."""

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Return the files that `load` reads, sorted.

        Raises:
            ModelUnavailable: if the index of sharded weights cannot be read.
        """
        names = {*self.settings}
        if self.weights is not None:
            index = f"{self.weights}.safetensors.index.json"
            names |= {f"{self.weights}.safetensors", index, *_shards(folder / index)}
        return tuple(path for name in sorted(names) if (path := folder / name).is_file())


def _shards(index: Path) -> set[str]:
    """Return the names of the files that an index distributes weights over; none without one."""
    try:
        found = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return {Path(name).name for name in found}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelUnavailable(
            f"{index} does not list the files of the weights: fetch the model again"
        ) from error


def _load_unet(folder: Path, dtype: "torch.dtype") -> "torch.nn.Module":
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=dtype, **_WEIGHTS_ONLY)


def _load_vae(folder: Path, dtype: "torch.dtype") -> "torch.nn.Module":
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder, torch_dtype=dtype, **_WEIGHTS_ONLY)


def _load_clip_text(folder: Path, dtype: "torch.dtype") -> "torch.nn.Module":
    from transformers import CLIPTextModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return CLIPTextModel.from_pretrained(folder, dtype=dtype, **_WEIGHTS_ONLY)


def _load_clip_tokenizer(folder: Path, _dtype: "torch.dtype") -> "CLIPTokenizer":
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _load_scheduler(folder: Path, _dtype: "torch.dtype") -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "scheduler_config.json").read_text("utf-8"))
    return settings


UNET = Part(_load_unet, ("config.json",), "diffusion_pytorch_model")
VAE = Part(_load_vae, ("config.json",), "diffusion_pytorch_model")
CLIP_TEXT = Part(_load_clip_text, ("config.json",), "model")
CLIP_TOKENIZER = Part(
    _load_clip_tokenizer,
    (
        "added_tokens.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ),
)
SCHEDULER = Part(_load_scheduler, ("scheduler_config.json",))
