"""Drag benchmarks as jobs: published samples stay where they are, and scenes are rendered.

A dataset's own masks are kept, as `user_mask`, for comparison; no job uses them unless it sets
`build_mask.mode = "user"`.
"""

import io
import json
import math
import os
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from adaptivedrag.errors import InvalidEdit
from stages.images import Pixels

if TYPE_CHECKING:
    from adaptivedrag.scenes import Rendering, SceneDrag

MASK_FOLDER = "user_mask"
IMAGE_FOLDER = "images"
SCENE_SIZES = range(64, 2049)
PICKLE_LIMIT = 64 << 20
OPCODE_LIMIT = 100_000
MASK_SIDE_LIMIT = 16_384


@dataclass(frozen=True)
class Imported:
    """What an importer found and wrote.

    Attributes:
        job: the job file.
        images: how many images the edits have.
        drags: how many drags the edits have together.
        skipped: one line for each sample that could not be read.
    """

    job: Path
    images: int
    drags: int
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    """A sample as read; `mask` is a file of the dataset, or values to be written as one."""

    prompt: str
    points: Sequence[Sequence[float]]
    mask: Path | Pixels | None


def import_dragbench(directory: Path, out: Path | None = None) -> Imported:
    """Write a job for DragBench: folders with `original_image.png` and `meta_data.pkl`.

    Args:
        out: folder for the job, its edits and masks; by default the dataset's own.

    Raises:
        InvalidEdit: if there is no sample that can be read, or `out` cannot be written.
    """
    return _import(directory, out or directory, "meta_data.pkl", "original_image.png", _dragbench)


def import_drag100(directory: Path, out: Path | None = None) -> Imported:
    """Write a job for Drag100: folders with `original.jpg`, `points.json` and `mask.png`.

    Raises:
        InvalidEdit: as `import_dragbench`.
    """
    return _import(directory, out or directory, "points.json", "original.jpg", _drag100)


def dragscenes(count: int | None) -> tuple[tuple[int, int], ...]:
    """Choose drags of DragScenes: `count` of the benchmark, or those of the ablation if None.

    Raises:
        InvalidEdit: if there are not so many.
    """
    from adaptivedrag.scenes import ablation_drags, benchmark_drags

    try:
        return ablation_drags() if count is None else benchmark_drags(count=count)
    except ValueError as error:
        raise InvalidEdit(f"DragScenes cannot give {count} edits: {error}") from None


def import_dragscenes(
    directory: Path, edits: Sequence[tuple[int, int]], *, size: int = 256
) -> Imported:
    """Render scenes and write a job of their drags, with the true masks as the edits' masks.

    The true mask is what the dragged part covers before the drag and after it. Edits of one scene
    share their image and prompt.

    Args:
        directory: folder for images, masks and the job.
        edits: scene number and index of the drag, as `adaptivedrag.scenes.benchmark_drags` has it.
        size: side of the pictures in pixels.

    Raises:
        InvalidEdit: if the size or an index is out of range, or `directory` cannot be written.
    """
    from adaptivedrag.scenes import benchmark_scene, drags, render

    if size not in SCENE_SIZES:
        raise InvalidEdit(
            f"size {size} is out of range: pictures of scenes have {SCENE_SIZES[0]} to "
            f"{SCENE_SIZES[-1]} pixels"
        )
    lines: list[dict[str, Any]] = []
    try:
        for number in dict.fromkeys(number for number, _ in edits):
            scene = benchmark_scene(number)
            seen, before = drags(scene), render(scene, size)
            image = f"{IMAGE_FOLDER}/scene-{number:03d}.png"
            _write_png(directory / image, before.image)
            shared = {"image": image, "prompt": scene.caption()}
            for index in (index for own, index in edits if own == number):
                if index >= len(seen):
                    raise InvalidEdit(f"scene {number} has {len(seen)} drags, and none is {index}")
                line = _scene_line(number, index, seen[index], size) | shared
                line["tags"] = [scene.kind, seen[index].kind]
                _write_png(directory / line["mask"], _true_mask(before, seen[index], size))
                lines.append(line)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    images = len({line["image"] for line in lines})
    job = _write_job(directory, directory, lines)
    return Imported(job, images, sum(len(line["drags"]) for line in lines), ())


def load_arrays(path: Path) -> Any:
    """Read a pickle that holds numpy arrays, numbers, texts and builtin containers only.

    Nothing that the pickle names is imported or called: arrays are rebuilt by this module from
    their shape, type and bytes.

    Raises:
        InvalidEdit: in one line that names the file and, if it names anything else, what.
    """
    try:
        if path.stat().st_size > PICKLE_LIMIT:
            raise _Unacceptable(f"has more than {PICKLE_LIMIT >> 20} MiB")
        data = path.read_bytes()
        _screen(data)
        return _ArrayUnpickler(io.BytesIO(data)).load()
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None
    except _Unacceptable as error:
        raise InvalidEdit(f"{path} {error}: skipped, for only numpy arrays are admitted") from None
    # The unpickler raises errors of many types on damaged bytes.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidEdit(f"{path} is a damaged pickle: {reason}") from error


