"""Where the files of a model are: embedded, at a path, or on the hub. Nothing is loaded here."""

import re
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.architectures import ARCHITECTURES
from adaptivedrag.presets import POCKET

_FOLDERS = sorted({part for known in ARCHITECTURES for part in known.parts})

PARTS = tuple(
    part for part in ARCHITECTURES[0].parts if all(part in known.parts for known in ARCHITECTURES)
)
"""Folders that every Stable Diffusion has in diffusers' layout."""

_PATTERNS = ("*.json", "*.txt", "*.safetensors")
_VARIANTS = ("*fp16*", "*non_ema*", "*flax*")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def find_diffusion(name: str) -> Path:
    """Return the directory of a Stable Diffusion: "pocket", a directory, or a hub id.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
    """
    path = Path(name).expanduser()
    if name == POCKET:
        directory = _embedded("diffusion")
    elif path.is_dir():
        directory = path.resolve()
    else:
        directory = _from_hub("model", name, _download_diffusion)
    missing = [part for part in PARTS if not (directory / part).is_dir()]
    if missing:
        raise ModelUnavailable(
            f"model {name!r}: {directory} has no {', '.join(missing)}: "
            "it is not a diffusers Stable Diffusion directory"
        )
    return directory


def find_segmenter(name: str) -> Path:
    """Return the path of a segmenter: "pocket" (a directory), a path, or a hub id of SAM 2.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
    """
    path = _embedded("segmenter") if name == POCKET else Path(name).expanduser()
    if path.exists():
        return path.resolve()
    return _from_hub("segmenter", name, _download_segmenter)


def _embedded(part: str) -> Path:
    return Path(str(files("adaptivedrag"))) / "pocket" / part


def _from_hub(kind: str, name: str, download: Callable[[str], Path]) -> Path:
    """Return the path of the hub's files on this machine; fetch them if they are missing."""
    if not _HUB_ID.fullmatch(name):
        raise ModelUnavailable(
            f"{kind} {name!r} is neither a path that exists nor a hub id like owner/name: "
            f'check the path, or use {kind} = "{POCKET}"'
        )
    try:
        return download(name)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{kind} {name!r} is no path here and could not be had from the Hugging Face hub "
            f"({type(error).__name__}): check the id and the network, or fetch it with "
            f"`hf download {name}` and name where it lies"
        ) from error


def _download_diffusion(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = [f"{part}/{pattern}" for part in _FOLDERS for pattern in _PATTERNS]
    # Local files are used as they are: a branch that moved on must not change every key.
    with suppress(LocalEntryNotFoundError):
        found = Path(snapshot_download(name, local_files_only=True))
        if all((found / part).is_dir() for part in PARTS):
            return found
    return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=list(_VARIANTS)))


def _download_segmenter(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    # The official repositories are named after their checkpoint: sam2.1-hiera-base-plus holds
    # sam2.1_hiera_base_plus.pt.
    checkpoint = name.partition("/")[2].replace("-", "_") + ".pt"
    with suppress(LocalEntryNotFoundError):
        return Path(hf_hub_download(name, checkpoint, local_files_only=True))
    return Path(hf_hub_download(name, checkpoint))
