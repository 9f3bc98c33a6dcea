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
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType, TypeAlias, cast

if TYPE_CHECKING:
    import numpy as np

Digest = NewType("Digest", str)
Key = NewType("Key", str)
JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

FLOAT_TAG = "$float"
_DIGEST = "[0-9a-f]{64}"
_match_digest = re.compile(_DIGEST).fullmatch
_match_digests = re.compile(f"{_DIGEST}(?:,{_DIGEST})*").fullmatch
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
    def begun_action(self) -> hashlib._Hash:
        """The digest of an action with these settings, so far; to be copied.

        Raises:
            TypeError, ValueError: as `canonical_json`.
        """
        return _begun(canonical_json(self._values))

    @cached_property
    def digests(self) -> bytes:
        """The canonical form of a mapping to digests.

        Raises:
            TypeError, ValueError: if a name has no canonical form, or a value is no digest.
        """
        return _digests(self._values)


def digest_bytes(tag: str, data: bytes) -> Digest:
    """Digest data of the kind that the tag names."""
    return Digest(_hasher(tag, data).hexdigest())


def digest_json(tag: str, value: object) -> Digest:
    """Digest a JSON value by its canonical form."""
    return digest_bytes(tag, canonical_json(value))


def digest_floats(tag: str, rows: Iterable[Iterable[float]]) -> Digest:
    """Digest lists of floats as `digest_json` does, in a third of the time.

    Raises:
        ValueError: for NaN and infinities.
    """
    texts = []
    for row in rows:
        tagged = [f'{{"{FLOAT_TAG}":"{_finite(number, tag).hex()}"}}' for number in row]
        texts.append(f"[{','.join(tagged)}]")
    return digest_bytes(tag, f"[{','.join(texts)}]".encode())


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
    return _match_digest(text) is not None


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

    @property
    def key(self) -> Key:
        """The action's key: a digest of the canonical form of all five, made when it is asked for.

        Raises:
            TypeError, ValueError: if the settings or a name have no canonical form, or an input or
                a model is not named by a digest.
        """
        config, models = self.config, self.models
        # What many actions share is encoded once, and digested once.
        if isinstance(config, Shared):
            hasher = config.begun_action.copy()
        else:
            hasher = _begun(canonical_json(config))
        try:
            weights = models.digests if isinstance(models, Shared) else _digests(models)
            hasher.update(
                b',"inputs":%b,"models":%b,%b}'
                % (_digests(self.inputs), weights, _stage_and_version(self.stage, self.version))
            )
        except ValueError as error:
            raise ValueError(f"{self.stage}: {error}") from None
        return cast(Key, hasher.hexdigest())


def _begun(config: bytes) -> hashlib._Hash:
    """Begin the digest of an action, whose canonical form begins with its settings."""
    return _hasher("action", b'{"config":' + config)


def _digests(mapping: Mapping[str, Digest]) -> bytes:
    """Encode like `canonical_json`, in a fraction of the time.

    Raises:
        TypeError, ValueError: if a name has no canonical form, or a value is no digest.
    """
    names, form = _form_of(tuple(mapping))
    digests = tuple([mapping[name] for name in names])
    # One look at all of them; by its length, none of them holds a comma.
    listed = ",".join(digests)
    if digests and not (len(listed) == 65 * len(digests) - 1 and _match_digests(listed)):
        wrong = next(name for name in mapping if not is_digest(mapping[name]))
        raise ValueError(f"{wrong} is not named by a digest: {mapping[wrong]!r}")
    return (form % digests).encode()


@lru_cache(64)
def _form_of(names: tuple[str, ...]) -> tuple[list[str], str]:
    """Return names in order, and a form to fill with their digests."""
    ordered = sorted(names)
    keys = [_ENCODER.encode(_field(name, "inputs or models")) for name in ordered]
    pairs = [f'{key.replace("%", "%%")}:"%s"' for key in keys]
    return ordered, f"{{{','.join(pairs)}}}"


@cache
def _stage_and_version(stage: str, version: int) -> bytes:
    return b'"stage":%b,"version":%b' % (canonical_json(stage), canonical_json(version))


def _hasher(tag: str, data: bytes = b"") -> hashlib._Hash:
    return hashlib.sha256(_prefix(tag) + data)


@cache
def _prefix(tag: str) -> bytes:
    return f"adaptivedrag/{tag}/1\0".encode()


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