class _Unacceptable(Exception):
    """Why a pickle is refused, without its name."""


_REFUSED_OPCODES = {
    *("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ"),
    *("NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "READONLY_BUFFER"),
}


def _screen(data: bytes) -> None:
    """Refuse opcodes without a use here, and indices by which a few bytes ask for gigabytes."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > OPCODE_LIMIT:
            raise _Unacceptable(f"has more than {OPCODE_LIMIT} opcodes")
        if opcode.name == "GLOBAL":
            _ArrayUnpickler.check(*str(argument).split(" ", 1))
        if opcode.name in _REFUSED_OPCODES:
            raise _Unacceptable(f"uses the opcode {opcode.name}")
        if "PUT" in opcode.name and int(argument or 0) > OPCODE_LIMIT:
            raise _Unacceptable(f"has a memo index of {argument}")


class _Dtype:
    """Stands for a numpy dtype of plain numbers; made from what `numpy.dtype` is called with."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *_flags: object) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise _Unacceptable(f"has an array of type {code!r:.40}")
        self._code, self._order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = ">" if state[1] == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class _Array:
    """Stands for a numpy array, whichever way it was pickled."""

    __slots__ = ("values",)

    def __init__(self, *_arguments: object) -> None:
        self.values: np.ndarray[Any, Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, is_fortran, raw = state
        self.values = _rebuilt(raw, dtype, shape, "F" if is_fortran else "C")


class _BufferArray(_Array):
    """Stands for an array pickled with protocol 5."""

    __slots__ = ()

    def __init__(self, raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.values = _rebuilt(raw, dtype, shape, order)


class _Scalar:
    """Stands for a numpy number; becomes a builtin one at once."""

    def __new__(cls, dtype: _Dtype, raw: bytes) -> Any:
        return _rebuilt(raw, dtype, (1,), "C")[0].item()


class _Encoded:
    """Stands for `_codecs.encode`, by which old protocols write bytes as text."""

    def __new__(cls, text: str, encoding: str) -> Any:
        if encoding != "latin1":
            raise _Unacceptable(f"encodes as {encoding!r:.40}")
        return text.encode("latin1")


def _rebuilt(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> Any:
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C").copy()


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _BufferArray),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves the few names by which numpy 1 and 2 pickle arrays to stand-ins of this module."""

    @classmethod
    def check(cls, module: str, name: str) -> None:
        if (module, name) not in _STAND_INS:
            raise _Unacceptable(f"names {module}.{name}"[:120])

    def find_class(self, module: str, name: str) -> Any:
        self.check(module, name)
        return _STAND_INS[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise _Unacceptable("refers to something outside itself")


def _import(
    directory: Path, out: Path, marker: str, image: str, read: Callable[[Path], _Sample]
) -> Imported:
    edits, skipped = [], []
    for folder in _folders_with(directory, marker):
        try:
            edits.append(_edit_line(directory, folder / image, out, read(folder)))
        except InvalidEdit as error:
            skipped.append(str(error))
        except OSError as error:
            raise _cannot_write(out, error) from error
    if not edits:
        why = f": {skipped[0]}" if skipped else f": no folder under it has a {marker}"
        raise InvalidEdit(f"{directory} has no sample that can be imported{why}")
    drags = sum(len(edit["drags"]) for edit in edits)
    return Imported(_write_job(directory, out, edits), len(edits), drags, tuple(skipped))


def _scene_line(number: int, index: int, drag: "SceneDrag", size: int) -> dict[str, Any]:
    name = f"scene-{number:03d}-{index}-{drag.kind}"
    return {
        "id": name,
        "drags": [
            {"handle": _rounded(handle), "target": _rounded(target)}
            for handle, target in drag.pixels(size)
        ],
        "mask": f"{MASK_FOLDER}/{name}.png",
        "scene": {"number": number, "drag": index},
    }


def _true_mask(before: "Rendering", drag: "SceneDrag", size: int) -> Pixels:
    from adaptivedrag.scenes import render

    mask = before.mask(drag.part) | render(drag.after, size).mask(drag.part)
    return np.where(mask, 255, 0).astype(np.uint8)


def _rounded(point: Sequence[float]) -> list[float]:
    return [round(float(value), 2) for value in point]


def _folders_with(directory: Path, marker: str) -> Iterator[Path]:
    """Yield the folders of samples in order, never through a link."""
    if not directory.is_dir():
        raise InvalidEdit(f"{directory} is not a folder: name the folder of the dataset")
    for folder, folders, files in os.walk(directory):
        folders.sort()
        if marker in files:
            yield Path(folder)


def _edit_line(directory: Path, image: Path, out: Path, sample: _Sample) -> dict[str, Any]:
    """Return one line of the edits file, after writing the sample's mask if it is not a file."""
    if not image.is_file():
        raise InvalidEdit(f"{image} is missing: the sample is skipped")
    parts = image.parent.relative_to(directory).parts or (directory.resolve().name,)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", ".".join(parts)).lstrip(".")
    edit: dict[str, Any] = {
        "id": name,
        "image": image.relative_to(directory).as_posix(),
        "prompt": sample.prompt,
        "drags": _drags(image.parent, sample.points),
        "tags": [parts[0] if len(parts) > 1 else parts[0].rsplit("_", 1)[0]],
    }
    if isinstance(sample.mask, Path):
        edit["mask"] = sample.mask.relative_to(directory).as_posix()
    elif sample.mask is not None:
        edit["mask"] = f"{MASK_FOLDER}/{name}.png"
        _write_png(out / edit["mask"], sample.mask)
    return edit


def _write_png(path: Path, pixels: Pixels) -> None:
    """Write a picture unless it says so already: an untouched file need not be read again."""
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    data = encoded.getvalue()
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _drags(folder: Path, points: Sequence[Sequence[float]]) -> list[dict[str, list[float]]]:
    """Pair up a flat list handle, target, handle, target, …"""
    pairs = [[_coordinate(folder, value) for value in point] for point in points]
    if not pairs or len(pairs) % 2 or any(len(pair) != 2 for pair in pairs):
        raise InvalidEdit(f"{folder}: points are not pairs of handle and target (x, y)")
    return [
        {"handle": handle, "target": target}
        for handle, target in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def _coordinate(folder: Path, value: object) -> int | float:
    if isinstance(value, np.number):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidEdit(f"{folder}: {value!r:.40} is not a coordinate")
    return value


def _dragbench(folder: Path) -> _Sample:
    path = folder / "meta_data.pkl"
    meta = load_arrays(path)
    if not isinstance(meta, dict) or not {"prompt", "points"} <= meta.keys():
        raise InvalidEdit(f"{path} does not hold a dictionary with prompt and points")
    prompt, points, mask = meta["prompt"], _plain(meta["points"]), _plain(meta.get("mask"))
    if not isinstance(prompt, str) or not _is_nested(points):
        raise InvalidEdit(f"{path}: prompt is not a text, or points is not a list of points")
    if mask is None:
        return _Sample(prompt, points, None)
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or max(mask.shape) > MASK_SIDE_LIMIT:
        raise InvalidEdit(f"{path}: mask is not an array of rows and columns")
    return _Sample(prompt, points, np.where(mask > 0, 255, 0).astype(np.uint8))


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value


def _is_nested(points: Any) -> bool:
    """Tell whether `points` is a list of lists, or an array of rows."""
    if isinstance(points, np.ndarray):
        return points.ndim == 2
    return isinstance(points, list | tuple) and all(isinstance(p, list | tuple) for p in points)


def _drag100(folder: Path) -> _Sample:
    path, mask = folder / "points.json", folder / "mask.png"
    try:
        points = json.loads(path.read_text("utf-8"))["points"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidEdit(f"{path} does not hold points: {error}") from error
    if not _is_nested(points):
        raise InvalidEdit(f"{path}: points is not a list of points")
    return _Sample("", points, mask if mask.is_file() else None)


def _write_job(directory: Path, out: Path, edits: Sequence[dict[str, Any]]) -> Path:
    own_masks = any(edit.get("mask", "").startswith(f"{MASK_FOLDER}/") for edit in edits)
    settings = {"edits": "edits.jsonl", "image_root": _relative(directory, out)}
    if own_masks:
        settings["mask_root"] = "."
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    lines = "".join(f"{json.dumps(edit, ensure_ascii=False)}\n" for edit in edits)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "edits.jsonl").write_text(lines, "utf-8")
        (out / "job.toml").write_text(text, "utf-8")
    except OSError as error:
        raise _cannot_write(out, error) from error
    return out / "job.toml"


def _relative(directory: Path, out: Path) -> str:
    """Return how the job file names the dataset: within its own folder, else in full."""
    return "." if directory.resolve() == out.resolve() else str(directory.resolve())


def _cannot_write(out: Path, error: OSError) -> InvalidEdit:
    return InvalidEdit(
        f"{out} cannot be written ({error.strerror}): name another folder with --out"
    )
