"""The folders of a checkpoint in diffusers' layout: how each is loaded, and from which files.

A module is built from its configuration without values, and takes exactly the tensors that belong
to it: nothing is ever initialized at random.

Importing this module loads no torch: the files are named before a model is loaded.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivedrag.config import Dtype
from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model import known_settings
from adaptivedrag.model.clip_vocabulary import is_packed, packed_tokenizer
from adaptivedrag.model.known_settings import KnownSettings, check_settings
from adaptivedrag.model.tensors import ALIKE, FolderTensors, Naming, Tensors, check_tensors, damage
from adaptivedrag.model.weight_names import TRANSFORMERS, chosen_among

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer


@dataclass(frozen=True)
class Part:
    """One folder of a checkpoint."""

    build: Callable[[Path], Any]
    """Makes the part of the settings in its folder; may raise anything.

    A module has no values yet: its parameters are on the meta device.
    """
    settings: tuple[str, ...]
    """Files that are read if they exist; the first one is the configuration."""
    known: Mapping[str, KnownSettings] = field(default_factory=dict)
    """What the configuration may say, by the class that it is for; anything, if this is empty."""
    weights: str | None = None
    """Name of the safetensors file without its ending, whole or in shards."""
    naming: Naming = ALIKE
    widened: Callable[[Mapping[str, Any], Dtype], Dtype] = lambda _settings, dtype: dtype
    """Returns the type that its weights get where one is asked for, by its configuration."""
    enough: tuple[frozenset[str], ...] = ()
    """Settings without which nothing is loaded: those of one of these sets; all by default."""

    def choose(self, names: Collection[str]) -> set[str]:
        """Choose the files to fetch among the names of those that a folder of this part has.

        Raises:
            ValueError: if it lacks some; names one.
        """
        if lacking := self._lacking(names):
            raise ValueError(f"no {lacking}")
        weights = chosen_among(self.weights, names) if self.weights else set()
        return ({*self.settings} & {*names}) | weights

    def tensors(self, folder: Path) -> Tensors | None:
        """Return the weights that a folder of this part holds; None for a part without any."""
        return None if self.weights is None else FolderTensors(folder, self.weights)

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Return the files that `load` reads, sorted.

        Raises:
            ModelUnavailable: if the index of sharded weights cannot be read.
        """
        weights = FolderTensors(folder, self.weights).files if self.weights is not None else ()
        return tuple(sorted((*self.settings_in(folder), *filter(Path.is_file, weights))))

    def settings_in(self, folder: Path) -> tuple[Path, ...]:
        """Return the files with settings that a folder has."""
        return tuple(filter(Path.is_file, (folder / name for name in self.settings)))

    def _lacking(self, names: Collection[str]) -> str | None:
        """Return a file with settings that has to be among names and is not."""
        enough = self.enough or (frozenset(self.settings),)
        lacking = None if any(needed <= {*names} for needed in enough) else enough[0] - {*names}
        return min(lacking) if lacking else None

    def inspect(self, folder: Path, tensors: Tensors | None) -> None:
        """Check what can be checked without torch: settings, and that weights can be read.

        Raises:
            ModelUnavailable: if a file is missing, cut short, or no such file.
            UnsupportedModel: if a setting is not implemented.
        """
        lacking = self._lacking([file.name for file in self.settings_in(folder)])
        if lacking and not is_packed(folder):
            raise ModelUnavailable(f"{folder / lacking} is missing: fetch the model again")
        if self.known:
            file = folder / self.settings[0]
            check_settings(read_settings(file), self.known, file)
        if tensors is not None:
            tensors.inspect()

    def checked(self, folder: Path, tensors: Tensors | None) -> Any:
        """Build the part without values, and check that its tensors are the ones it needs.

        Raises:
            ModelUnavailable: if a tensor is missing, too many, or of another shape or type.
            UnsupportedModel: if a setting is not implemented.
        """
        self.inspect(folder, tensors)
        built = self.build(folder)
        if tensors is not None:
            check_tensors(built, tensors.forms(), self.naming, tensors.name)
        return built

    def load(self, folder: Path, dtype: Dtype, tensors: Tensors | None) -> Any:
        """Build the part and fill it with its tensors, in a floating-point type.

        Raises:
            ModelUnavailable, UnsupportedModel: see `checked`.
        """
        built = self.checked(folder, tensors)
        if tensors is not None:
            import torch

            values = tensors.read()
            names = self.naming.of(values)
            own = getattr(torch, self.widened(built.config, dtype))
            filling = {to: values[name].to(own) for name, to in names.items()}
            built.load_state_dict(filling, assign=True)
        return built


