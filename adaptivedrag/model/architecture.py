"""What sets one family of Stable Diffusion apart from the others; everything else is shared.

Importing this module loads no torch: planning reads which files a model has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from adaptivedrag.config import Dtype
from adaptivedrag.errors import AdaptiveDragError, ModelUnavailable
from adaptivedrag.model.parts import Part
from adaptivedrag.model.source import PartFiles, Source

if TYPE_CHECKING:
    import torch

    from adaptivedrag.model.conditioning import Conditioning

# What diffusers takes where a configuration of a UNet leaves a key out, as older ones do.
_TOPOLOGY_DEFAULTS = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "transformer_layers_per_block": 1,
    "use_linear_projection": False,
    "addition_embed_type": None,
    "time_cond_proj_dim": None,
    "sample_size": None,
}


@runtime_checkable
class PromptEncoder(Protocol):
    """The text encoders of a model with their tokenizers."""

    @property
    def modules(self) -> tuple["torch.nn.Module", ...]:
        """The text encoders."""
        ...

    def encode(self, prompt: str, device: "torch.device") -> "Conditioning":
        """Condition the UNet on a prompt; the text encoders are on `device`."""
        ...

    def notes(self, prompt: str) -> tuple[str, ...]:
        """Say where a prompt is cut, if it is too long for a text encoder."""
        ...


@dataclass(frozen=True, eq=False)
class Architecture:
    """One family of Stable Diffusion; each is one object, and equal to no other."""

    name: str
    parts: Mapping[str, Part]
    """Parts by folder; "unet", "vae" and "scheduler" are among them."""
    topology: Mapping[str, Any]
    """Entries of the UNet's config.json by which the family is recognized."""
    feature_block: int
    """The feature map is the output of this up block, at the resolution of the latents."""
    self_attentions: int
    """Number of the UNet's self-attentions, one in each transformer block."""
    first_controlled: int
    """Self-attention at which reference control begins, in call order, if settings name none."""
    reference_latents: tuple[int, int, int]
    """Channels, rows and columns of the latents that settings are given for."""
    working_size: int
    """The UNet sees at most the square of this many pixels, if settings say nothing else."""
    kept_by_a_pass: float
    """Numbers that a pass of training keeps, for each cell of the latents and each channel of the
    UNet's first level; by tests/benchmarks/memory.py, with a share of all that a step holds."""
    read_prompts_with: Callable[[Mapping[str, Any]], PromptEncoder]
    """Makes the prompt encoder of the loaded parts.

    Raises ValueError for parts that do not fit each other.
    """
    window_condition: str | None = None
    """Added condition by which the UNet knows the size of a picture and which part of it it sees;
    None if it has none."""

    def files(self, source: Source) -> dict[str, Path]:
        """Return the files that loading a model reads, and no others, by what they are for.

        Raises:
            ModelUnavailable: if the index of sharded weights cannot be read.
        """
        found = [source.part(name, part).files for name, part in self.parts.items()]
        return {name: path for files in found for name, path in files.items()}

    def load(self, source: Source, dtype: Dtype) -> dict[str, Any]:
        """Load the parts of a model, by folder.

        Raises:
            ModelUnavailable: if a part is missing or unreadable, or lacks a single tensor.
            UnsupportedModel: if a setting is not implemented.
        """
        return self._each(source, lambda part, found: part.load(found.folder, dtype, found.tensors))

    def inspect(self, source: Source) -> None:
        """Check what can be checked of a model without torch; see `Part.inspect`.

        Raises:
            ModelUnavailable, UnsupportedModel: as `load`.
        """
        self._each(source, lambda part, found: part.inspect(found.folder, found.tensors))

    def checked(self, source: Source) -> dict[str, Any]:
        """Return the parts of a model as `load`, without values: no weights are read.

        Raises:
            ModelUnavailable, UnsupportedModel: as `load`.
        """
        return self._each(source, lambda part, found: part.checked(found.folder, found.tensors))

    def _each(self, source: Source, make: Callable[[Part, PartFiles], Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, part in self.parts.items():
            try:
                made[name] = make(part, source.part(name, part))
            except AdaptiveDragError:
                raise
            # The builders raise errors of any type on files that they did not write.
            except Exception as error:
                reason = " ".join((str(error) or type(error).__name__).split())
                raise ModelUnavailable(
                    f"{source.path}: {name} cannot be made of its settings: {reason:.300}"
                ) from error
        return made

    def differences(self, unet_config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a UNet's configuration that differ from this family's."""
        return _differences(self.topology, unet_config)


@dataclass(frozen=True)
class UnfitModel:
    """A model that has been met and that no drag can use."""

    name: str
    topology: Mapping[str, Any]
    """Entries of the UNet's config.json by which it is recognized."""
    remedy: str
    """What to do instead."""

    def is_that_of(self, unet_config: Mapping[str, Any]) -> bool:
        """Tell whether a UNet has the configuration of this model's."""
        return not _differences(self.topology, unet_config)


def _differences(topology: Mapping[str, Any], unet_config: Mapping[str, Any]) -> dict[str, Any]:
    found = {**_TOPOLOGY_DEFAULTS, **unet_config}
    return {
        key: found.get(key)
        for key, expected in topology.items()
        if _comparable(found.get(key)) != _comparable(expected)
    }


def _comparable(value: Any) -> Any:
    """Make tuples of lists: JSON knows no tuples."""
    return tuple(map(_comparable, value)) if isinstance(value, list | tuple) else value
