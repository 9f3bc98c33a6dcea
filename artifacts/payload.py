"""Payloads to files and back, in memory, so that every kind of store gets the same bytes.

Arrays become zarr v3 (one shard, crc32c, empty chunks written), tensors the safetensors layout
that diffusers loads, pictures PNG, documents JSON. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from artifacts.errors import ArtifactCorrupt
from artifacts.keys import Digest, canonical_json, digest_bytes, readable_json
from artifacts.layout import LARGEST_FILE
from artifacts.records import MANIFEST, Manifest, PartInfo, StoredFile

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

Part: TypeAlias = "Array | TensorFile | Picture | Document"
Payload: TypeAlias = "Mapping[str, Part]"

_SUFFIXES = {"array": ".zarr", "tensors": ".safetensors", "picture": ".png", "document": ".json"}
_DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_PART_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class TensorFile:
    """Named arrays in one safetensors file, with at most one line of metadata.

    Attributes:
        note: at most one entry, since with more safetensors' bytes differ between processes.
    """

    tensors: Mapping[str, Array]
    note: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A uint8 image: gray (H, W), or (H, W, 3) RGB, or (H, W, 4) RGBA."""

    pixels: Array


@dataclass(frozen=True)
class Document:
    """Any JSON value."""

    value: Any


@dataclass(frozen=True)
class Encoded:
    """A payload as files.

    Attributes:
        files: bytes by relative path, the manifest last.
        object: the object's id.
    """

    files: Mapping[str, bytes]
    manifest: Manifest
    object: Digest


def encode(payload: Payload) -> Encoded:
    """Turn a payload into the files of an object.

    Raises:
        TypeError: if a part, a dtype or a value is of a kind that is not stored.
        ValueError: if a part's name is not a plain lowercase word.
    """
    parts = {_part_name(name): _tidied(name, part) for name, part in sorted(payload.items())}
    files: dict[str, bytes] = {}
    for name, part in parts.items():
        files.update(_encode_part(name + _SUFFIXES[_info(part).kind], part))
    manifest = Manifest(
        files=tuple(_stored(path, data) for path, data in sorted(files.items())),
        parts={name: _info(part) for name, part in parts.items()},
        logical=_logical_digest(parts),
    )
    data = manifest.to_bytes()
    return Encoded({**files, MANIFEST: data}, manifest, object_id(data))


def object_id(manifest: bytes) -> Digest:
    """Name an object by its manifest's bytes, which include the digests of all its files."""
    return digest_bytes("object", manifest)


def check(stored: StoredFile, data: bytes) -> None:
    """Compare bytes with their entry in the manifest.

    Raises:
        ArtifactCorrupt: naming the file.
    """
    if len(data) != stored.size:
        raise ArtifactCorrupt(f"{stored.path} has {len(data)} bytes instead of {stored.size}")
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise ArtifactCorrupt(f"{stored.path} has changed: its sha256 is another")


def decode(
    manifest: Manifest, files: Mapping[str, bytes], only: Collection[str] | None = None
) -> dict[str, Any]:
    """Turn checked files into numpy arrays, dicts of arrays, and JSON values, by part.

    Args:
        only: the parts that are wanted; all by default.

    Raises:
        ArtifactCorrupt: if a file is not of the form that the manifest names.
    """
    parts = {}
    for name, info in manifest.parts.items():
        if only is not None and name not in only:
            continue
        path = name + _SUFFIXES[info.kind]
        try:
            parts[name] = _decode_part(path, info, files)
        # Decoders raise errors of any type on bytes that they did not write.
        except Exception as error:
            raise ArtifactCorrupt(f"{path} cannot be decoded: {error}") from error
    return parts


def _part_name(name: str) -> str:
    if not _PART_NAME.fullmatch(name) or name + ".json" == MANIFEST:
        raise ValueError(f"{name!r} cannot name a part: lowercase letters, digits and _ only")
    return name


def _stored(path: str, data: bytes) -> StoredFile:
    return StoredFile(path=path, size=len(data), sha256=Digest(hashlib.sha256(data).hexdigest()))


