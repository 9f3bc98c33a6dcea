"""The JSON that a store holds beside payloads: manifests and records, sealed by a checksum."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from artifacts.keys import Action, Digest, Key, readable_json

MANIFEST = "manifest.json"
MOST_FILES = 10_000

_SEALED = re.compile(rb'\{"sha256":"([0-9a-f]{64})","body":(.*)\}', re.DOTALL)


def seal(body: Mapping[str, object]) -> bytes:
    """Encode a JSON object together with the sha256 of its bytes."""
    data = readable_json(body)
    return b'{"sha256":"%s","body":%s}' % (hashlib.sha256(data).hexdigest().encode(), data)


def unseal(data: bytes) -> bytes:
    """Return the JSON that was sealed.

    Raises:
        ValueError: if `seal` did not write these bytes.
    """
    match = _SEALED.fullmatch(data)
    if not match or hashlib.sha256(match[2]).hexdigest().encode() != match[1]:
        raise ValueError("the checksum does not match")
    return match[2]


def unseal_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that was sealed.

    Raises:
        ValueError: if `seal` did not write these bytes.
    """
    try:
        found = json.loads(unseal(data))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    return found


# Relative, POSIX, no component that begins with a dot, so it cannot leave its folder.
PlainPath = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", max_length=200
    ),
]
HexDigest = Annotated[Digest, Field(pattern=r"^[0-9a-f]{64}$")]
HexKey = Annotated[Key, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredFile(_Frozen):
    """One file of an object; the path is relative to the object's folder."""

    path: PlainPath
    size: Size
    sha256: HexDigest


class PartInfo(_Frozen):
    """The kind of a part, with dtype and shape for arrays and pictures."""

    kind: Literal["array", "tensors", "picture", "document"]
    dtype: str | None = None
    shape: tuple[Size, ...] | None = None


class Manifest(_Frozen):
    """What an object holds. The object's id is the digest of the sealed manifest's bytes.

    Attributes:
        logical: digest of names, kinds, dtypes, shapes and values, independent of the encoding.
    """

    schema_version: Literal[1] = 1
    files: Annotated[tuple[StoredFile, ...], Field(max_length=MOST_FILES)]
    parts: dict[str, PartInfo]
    logical: HexDigest

    def to_bytes(self) -> bytes:
        """Encode for the store."""
        return seal(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Decode; raises ValueError for anything that `to_bytes` did not write."""
        return cls.model_validate_json(unseal(data))


class Circumstances(_Frozen):
    """The circumstances of an action; never part of a key.

    Attributes:
        code: version of this project's code, and a digest of the sources of the stage.
        libraries: versions of the libraries whose numbers matter.
        device: such as "cpu" or a GPU's name.
        started: UTC, ISO 8601.
        seconds: wall time.
        peak_memory: bytes.
        memory_saved_by: the measures taken against short memory; usually none.
    """

    code: str
    libraries: dict[str, str] = {}
    device: str = "cpu"
    threads: int = 1
    started: str
    seconds: float
    peak_memory: int = 0
    memory_saved_by: tuple[str, ...] = ()


class Record(_Frozen):
    """The record of an action that was done: what came out, and under what circumstances.

    Attributes:
        object: id of the object that holds the payload.
        logical: digest of the payload's values, from which keys of later actions are made.
        files: size in bytes of each file of the object, the manifest among them.
        summary: what the stage says about its own work.
        number: 1 for the first record of this key, 2 for the next.
    """

    schema_version: Literal[1] = 1
    stage: str
    version: int
    key: HexKey
    config: dict[str, JsonValue]
    inputs: dict[str, HexDigest]
    models: dict[str, HexDigest]
    object: HexDigest
    logical: HexDigest
    files: dict[PlainPath, Size]
    circumstances: Circumstances
    summary: dict[str, JsonValue] = {}
    number: Annotated[int, Field(ge=1)] = 1

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return sum(self.files.values())

    @property
    def action(self) -> Action:
        """The action that was done."""
        return Action(self.stage, self.version, self.config, self.inputs, self.models)

    def to_bytes(self) -> bytes:
        """Encode for the store."""
        return seal(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """Decode; raises ValueError for anything that `to_bytes` did not write."""
        return cls.model_validate_json(unseal(data))


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the store knows about a key. Look-ups that say the same are equal.

    Attributes:
        status: "hit" if the object is there too, "known" if only its digests are.
        number: the record's.
        object: id of the object that holds the payload.
        logical: digest of the payload's values.
        read: reads the record of a key and a number.
    """

    status: Literal["hit", "known"]
    key: Key
    number: int
    object: Digest
    logical: Digest
    read: Callable[[Key, int], Record] = field(repr=False, compare=False)

    @property
    def record(self) -> Record:
        """The record; read each time, since tens of thousands would not fit into memory.

        Raises:
            ArtifactError: if it cannot be read any more.
        """
        return self.read(self.key, self.number)


@dataclass(frozen=True)
class Progress:
    """A checkpoint of a long stage: the step it was taken after, and its parts as read."""

    step: int
    parts: dict[str, Any]
