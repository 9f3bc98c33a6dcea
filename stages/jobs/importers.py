"""Drag benchmarks as jobs: published samples stay where they are, and scenes are rendered.

A dataset's own masks are kept, as `user_mask`, for comparison; no job uses them unless it sets
`build_mask.mode = "user"`.
"""

import io
import json
import os
import pickletools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptivedrag.errors import InvalidEdit
from stages.jobs.image_files import locate
from stages.jobs.images import Pixels

if TYPE_CHECKING:
    from adaptivedrag.scenes import Rendering, SceneDrag

MASK_FOLDER = "user_mask"
IMAGE_FOLDER = "images"
SCENE_SIZES = range(64, 2049)
PICKLE_LIMIT = 64 << 20
OPCODE_LIMIT = 100_000
MASK_SIDE_LIMIT = 16_384
COORDINATE_LIMIT = 1_000_000
POINTS_LIMIT = 1 << 20


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


def dragscenes(count: int | None, scenes: int = 25) -> tuple[tuple[int, int], ...]:
    """Choose drags of DragScenes: `count` on the first `scenes`, or the ablation's if None.

    Raises:
        InvalidEdit: if there are not so many.
    """
    from adaptivedrag.scenes import ablation_drags, benchmark_drags

    try:
        return ablation_drags() if count is None else benchmark_drags(scenes, count)
    except ValueError as error:
        raise InvalidEdit(
            f"DragScenes cannot give {count} edits on {scenes} scenes: {error}"
        ) from None


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
            _write_png(directory, image, before.image)
            shared = {"image": image, "prompt": scene.caption()}
            for index in (index for own, index in edits if own == number):
                if index >= len(seen):
                    raise InvalidEdit(f"scene {number} has {len(seen)} drags, and none is {index}")
                line = _scene_line(number, index, seen[index], size) | shared
                line["tags"] = [scene.kind, seen[index].kind]
                _write_png(directory, line["mask"], _true_mask(before, seen[index], size))
                lines.append(line)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    images = len({line["image"] for line in lines})
    job = _write_job(directory, directory, lines)
    return Imported(job, images, sum(len(line["drags"]) for line in lines), ())


def load_arrays(path: Path) -> Any:
    """Read a pickle that holds numpy arrays, numbers, texts and builtin containers only.

    Python's unpickler is not used: it imports and calls what a pickle names, sets attributes of
    it, and can be kept busy for ever by a few bytes. The few opcodes of which such pickles are
    made are run here, and arrays rebuilt from their shape, type and bytes.

    Raises:
        InvalidEdit: in one line that names the file and, if it names anything else, what.
    """
    try:
        if path.stat().st_size > PICKLE_LIMIT:
            raise _Unacceptable(f"has more than {PICKLE_LIMIT >> 20} MiB")
        return _Machine().run(path.read_bytes())
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None
    except _Unacceptable as error:
        raise InvalidEdit(f"{path} {error}: skipped, for only numpy arrays are admitted") from None
    # Damaged bytes end in errors of many types.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidEdit(f"{path} is a damaged pickle: {reason:.200}") from error


class _Unacceptable(Exception):
    """Why a pickle is refused, without its name."""


class _Dtype:
    """A numpy dtype of plain numbers; made from what `numpy.dtype` is called with."""

    def __init__(self, code: str, *_flags: object) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise _Unacceptable(f"has an array of type {code!r:.40}")
        self._code, self._order = code, "<"

    def build(self, state: tuple[Any, ...]) -> None:
        """Take what `__setstate__` of a dtype is given."""
        self._order = ">" if state[1] == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class _Array:
    """A numpy array, whichever way it was pickled."""

    def __init__(self, *_arguments: object) -> None:
        self.values: np.ndarray[Any, Any] = np.empty(0)

    def build(self, state: tuple[Any, ...]) -> None:
        """Take what `__setstate__` of an array is given."""
        _version, shape, dtype, is_fortran, raw = state
        self.values = _rebuilt(raw, dtype, shape, "F" if is_fortran else "C")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """Rebuild an array that was pickled with protocol 5."""
    array = _Array()
    array.values = _rebuilt(raw, dtype, shape, order)
    return array


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    return _rebuilt(raw, dtype, (1,), "C")[0].item()


def _encoded(text: str, encoding: str) -> bytes:
    """Do what `_codecs.encode` is named for, by which old protocols write bytes as text."""
    if _expected(str, encoding) != "latin1":
        raise _Unacceptable(f"encodes as {encoding!r:.40}")
    return text.encode("latin1")