def _tidied(name: str, part: Any) -> Part:
    """Bring arrays into one memory layout; refuse dtypes that are not stored."""
    import numpy as np

    match part:
        case np.ndarray():
            return _tidy_array(name, part)
        case TensorFile():
            if len(part.note) > 1:
                raise ValueError(f"{name}: at most one line of metadata, not {len(part.note)}")
            tensors = {k: _tidy_array(f"{name}/{k}", v) for k, v in sorted(part.tensors.items())}
            return TensorFile(tensors, dict(part.note))
        case Picture():
            return Picture(_tidy_pixels(name, part.pixels))
        case Document():
            return part
    raise TypeError(f"{name} is a {type(part).__name__}, which is not stored")


def _tidy_array(name: str, array: Array) -> Array:
    import numpy as np

    if not isinstance(array, np.ndarray) or array.dtype.name not in _DTYPES:
        raise TypeError(f"{name} is {getattr(array, 'dtype', type(array))}, which is not stored")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _tidy_pixels(name: str, pixels: Array) -> Array:
    if pixels.dtype != "uint8" or not _is_picture(pixels.shape):
        raise TypeError(f"{name} is no picture: {pixels.dtype} of shape {pixels.shape}")
    return _tidy_array(name, pixels)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)))


def _info(part: Part) -> PartInfo:
    match part:
        case TensorFile():
            return PartInfo(kind="tensors")
        case Picture(pixels):
            return PartInfo(kind="picture", dtype="uint8", shape=pixels.shape)
        case Document():
            return PartInfo(kind="document")
    return PartInfo(kind="array", dtype=part.dtype.name, shape=part.shape)


def _logical_digest(parts: Mapping[str, Part]) -> Digest:
    chunks = (chunk for name, part in parts.items() for chunk in _logical_chunks(name, part))
    return digest_bytes("payload", b"".join(chunks))


def _logical_chunks(name: str, part: Part) -> Iterator[bytes]:
    """Yield a header with the number of bytes that follow, then the values."""
    info = _info(part)
    header: list[object] = [name, info.kind, info.dtype, info.shape]
    match part:
        case TensorFile(tensors, note):
            header += [note, [[k, v.dtype.name, v.shape] for k, v in tensors.items()]]
            values = b"".join(tensor.tobytes() for tensor in tensors.values())
        case Picture(pixels):
            values = pixels.tobytes()
        case Document(value):
            header.append(value)
            values = b""
        case array:
            values = array.tobytes()
    yield canonical_json(header) + b"\0"
    yield values


def _encode_part(path: str, part: Part) -> dict[str, bytes]:
    match part:
        case TensorFile(tensors, note):
            from safetensors.numpy import save

            return {path: save(dict(tensors), metadata=dict(note) or None)}
        case Picture(pixels):
            return {path: _encode_picture(pixels)}
        case Document(value):
            return {path: readable_json(value)}
    return {f"{path}/{name}": data for name, data in _encode_array(part).items()}


def _encode_array(array: Array) -> dict[str, bytes]:
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.storage import MemoryStore

    shard, chunk = _shard_and_chunk(array.shape)
    files: dict[str, Any] = {}
    stored = zarr.create_array(
        MemoryStore(files),
        shape=array.shape,
        dtype=array.dtype,
        shards=shard or None,
        chunks=chunk,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        # Otherwise zarr omits a chunk of zeros, and a lost chunk reads as zeros.
        config={"write_empty_chunks": True},
    )
    stored[...] = array
    return {name: buffer.to_bytes() for name, buffer in files.items()}


def _encode_picture(pixels: Array) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=6, optimize=False)
    return file.getvalue()


def _decode_part(path: str, info: PartInfo, files: Mapping[str, bytes]) -> Any:
    match info.kind:
        case "array":
            return _decode_array(path, info, files)
        case "tensors":
            from safetensors.numpy import load

            return {name: tensor.copy() for name, tensor in load(files[path]).items()}
        case "picture":
            return _decode_picture(info, files[path])
        case "document":
            return json.loads(files[path])


