"""Where the files of a model are: embedded, at a path, or on the hub. Nothing is loaded here."""

import json
from collections.abc import Collection
from functools import partial
from importlib.resources import files
from pathlib import Path

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.architectures import ARCHITECTURES
from adaptivedrag.model.file_kinds import conversion, folder_conversion, is_pickle
from adaptivedrag.model.hub import Choose, Repository, fetched
from adaptivedrag.model.parts import VAE, Part
from adaptivedrag.model.single_file import source_at
from adaptivedrag.model.source import Source
from adaptivedrag.model.vae_source import WithVae, vae_at
from adaptivedrag.model.weight_names import pickles_alone
from adaptivedrag.presets import POCKET

_KNOWN = {name: part for known in ARCHITECTURES for name, part in known.parts.items()}

PARTS = tuple(name for name in _KNOWN if all(name in known.parts for known in ARCHITECTURES))
"""Folders that every Stable Diffusion has in diffusers' layout."""


_OTHERWISE = {
    "model": f', or use model = "{POCKET}"',
    "segmenter": f', or use segmenter = "{POCKET}"',
    "vae": ", or leave vae out",
}


def find_model(name: str, vae: str | None = None) -> Source:
    """Find a Stable Diffusion by its name, and the VAE that takes the place of its own.

    Args:
        name: "pocket", a directory in diffusers' layout, a .safetensors file, or a hub id.
        vae: a directory, a .safetensors file, or a hub id; None leaves the model its own.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
        UnsupportedModel: if a file is something else; the message says what.
    """
    model = source_at(find_diffusion(name))
    return WithVae(model, vae_at(_find_vae(vae), model)) if vae is not None else model


def find_diffusion(name: str) -> Path:
    """Return the directory or the file of a Stable Diffusion; see `find_model`.

    Raises:
        ModelUnavailable: in one line: what was tried, and how to get it.
    """
    if name == POCKET:
        return _embedded("diffusion")
    path = _local(name, "model") or _from_hub("model", name, choose_diffusion)
    if path.is_file():
        return path
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        inside = sorted(file.name for file in path.glob("*.safetensors"))
        hint = f": name its {inside[0]}, if that is the model" if inside else ""
        raise ModelUnavailable(
            f"model {name!r}: {path} has no {', '.join(missing)}: {_nature(path)}{hint}"
        )
    _refuse_pickles(path)
    return path


def _nature(folder: Path) -> str:
    """Say what a folder is that is no model of a supported family."""
    families = ", ".join(dict.fromkeys(known.name for known in ARCHITECTURES))
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        pipeline = f"a {index['_class_name']:.80}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pipeline = "not a diffusers Stable Diffusion directory"
    if (folder / "transformer").is_dir():
        pipeline += ", with a transformer in place of a UNet"
    return f"it is {pipeline}: use one of {families}"


def _find_vae(name: str) -> Path:
    found = _local(name, "vae") or _from_hub("vae", name, choose_vae)
    folder = found / "vae" if (found / "vae").is_dir() else found
    pickles = pickles_alone(str(VAE.weights), [file.name for file in folder.glob("*")])
    if found.is_dir() and pickles:
        raise ModelUnavailable(
            f"vae {name!r} holds only {pickles}, a pickle, which can run code when it is read: "
            f"make a .safetensors file of it with {conversion(str(folder / pickles))}"
        )
    return found


def _local(name: str, kind: str) -> Path | None:
    """Return the path that a name stands for, if something is there that can be read."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if not path.is_file():
        return None
    if is_pickle(path.name):
        raise ModelUnavailable(
            f"{kind} {name!r} is a pickle, which can run code when it is read: make a .safetensors "
            f"file of it with {conversion(name)}"
        )
    if path.suffix.lower() != ".safetensors":
        raise ModelUnavailable(
            f"{kind} {name!r} is no .safetensors file: use one, or a folder in diffusers' layout"
        )
    return path.resolve()


def _refuse_pickles(folder: Path) -> None:
    """Refuse a model with a part whose only weights are a pickle."""
    for name, part in _KNOWN.items():
        names = [file.name for file in (folder / name).glob("*")]
        if part.weights and pickles_alone(part.weights, names):
            raise ModelUnavailable(
                f"{folder / name} holds only {pickles_alone(part.weights, names)}, a pickle, which "
                f"can run code when it is read: {folder_conversion(folder)}"
            )


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
            f"{kind} {name!r} is neither a path that exists nor a hub id like owner/name: check "
            f"the path{_OTHERWISE[kind]}"
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
        if any(name.startswith("transformer/") for name in names):
            raise ValueError(
                "a transformer in place of a UNet: it is no Stable Diffusion 1.x to XL"
            )
        raise ValueError(f"not a folder of diffusers{_single_files(names)}")
    chosen: set[str] = set()
    for folder, part in _KNOWN.items():
        inside = {
            name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")
        }
        if inside or folder in PARTS:
            chosen |= {f"{folder}/{name}" for name in _chosen(folder, part, inside)}
    return chosen


def choose_vae(names: Collection[str]) -> set[str]:
    """Choose the files of a VAE among those of a repository: its own, or those of a model.

    Raises:
        ValueError: if some are lacking; names one.
    """
    place = "vae/" if any(name.startswith("vae/") for name in names) else ""
    inside = [name.removeprefix(place) for name in names if name.startswith(place)]
    return {place + name for name in VAE.choose(inside)}


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
