"""The tensors of a part of a model: what files hold of them, and whether they fill a module.

Importing this module loads no torch: names, types and shapes are read from the headers of files.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.weight_names import WeightNames

if TYPE_CHECKING:
    import torch

FLOATING = ("F64", "F32", "F16", "BF16")
"""Types that weights may have, as safetensors names them."""

_NAMED = 3
_POINTER = b"version https://git-lfs"
_MOST_HEADER = 100_000_000
"""Bytes, as in safetensors itself."""


class Form(NamedTuple):
    """Type, as safetensors names it, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


class Tensors(Protocol):
    """The weights of a part, by the names that diffusers and transformers give them."""

    @property
    def name(self) -> str:
        """What messages call them."""
        ...

    def inspect(self) -> None:
        """Check that files can be read, without torch.

        Raises:
            ModelUnavailable: if files are missing, cut short, or none of weights.
        """
        ...

    def forms(self) -> Mapping[str, Form]:
        """Return the form of each tensor, without reading values; raises as `inspect`."""
        ...

    def read(self) -> "dict[str, torch.Tensor]":
        """Read the tensors, as they are stored."""
        ...


@dataclass(frozen=True)
class FolderTensors:
    """The safetensors files of a folder: one, or shards with their index; see `weight_names`."""

    folder: Path
    stem: str
    """The file's name without its ending."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read, of the first variant that is there.

        Raises:
            ModelUnavailable: if the index cannot be read.
        """
        found = WeightNames.present(self.stem, lambda name: (self.folder / name).is_file())
        names = found or WeightNames(self.stem)
        index = self.folder / names.index
        if not names.has_shards(lambda name: (self.folder / name).is_file()):
            return (self.folder / names.whole,)
        return (index, *(self.folder / name for name in sorted(_shards(index))))

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def inspect(self) -> None:
        """Read the headers; see `Tensors`."""
        self.forms()

    def forms(self) -> Mapping[str, Form]:
        """Read the headers; see `Tensors`."""
        found: dict[str, Form] = {}
        for file in self._weights:
            forms = read_header(file).forms
            if twice := found.keys() & forms.keys():
                raise ModelUnavailable(
                    f"{file} holds {min(twice):.100}, which another shard holds too: fetch this "
                    "part of the model again"
                )
            found |= forms
        return found

    def read(self) -> "dict[str, torch.Tensor]":
        """Read all files; see `Tensors`."""
        from safetensors.torch import load_file

        return {name: value for file in self._weights for name, value in load_file(file).items()}

    @property
    def _weights(self) -> list[Path]:
        return [file for file in self.files if file.suffix == ".safetensors"]


def _shards(index: Path) -> set[str]:
    """Return the names of the files that an index distributes weights over."""
    try:
        found = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return {Path(name).name for name in found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelUnavailable(
            f"{index} does not list the files of the weights: fetch the model again"
        ) from error


class Header(NamedTuple):
    """What the header of a safetensors file says: the form of each tensor, and any words."""

    forms: Mapping[str, Form]
    words: Mapping[str, str]


def read_header(file: Path) -> Header:
    """Read the header of a safetensors file: planning has no time for the library, or numpy.

    Raises:
        ModelUnavailable: if it is missing, cut short or something else.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
            size = int.from_bytes(start, "little")
            header = json.loads(opened.read(size if size <= _MOST_HEADER else 0))
        words = {key: str(word) for key, word in header.pop("__metadata__", {}).items()}
        forms = {
            name: Form(str(entry["dtype"]), tuple(map(int, entry["shape"])))
            for name, entry in header.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{file} is missing: fetch the model again") from error
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ModelUnavailable(f"{file} {damage(file)}") from error
    if file.stat().st_size != 8 + size + end:
        raise ModelUnavailable(f"{file} {damage(file)}")
    return Header(forms, words)


def damage(file: Path) -> str:
    """Say what is wrong with a file that cannot be read as what it should be."""
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_POINTER))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not start:
        return "is empty: fetch it again"
    if start == _POINTER:
        return "is a pointer of Git LFS and not the file: fetch it with `git lfs pull`"
    return f"is cut short, damaged or no {file.suffix[1:]} file: fetch it again"


class Naming(NamedTuple):
    """How the names of stored tensors become those of a module."""

    older: Sequence[tuple[str, str]] = ()
    """Patterns of older names, and what replaces them, as the libraries themselves do it."""
    aside: Mapping[str, str] = {}
    """Patterns of tensors that are no weights and are left aside, with the reason."""

    def of(self, stored: Iterable[str]) -> dict[str, str]:
        """Return the module's name of each stored tensor that is a weight."""
        return {name: self._renamed(name) for name in stored if not self._is_aside(name)}

    def _renamed(self, name: str) -> str:
        for pattern, replacement in self.older:
            name = re.sub(pattern, replacement, name)
        return name

    def _is_aside(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.aside)


ALIKE = Naming()
"""For parts whose tensors have the names of their modules."""


def check_tensors(
    module: "torch.nn.Module", stored: Mapping[str, Form], naming: Naming, name: str
) -> None:
    """Check that stored tensors are those of a module: all of them, and no others.

    Args:
        name: what messages call the tensors.

    Raises:
        ModelUnavailable: naming the first ones that are missing, too many, or of another form.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    names = naming.of(stored)
    known = {to: stored[name] for name, to in names.items() if to in expected}
    twice = [name for name, times in Counter(names.values()).items() if times > 1]
    faults = {
        "missing": sorted(expected.keys() - known.keys()),
        "not of this model": sorted(name for name, to in names.items() if to not in expected),
        "there under two names": sorted(twice),
        "of another shape": [
            f"{name} is {_by(known[name].shape)} and not {_by(expected[name])}"
            for name in sorted(known)
            if known[name].shape != expected[name]
        ],
        "of a type that is not supported": [
            f"{name} is {known[name].dtype}"
            for name in sorted(known)
            if known[name].dtype not in FLOATING
        ],
    }
    said = [f"{len(each)} {fault} ({_first(each)})" for fault, each in faults.items() if each]
    if said:
        raise ModelUnavailable(
            f"{name}: the weights do not fit config.json, which asks for {len(expected)}: "
            f"{'; '.join(said):.450}: fetch this part of the model again"
        )


def _first(names: Sequence[str]) -> str:
    more = ["…"] if len(names) > _NAMED else []
    return ", ".join([f"{name:.100}" for name in names[:_NAMED]] + more)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "one number"