def _decode_array(path: str, info: PartInfo, files: Mapping[str, bytes]) -> Array:
    import numpy as np
    import zarr
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    inside = {
        name.removeprefix(path + "/"): data
        for name, data in files.items()
        if name.startswith(path + "/")
    }
    _check_array(info, inside)
    held: dict[str, Any] = {name: Buffer.from_bytes(data) for name, data in inside.items()}
    stored = zarr.open_array(MemoryStore(held), mode="r", zarr_format=3)
    if (stored.shape, stored.dtype.name) != (info.shape, info.dtype):
        raise ValueError(f"{stored.dtype} of shape {stored.shape} is not what the manifest says")
    return np.asarray(stored[...])


def _check_array(info: PartInfo, files: Mapping[str, bytes]) -> None:
    """Refuse an array that would decompress to more than its manifest says, before zarr reads it.

    zarr would use any installed codec, and allocate any size that a chunk declares.
    """
    import numpy as np

    if info.shape is None or info.dtype not in _DTYPES:
        raise ValueError("the manifest does not say what array it is")
    shard, chunk = _shard_and_chunk(info.shape)
    size = np.dtype(info.dtype).itemsize
    if size * math.prod(shard) > LARGEST_FILE:
        raise ValueError(f"an array of shape {info.shape} is larger than any that is stored")
    described = json.loads(files["zarr.json"])
    codecs, shapes = described["codecs"], [described["chunk_grid"]["configuration"]]
    if shard:
        (sharding,) = codecs
        shapes.append(sharding["configuration"])
        codecs = [sharding, *sharding["configuration"]["codecs"]]
    names = ["sharding_indexed"] * bool(shard) + ["bytes", "zstd", "crc32c"]
    if [codec["name"] for codec in codecs] != names or [
        tuple(each["chunk_shape"]) for each in shapes
    ] != [shard, chunk][: len(shapes)]:
        raise ValueError("it is not laid out as we write arrays")
    count = math.prod(shard) // math.prod(chunk) if shard else 0
    for name, data in files.items():
        if name != "zarr.json" and set(_unpacked_sizes(data, count)) != {size * math.prod(chunk)}:
            raise ValueError(f"{name} does not unfold to its size")


def _unpacked_sizes(data: bytes, chunks: int) -> Iterator[int | None]:
    """Yield what each chunk of a shard says that it unfolds to; 0 chunks: it is no shard.

    The index at a shard's end has the place of each chunk, and 4 bytes of checksum.
    """
    if not chunks:
        yield _unpacked_size(data[:18])
    index = data[-16 * chunks - 4 : -4]
    for place in range(0, 16 * chunks, 16):
        start = int.from_bytes(index[place : place + 8], "little")
        yield _unpacked_size(data[start : start + 18])


def _unpacked_size(frame: bytes) -> int | None:
    """Return the size that a zstd frame gives its content (RFC 8878, 3.1.1.1), if it does."""
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 6:
        return None
    flags = frame[4]
    is_single = bool(flags & 0x20)
    width = (int(is_single), 2, 4, 8)[flags >> 6]
    start = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(frame[start : start + width], "little")
    return size + 256 * (width == 2) if width else None


def _shard_and_chunk(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of the one shard of an array, and of its chunks.

    So a step of a trajectory can be read alone, and a flat map is read whole.
    """
    shard = tuple(max(1, length) for length in shape)
    return shard, (1, *shard[1:]) if len(shard) > 2 else shard


def _decode_picture(info: PartInfo, data: bytes) -> Array:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        # Compared before decoding, so that a small file cannot decompress to a huge one.
        if info.shape is None or image.size[::-1] != info.shape[:2]:
            raise ValueError(f"{image.size} is not the size that the manifest says")
        if math.prod(info.shape) > LARGEST_FILE:
            raise ValueError(f"a picture of {image.size} is larger than any that is stored")
        return np.array(image)
