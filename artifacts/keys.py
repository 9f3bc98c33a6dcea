"""Names by content: canonical JSON, digests, and the key of a piece of work.

Every kind of pre-image begins with its own tag, so a digest of pixels can never pass for a digest
of a file or of a configuration.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
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
_match_digest = re.compile("[0-9a-f]{64}").fullmatch
_DEEPEST = 100
_BLOCK = 1 << 20
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: object) -> bytes:
    """Encode a JSON value so that equal values, and only those, have equal bytes.

    Object keys are sorted, there are no spaces, all is ASCII, and a float is written as
    ``{"$float": value.hex()}``, so 1, 1.0 and true are three values.

    Raises:
        TypeError: for anything but None, bool, int, float, str, lists, tuples and mappings.
        ValueError: for NaN, infinities, lone surrogates, and object keys that are no strings.
    """
    return _dump(_checked(value, _tagged_float))


def readable_json(value: object) -> bytes:
    """Encode like `canonical_json`, but with floats as the shortest decimals that read back."""
    return _dump(_checked(value, float))


def digest_bytes(tag: str, data: bytes) -> Digest:
    """Digest data of the kind named by the tag."""
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
    if pixels.dtype != "uint8" or pixels.ndim != 3:
        raise ValueError(f"pixels must be uint8 HWC, not {pixels.dtype} of shape {pixels.shape}")
    hasher = _hasher("pixels", canonical_json(pixels.shape) + b"\0")
    hasher.update(pixels.data if pixels.flags.c_contiguous else pixels.tobytes())
    return Digest(hasher.hexdigest())


def is_digest(text: str) -> bool:
    """Return whether the text is 64 lowercase hexadecimal digits."""
    return _match_digest(text) is not None


class SharedConfig(dict[str, Any]):
    """Settings that thousands of actions have in common, checked once; never changed again."""

    @cached_property
    def checked(self) -> dict[str, Any]:
        """The settings as `canonical_json` encodes them."""
        return {
            _field(name, ("config",)): _checked(value, _tagged_float, ("config", name))
            for name, value in self.items()
        }


@dataclass(frozen=True)
class Action:
    """A piece of work, named before it is done.

    Attributes:
        stage: the stage's name.
        version: the stage's STAGE_VERSION.
        config: the stage's resolved settings, seed and dtype among them.
        inputs: logical digests of the inputs, by name.
        models: digests of the weights used, by name.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, Digest]
    models: Mapping[str, Digest]

    @property
    def key(self) -> Key:
        """The action's key: a digest of the canonical form of all five fields.

        Raises:
            TypeError, ValueError: if the settings or a name have no canonical form, or an input or
                a model has no digest.
        """
        for name, digest in (*self.inputs.items(), *self.models.items()):
            if not is_digest(digest):
                raise ValueError(f"{self.stage}: {name} is not named by a digest: {digest!r}")
        return Key(digest_json("action", vars(self)))


def _hasher(tag: str, data: bytes = b"") -> hashlib._Hash:
    return hashlib.sha256(_prefix(tag) + data)


@cache
def _prefix(tag: str) -> bytes:
    return f"adaptivedrag/{tag}/1\0".encode()


def _dump(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _tagged_float(number: float) -> dict[str, str]:
    return {FLOAT_TAG: number.hex()}


def _checked(
    value: object, of_float: Callable[[float], object], path: tuple[object, ...] = ()
) -> Any:
    """Copy a JSON value into builtin types; scalars must be of exactly the builtin types."""
    if type(value) is str:
        return _text(value, path)
    if type(value) is float:
        return of_float(_finite(value, path))
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, SharedConfig) and of_float is _tagged_float:
        return value.checked
    if len(path) >= _DEEPEST:
        raise ValueError(f"{_place(path)[:80]}... is nested deeper than {_DEEPEST} levels")
    if isinstance(value, list | tuple):
        return [_checked(each, of_float, (*path, i)) for i, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _field(name, path): _checked(each, of_float, (*path, name))
            for name, each in value.items()
        }
    raise TypeError(f"{_place(path)} is a {type(value).__name__}, which has no canonical form")


def _place(path: tuple[object, ...]) -> str:
    """Return the path of a value inside the encoded one, such as ``value.config[1]``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"value{''.join(steps)}"


def _finite(number: float, path: tuple[object, ...]) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{_place(path)} is {number}, which has no canonical form")
    return number


def _text(text: str, path: tuple[object, ...]) -> str:
    # A lone surrogate can be written as JSON but not read back by strict parsers.
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{_place(path)} holds half of a surrogate pair, which is not text")
    return text


def _field(name: object, path: tuple[object, ...]) -> str:
    if type(name) is not str:
        raise TypeError(f"{_place(path)} has a key that is not a string: {name!r}")
    if name == FLOAT_TAG:
        raise ValueError(f"{_place(path)} has a key {FLOAT_TAG!r}, which is reserved for floats")
    return _text(name, path)
