"""Names by content: canonical JSON, digests, and the key of a piece of work.

Every kind of pre-image begins with its own tag, so that a digest of pixels can never be taken
for a digest of a file or of a configuration.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Digest = NewType("Digest", str)
Key = NewType("Key", str)
JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

FLOAT_TAG = "$float"
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEEPEST = 100
_BLOCK = 1 << 20
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: object) -> bytes:
    """Encode a JSON value so that equal values, and only those, have equal bytes.

    Object keys are sorted, nothing is spaced, all is ASCII, and a float is written as
    ``{"$float": value.hex()}``, so that 1, 1.0 and true are three values.

    Raises:
        TypeError: for anything but None, bool, int, float, str, lists, tuples and mappings.
        ValueError: for NaN, infinities, lone surrogates, and object keys that are no strings.
    """
    return _dump(_checked(value, "value", _tagged_float))


def readable_json(value: object) -> bytes:
    """Encode like `canonical_json`, but with floats as the shortest decimals that read back."""
    return _dump(_checked(value, "value", float))


class Shared(Mapping[str, Any]):
    """A mapping that many actions have in common: its canonical form is made once.

    What it was made of may not be changed any more.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take over a mapping."""
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @cached_property
    def canonical(self) -> bytes:
        """The mapping as `canonical_json` encodes it."""
        return canonical_json(self._values)


def digest_bytes(tag: str, data: bytes) -> Digest:
    """Digest data of the kind that the tag names."""
    return Digest(_hasher(tag, data).hexdigest())


def digest_json(tag: str, value: object) -> Digest:
    """Digest a JSON value by its canonical form."""
    return digest_bytes(tag, canonical_json(value))


def digest_file(path: Path) -> Digest:
    """Digest a file's bytes without loading it whole; equals ``digest_bytes("file", ...)``."""
    hasher = _hasher("file")
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return Digest(hasher.hexdigest())


def digest_pixels(pixels: np.ndarray[Any, Any]) -> Digest:
    """Digest a decoded image (uint8, height x width x channels).

    Raises:
        ValueError: if the array is anything else.
    """
    return digest_bands(pixels.shape, [pixels])


def digest_bands(shape: tuple[int, ...], bands: Iterable[np.ndarray[Any, Any]]) -> Digest:
    """Digest an image of that shape by bands of its rows, from the top; as `digest_pixels`."""
    hasher = _hasher("pixels", canonical_json(shape) + b"\0")
    for band in bands:
        if band.dtype != "uint8" or band.ndim != 3:
            raise ValueError(f"pixels must be uint8 HWC, not {band.dtype} of shape {band.shape}")
        hasher.update(band.tobytes() if not band.flags.c_contiguous else band.data)
    return Digest(hasher.hexdigest())


def is_digest(text: str) -> bool:
    """Tell whether the text is 64 lowercase hexadecimal digits."""
    return _HEX_DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class Action:
    """A piece of work, named before it is done.

    Attributes:
        stage: the stage's name.
        version: the stage's STAGE_VERSION.
        config: the stage's resolved settings, seed and dtype among them.
        inputs: logical digests of what goes in, by name.
        models: digests of the weights used, by name.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, Digest]
    models: Mapping[str, Digest]

    @cached_property
    def key(self) -> Key:
        """The action's key.

        Raises:
            ValueError: if an input or a model is not named by a digest.
        """
        for name, digest in (*self.inputs.items(), *self.models.items()):
            if not is_digest(digest):
                raise ValueError(f"{self.stage}: {name} is not named by a digest: {digest!r}")
        inputs = [
            b'%b:"%b"' % (_object_key(name), digest.encode())
            for name, digest in sorted(self.inputs.items())
        ]
        # The canonical form of all five, put together so that what is shared is encoded once.
        ingredients = b'{"config":%b,"inputs":{%b},"models":%b,%b}' % (
            _canonical(self.config),
            b",".join(inputs),
            _canonical(self.models),
            _stage_and_version(self.stage, self.version),
        )
        return Key(digest_bytes("action", ingredients))


@cache
def _object_key(name: str) -> bytes:
    return _dump(_field(name, "inputs"))


@cache
def _stage_and_version(stage: str, version: int) -> bytes:
    return b'"stage":%b,"version":%b' % (canonical_json(stage), canonical_json(version))


def _hasher(tag: str, data: bytes = b"") -> hashlib._Hash:
    return hashlib.sha256(f"adaptivedrag/{tag}/1\0".encode() + data)


def _canonical(mapping: Mapping[str, Any]) -> bytes:
    return mapping.canonical if isinstance(mapping, Shared) else canonical_json(mapping)


def _dump(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _tagged_float(number: float) -> dict[str, str]:
    return {FLOAT_TAG: number.hex()}


def _checked(value: object, path: str, of_float: Callable[[float], object], depth: int = 0) -> Any:
    """Copy a JSON value into builtin types; scalars must be of exactly the builtin types."""
    if depth > _DEEPEST:
        raise ValueError(f"{path[:80]}... is nested deeper than {_DEEPEST} levels")
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        return of_float(_finite(value, path))
    if type(value) is str:
        return _text(value, path)
    if isinstance(value, list | tuple):
        return [_checked(v, f"{path}[{i}]", of_float, depth + 1) for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _field(k, path): _checked(v, f"{path}.{k}", of_float, depth + 1)
            for k, v in value.items()
        }
    raise TypeError(f"{path} is a {type(value).__name__}, which has no canonical form")


def _finite(number: float, path: str) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{path} is {number}, which has no canonical form")
    return number


def _text(text: str, path: str) -> str:
    # A lone surrogate can be written as JSON but not read back by strict parsers.
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{path} holds half of a surrogate pair, which is not text")
    return text


def _field(name: object, path: str) -> str:
    if type(name) is not str:
        raise TypeError(f"{path} has a key that is not a string: {name!r}")
    if name == FLOAT_TAG:
        raise ValueError(f"{path} has a key {FLOAT_TAG!r}, which is kept for floats")
    return _text(name, path)