def _rebuilt(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> Any:
    # A view: a pickle may have thousands of arrays of the same bytes.
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
"""The names by which numpy 1 and 2 pickle arrays, and what stands for them here."""

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
    *("BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """A name that a pickle gave; calling is all that can be done with it."""

    stand_in: Callable[..., Any]


@dataclass
class _Machine:
    """Runs the opcodes of a pickle on a stack."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    encoded: int = 0

    def run(self, data: bytes) -> Any:
        """Return what the pickle holds."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > OPCODE_LIMIT:
                raise _Unacceptable(f"has more than {OPCODE_LIMIT} opcodes")
            self._step(opcode.name, argument)
        return self.stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _LITERALS:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if name == "EMPTY_LIST" else {})
            case "MARK":
                self.marks.append(len(stack))
            case "LIST":
                stack.append(self._since_mark())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case _ if name in _TUPLES:
                stack.append(tuple(self._last(_TUPLES[name])))
            case "APPEND" | "APPENDS":
                items = self._last(1) if name == "APPEND" else self._since_mark()
                _expected(list, stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._last(2) if name == "SETITEM" else self._since_mark()
                _expected(dict, stack[-1]).update(_entries(items))
            case "DICT":
                stack.append(_entries(self._since_mark()))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._remember(int(argument))
            case "MEMOIZE":
                self._remember(len(self.memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[int(argument)])
            case "POP":
                stack.pop()
            case "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_named(*self._last(2)))
            case "REDUCE":
                self._call(*self._last(2))
            case "BUILD":
                (state,) = self._last(1)
                _expected((_Array, _Dtype), stack[-1]).build(state)
            case _:
                raise _Unacceptable(f"uses the opcode {name}")

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _remember(self, index: int) -> None:
        if index > OPCODE_LIMIT:
            raise _Unacceptable(f"has a memo index of {index}")
        self.memo[index] = self.stack[-1]

    def _call(self, name: Any, arguments: Any) -> None:
        stand_in = _expected(_Name, name).stand_in
        if stand_in is _encoded:
            # One text can be encoded thousands of times.
            self.encoded += len(arguments[0])
            if self.encoded > PICKLE_LIMIT:
                raise _Unacceptable(f"encodes more than {PICKLE_LIMIT >> 20} MiB")
        self.stack.append(stand_in(*arguments))


def _named(module: Any, name: Any) -> _Name:
    """Look a name up; nested tuples in its place could take for ever to hash, or to print."""
    _expected(str, module)
    _expected(str, name)
    if (module, name) not in _NAMES:
        raise _Unacceptable(f"names {module}.{name}"[:120])
    return _Name(_NAMES[module, name])


def _expected(kind: type[Any] | tuple[type[Any], ...], value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"an opcode was given a {type(value).__name__}")
    return value


def _entries(items: Sequence[Any]) -> dict[str, Any]:
    """Pair up keys and values; a key of nested tuples could take for ever to hash."""
    return {_expected(str, key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _import(
    directory: Path, out: Path, marker: str, image: str, read: Callable[[Path], _Sample]
) -> Imported:
    edits, skipped = [], []
    for folder in _folders_with(directory, marker):
        try:
            locate(directory, (folder / marker).relative_to(directory).as_posix())
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
        _write_png(out, edit["mask"], sample.mask)
    return edit


def _write_png(root: Path, name: str, pixels: Pixels) -> None:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    _write(root, name, encoded.getvalue())


def _write(root: Path, name: str, data: bytes) -> None:
    """Write a file below `root`, unless it is there: an untouched one need not be read again.

    A dataset of others may hold links: they are replaced, never followed.
    """
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise InvalidEdit(f"{path.parent} is a link out of {root}: remove it")
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(data)


def _drags(folder: Path, points: Sequence[Sequence[float]]) -> list[dict[str, list[float]]]:
    """Pair up a flat list handle, target, handle, target, …"""
    # First of all: a list may hold one long list thousands of times.
    if not len(points) or len(points) % 2 or any(len(point) != 2 for point in points):
        raise InvalidEdit(f"{folder}: points are not pairs of handle and target (x, y)")
    pairs = [[_coordinate(folder, value) for value in point] for point in points]
    return [
        {"handle": handle, "target": target}
        for handle, target in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def _coordinate(folder: Path, value: object) -> int | float:
    if isinstance(value, np.number):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidEdit(f"{folder}: a {type(value).__name__} is not a coordinate")
    if not abs(value) <= COORDINATE_LIMIT:
        raise InvalidEdit(f"{folder}: a number beyond {COORDINATE_LIMIT} is not a coordinate")
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
    if not isinstance(mask, np.ndarray) or mask.ndim != 2:
        raise InvalidEdit(f"{path}: mask is not an array of rows and columns")
    if not mask.size or max(mask.shape) > MASK_SIDE_LIMIT:
        raise InvalidEdit(f"{path}: mask has {mask.shape[0]} rows and {mask.shape[1]} columns")
    return _Sample(prompt, points, (mask > 0) * np.uint8(255))


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
        if path.stat().st_size > POINTS_LIMIT:
            raise InvalidEdit(f"{path} has more than {POINTS_LIMIT >> 20} MiB: it is skipped")
        points = json.loads(path.read_text("utf-8"))["points"]
    except InvalidEdit:
        raise
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
        # Half a character can be pickled, and be in a file's name; the edit is a bad one then.
        _write(out, "edits.jsonl", lines.encode("utf-8", "replace"))
        _write(out, "job.toml", text.encode())
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
