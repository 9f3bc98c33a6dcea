"""Model files as inputs: where they are, and the digests under which they enter keys."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.weights import PARTS, find_diffusion, find_segmenter
from artifacts import Digest, StatCache, digest_file, digest_json

_LOADED = (".json", ".txt", ".safetensors")


class _VaeConfig(BaseModel):
    """The keys that we read of a VAE's config.json, within bounds."""

    latent_channels: Annotated[int, Field(ge=1, le=1024)]
    block_out_channels: Annotated[list[int], Field(min_length=1, max_length=8)]


@dataclass(frozen=True)
class DiffusionFiles:
    """A Stable Diffusion checkpoint in diffusers' directory layout."""

    directory: Path
    digest: Digest
    channels: int
    """Channels of the latents."""
    factor: int
    """Pixels per latent cell and side."""


@dataclass(frozen=True)
class SegmenterFiles:
    """A SAM 2 checkpoint: a file, or the pocket segmenter's directory."""

    path: Path
    digest: Digest


@cache
def diffusion_files(name: str) -> DiffusionFiles:
    """Find a model by "pocket", a directory, or a hub id.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
    """
    directory = find_diffusion(name)
    try:
        text = (directory / "vae" / "config.json").read_bytes()
        vae = _VaeConfig.model_validate_json(text)
        channels, levels = vae.latent_channels, len(vae.block_out_channels)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelUnavailable(
            f"model {name!r}: vae/config.json cannot be read: {reason:.300}"
        ) from error
    paths = [path for part in PARTS for path in _loaded_files(directory / part)]
    return DiffusionFiles(directory, _digest(directory, paths), channels, 2 ** (levels - 1))


@cache
def segmenter_files(name: str) -> SegmenterFiles:
    """Find a segmenter by "pocket", a checkpoint file, or a hub id.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
    """
    path = find_segmenter(name)
    if path.is_file():
        return SegmenterFiles(path, _digest(path.parent, [path]))
    return SegmenterFiles(path, _digest(path, _loaded_files(path)))


def _loaded_files(folder: Path) -> list[Path]:
    """Return the files that loaders may read; a system or an editor leaves others beside them."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _LOADED and not path.name.startswith(".") and path.is_file()
    )


def _digest(folder: Path, paths: list[Path]) -> Digest:
    seen = StatCache()
    return digest_json(
        "weights",
        {
            path.relative_to(folder).as_posix(): seen.value(path, "file", digest_file)
            for path in paths
        },
    )
