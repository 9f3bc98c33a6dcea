"""Tensors of single files under diffusers' names, by the converters of diffusers.

Importing this module loads no torch.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

from adaptivedrag.errors import ModelUnavailable, UnsupportedModel
from adaptivedrag.model.parts import read_settings
from adaptivedrag.model.stored_tensors import StoredTensors
from adaptivedrag.model.tensors import Form

Weights: TypeAlias = dict[str, Any]
"""Tensors by name."""

Converter: TypeAlias = Callable[[Weights, Mapping[str, Any]], Weights]
"""Renames the tensors of a part; the second argument are its settings."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}
"""Types of torch by those of safetensors that weights may have."""

_REMADE = re.compile(r".*\.(in_proj_weight|in_proj_bias|text_projection)")
"""Tensors that a converter makes others of, instead of renaming them."""


def unet(weights: Weights, settings: Mapping[str, Any]) -> Weights:
    """Convert a UNet."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return convert_ldm_unet_checkpoint(weights, settings)  # type: ignore[no-any-return]


def vae(weights: Weights, settings: Mapping[str, Any]) -> Weights:
    """Convert a VAE."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return convert_ldm_vae_checkpoint(weights, settings)  # type: ignore[no-any-return]


def clip(weights: Weights, _settings: Mapping[str, Any]) -> Weights:
    """Convert OpenAI's CLIP text encoder."""
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint

    return convert_ldm_clip_checkpoint(weights)  # type: ignore[no-any-return]


def open_clip(prefix: str) -> Converter:
    """Return the converter of OpenCLIP's text encoder, whose names begin with a prefix."""

    def convert(weights: Weights, settings: Mapping[str, Any]) -> Weights:
        from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

        # It wants a model for the width alone.
        model = SimpleNamespace(config=SimpleNamespace(**settings))
        return convert_open_clip_checkpoint(model, weights, prefix)  # type: ignore[no-any-return]

    return convert


def as_they_are(weights: Weights, _settings: Mapping[str, Any]) -> Weights:
    """Leave tensors that have diffusers' names already."""
    return weights


@dataclass(frozen=True)
class ConvertedTensors:
    """Tensors of a single file as those of a part; see `adaptivedrag.model.tensors.Tensors`."""

    header: StoredTensors
    name: str
    """The part, and its file, as messages have them."""
    convert: Converter
    settings: Path
    """Folder of the part's settings."""

    def inspect(self) -> None:
        """Do nothing: the header was read when the file was found."""

    def forms(self) -> Mapping[str, Form]:
        """Convert tensors without values, and refuse those that nothing becomes of."""
        import torch

        odd = {name: of.dtype for name, of in self.header.forms.items() if of.dtype not in _DTYPES}
        for name, dtype in odd.items():
            raise ModelUnavailable(
                f"{self.name}: {len(odd)} tensors are of a type that is not supported ({name:.100} "
                f"is {dtype}): use a file in {', '.join(_DTYPES)}"
            )
        empty = {
            name: torch.empty(form.shape, dtype=getattr(torch, _DTYPES[form.dtype]), device="meta")
            for name, form in self.header.forms.items()
        }
        found = self._converted(empty)
        kept = {id(value) for value in found.values()}
        kept |= {id(value._base) for value in found.values() if value._base is not None}
        lost = [name for name, value in empty.items() if id(value) not in kept]
        if lost := [name for name in lost if not _REMADE.fullmatch(name)]:
            raise UnsupportedModel(
                f"{self.name} holds {len(lost)} tensors that it has no use for, such as "
                f"{lost[0]:.100}: use a checkpoint without them"
            )
        types = {getattr(torch, of): name for name, of in _DTYPES.items()}
        return {name: Form(types[value.dtype], tuple(value.shape)) for name, value in found.items()}

    def read(self) -> Weights:
        """Read the tensors and convert them."""
        return self._converted(self.header.tensors())

    def _converted(self, weights: Weights) -> Weights:
        return self.convert(weights, read_settings(self.settings / "config.json"))