def _build_unet(folder: Path) -> "torch.nn.Module":
    from accelerate import init_empty_weights
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with init_empty_weights():
        return UNet2DConditionModel.from_config(read_settings(folder / "config.json"))


def _build_vae(folder: Path) -> "torch.nn.Module":
    from accelerate import init_empty_weights
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with init_empty_weights():
        return AutoencoderKL.from_config(read_settings(folder / "config.json"))


def _build_clip_text(folder: Path) -> "torch.nn.Module":
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
    with init_empty_weights():
        return CLIPTextModel(config)


def _build_clip_text_with_projection(folder: Path) -> "torch.nn.Module":
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
    with init_empty_weights():
        return CLIPTextModelWithProjection(config)


def _build_clip_tokenizer(folder: Path) -> "CLIPTokenizer":
    from transformers import CLIPTokenizer

    if is_packed(folder):
        return packed_tokenizer(read_settings(folder / "tokenizer_config.json"))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def read_settings(file: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        ModelUnavailable: if it is missing, or holds no settings.
    """
    try:
        settings = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{file} is missing: fetch the model again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{file} {damage(file)}") from error
    if not isinstance(settings, dict):
        raise ModelUnavailable(f"{file} holds no settings: fetch the model again")
    return settings


def _float16_is_narrow(settings: Mapping[str, Any], dtype: Dtype) -> Dtype:
    """Return float32 in place of float16 where a VAE's configuration asks for that."""
    return "float32" if dtype == "float16" and settings.get("force_upcast", True) else dtype


CONFIG = ("config.json",)

UNET = Part(
    _build_unet,
    CONFIG,
    {"UNet2DConditionModel": known_settings.UNET},
    "diffusion_pytorch_model",
)
VAE = Part(
    _build_vae,
    CONFIG,
    {"AutoencoderKL": known_settings.VAE},
    "diffusion_pytorch_model",
    Naming(
        older=tuple(
            (rf"(\.attentions\.\d+)\.{older}\.", rf"\1.{newer}.")
            for older, newer in {
                "query": "to_q",
                "key": "to_k",
                "value": "to_v",
                "proj_attn": "to_out.0",
            }.items()
        )
    ),
)
SIZED_UNET = replace(UNET, known={"UNet2DConditionModel": known_settings.SIZED_UNET})
"""A UNet that is also told sizes of pictures, and what a text encoder pools."""
UPCAST_VAE = replace(
    VAE, known={"AutoencoderKL": known_settings.UPCAST_VAE}, widened=_float16_is_narrow
)
"""A VAE whose values do not fit into float16, unless its configuration says that they do."""
CLIP_TEXT = Part(
    _build_clip_text,
    CONFIG,
    {"CLIPTextModel": known_settings.CLIP_TEXT},
    TRANSFORMERS,
    Naming(
        older=((r"^text_model\.", ""),),
        aside={r"(text_model\.)?embeddings\.position_ids": "a list of numbers from 0 upward"},
    ),
)
CLIP_TEXT_WITH_PROJECTION = replace(
    CLIP_TEXT,
    build=_build_clip_text_with_projection,
    known={"CLIPTextModelWithProjection": known_settings.CLIP_TEXT},
    naming=Naming(aside=CLIP_TEXT.naming.aside),
)
CLIP_TOKENIZER = Part(
    _build_clip_tokenizer,
    (
        "added_tokens.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ),
    enough=(
        frozenset({"tokenizer_config.json", "vocab.json", "merges.txt"}),
        frozenset({"tokenizer_config.json", "tokenizer.json"}),
    ),
)
SCHEDULER = Part(
    lambda folder: read_settings(folder / "scheduler_config.json"),
    ("scheduler_config.json",),
    known_settings.SCHEDULERS,
)
