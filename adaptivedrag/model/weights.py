"""Where the files of a model are: embedded, at a path, or on the hub. Nothing is loaded here."""

from collections.abc import Collection
from functools import partial
from importlib.resources import files
from pathlib import Path

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.architectures import ARCHITECTURES
from adaptivedrag.model.hub import Choose, Repository, fetched
from adaptivedrag.model.parts import Part
from adaptivedrag.presets import POCKET

_KNOWN = {name: part for known in ARCHITECTURES for name, part in known.parts.items()}

PARTS = tuple(name for name in _KNOWN if all(name in known.parts for known in ARCHITECTURES))
"""Folders that every Stable Diffusion has in diffusers' layout."""


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
        directory = _from_hub("model", name, choose_diffusion)
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
    checkpoint = _checkpoint_of(name)
    return _from_hub("segmenter", name, partial(_choose_file, checkpoint)) / checkpoint


def _embedded(part: str) -> Path:
    return Path(str(files("adaptivedrag"))) / "pocket" / part


def _from_hub(kind: str, name: str, choose: Choose) -> Path:
    """Return the folder of the hub's files on this machine; fetch them if they are missing."""
    if Repository.parse(name) is None:
        raise ModelUnavailable(
            f"{kind} {name!r} is neither a path that exists nor a hub id like owner/name: "
            f'check the path, or use {kind} = "{POCKET}"'
        )
    try:
        return fetched(name, choose)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{kind} {name!r}: {error}") from error


def choose_diffusion(names: Collection[str]) -> set[str]:
    """Choose the files of a Stable Diffusion among those of a repository.

    Raises:
        ValueError: if some are lacking; names one.
    """
    if not any(name.startswith("unet/") for name in names):
        raise ValueError(f"not a folder of diffusers{_single_files(names)}")
    chosen: set[str] = set()
    for folder, part in _KNOWN.items():
        inside = {
            name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")
        }
        if inside or folder in PARTS:
            chosen |= {f"{folder}/{name}" for name in _chosen(folder, part, inside)}
    return chosen


def _single_files(names: Collection[str]) -> str:
    found = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    return f": `hf download` its {found[0]}, and name that file" if found else ""


def _chosen(folder: str, part: Part, names: Collection[str]) -> set[str]:
    try:
        return part.choose(names)
    except ValueError as error:
        raise ValueError(f"{folder} has {error}") from None


def _checkpoint_of(name: str) -> str:
    """Return the file that a hub id of SAM 2 stands for."""
    # The official repositories are named after their checkpoint: sam2.1-hiera-base-plus holds
    # sam2.1_hiera_base_plus.pt.
    return name.partition("@")[0].partition("/")[2].replace("-", "_") + ".pt"


def _choose_file(file: str, names: Collection[str]) -> set[str]:
    if file not in names:
        raise ValueError(f"no {file}")
    return {file}
