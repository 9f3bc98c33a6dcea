"""Model files as inputs: where they are, and the digests under which they enter keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.architecture import Architecture
from adaptivedrag.model.architectures import architecture_of
from adaptivedrag.model.lora_files import layers_in
from adaptivedrag.model.lora_keys import Layers
from adaptivedrag.model.parts import read_settings
from adaptivedrag.model.source import Source
from adaptivedrag.model.weights import find_model, find_segmenter
from adaptivedrag.presets import POCKET
from adaptivedrag.segmenter.kinds import kind_of, load_segmenter
from artifacts import Digest, StatCache, digest_file, digest_json


class _VaeConfig(BaseModel):
    """The keys that we read of a VAE's config.json, within bounds."""

    latent_channels: Annotated[int, Field(ge=1, le=1024)]
    block_out_channels: Annotated[list[int], Field(min_length=1, max_length=8)]


@dataclass(frozen=True)
class DiffusionFiles:
    """A Stable Diffusion checkpoint."""

    source: Source
    digest: Digest
    channels: int
    """Channels of the latents."""
    factor: int
    """Pixels per latent cell and side."""
    architecture: Architecture


@dataclass(frozen=True)
class SegmenterFiles:
    """A SAM 2 checkpoint: a file, or the pocket segmenter's directory."""

    path: Path
    files: tuple[Path, ...]
    """All that are read."""
    digest: Digest


@cache
def diffusion_files(name: str, vae: str | None = None) -> DiffusionFiles:
    """Find a model by its name, with another VAE if one is named; see `find_model`.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
        UnsupportedModel: if it is of another family, or a setting of it is not implemented; the
            message says what it is or which setting.
    """
    source = find_model(name, vae)
    architecture = architecture_of(source)
    architecture.inspect(source)
    file = source.settings("vae") / "config.json"
    try:
        vae_config = _VaeConfig.model_validate(read_settings(file))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelUnavailable(f"{file}: {key}: {first['msg']}: fetch the model again") from error
    digest = _digest(architecture.files(source))
    if (name, vae) != (POCKET, None):
        config = source.settings("unet") / "config.json"
        _check_once(config, digest, "diffusers", lambda: _check_diffusion(source))
    factor = 2 ** (len(vae_config.block_out_channels) - 1)
    return DiffusionFiles(source, digest, vae_config.latent_channels, factor, architecture)


@cache
def adaptable_layers(name: str, vae: str | None = None) -> Layers:
    """Return the layers of a model that a LoRA may adapt, from the headers of its files.

    Raises:
        ModelUnavailable: if they cannot be read.
    """
    files = diffusion_files(name, vae)
    return {
        folder: layers_in({name: form.shape for name, form in tensors.forms().items()})
        for folder, part in files.architecture.parts.items()
        if folder.startswith(("unet", "text_encoder"))
        and (tensors := files.source.part(folder, part).tensors)
    }


@cache
def segmenter_files(name: str) -> SegmenterFiles:
    """Find a segmenter by "pocket", a checkpoint file, or a hub id.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
    """
    path = find_segmenter(name)
    folder = path.parent if path.is_file() else path
    files = {file.relative_to(folder).as_posix(): file for file in kind_of(path).files(path)}
    return SegmenterFiles(path, tuple(files.values()), _digest(files))


def check_segmenter(found: SegmenterFiles) -> None:
    """Check that a segmenter can be loaded, which loads it once for each state of its files.

    Raises:
        UnsupportedModel: if it is no SAM 2, or its weights do not fit.
    """
    _check_once(found.files[0], found.digest, "sam2", lambda: load_segmenter(found.path))


def _check_once(file: Path, digest: Digest, library: str, check: Callable[[], object]) -> None:
    """Check a model whose files have this digest; that takes torch, so a good one is remembered.

    Args:
        file: one of the model's, beside which that is noted.
        library: the one that knows which tensors a model has.
    """

    def passes(_file: Path) -> bool:
        check()
        return True

    kind = f"a whole model of digest {digest} to {library} {version(library)}"
    StatCache().value(file, kind, passes)


def _check_diffusion(source: Source) -> None:
    from adaptivedrag.model.diffusion import check_model

    check_model(source)


def _digest(files: Mapping[str, Path]) -> Digest:
    seen = StatCache()
    return digest_json(
        "weights", {name: seen.value(path, "file", digest_file) for name, path in files.items()}
    )
