"""What every importer writes: a job file, its edits, and the images and masks of its own."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaptivedrag.errors import InvalidEdit
from stages.jobs.image_folder import locate
from stages.jobs.images import Pixels
from stages.jobs.toml import toml_document

MASK_FOLDER = "user_mask"
LARGEST_COORDINATE = 1_000_000
MASK_FREE = """
# The benchmark's protocol has no masks: they are for its measures. true makes edits use them.
use_mask = false
"""


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
class Sample:
    """A sample as read; `mask` is a file of the dataset, or values to be written as one."""

    prompt: str
    points: Sequence[Sequence[float]]
    mask: Path | Pixels | None


def import_samples(
    directory: Path, out: Path, marker: str, image: str, read: Callable[[Path], Sample]
) -> Imported:
    """Write a job of the samples of a benchmark; one that cannot be read is skipped with a line.

    Args:
        marker: the file that makes a folder a sample.
        image: name of the image in that folder.
        read: reads a folder; raises InvalidEdit if it cannot.

    Raises:
        InvalidEdit: if there is no sample that can be read, or `out` cannot be written.
    """
    edits, skipped = [], []
    for folder in _folders_with(directory, marker):
        try:
            locate(directory, (folder / marker).relative_to(directory).as_posix())
            edits.append(_edit_line(directory, folder / image, out, read(folder)))
        except InvalidEdit as error:
            skipped.append(str(error))
        except OSError as error:
            raise cannot_write(out, error) from error
    if not edits:
        why = f": {skipped[0]}" if skipped else f": no folder under it has a {marker}"
        raise InvalidEdit(f"{directory} has no sample that can be imported{why}")
    drags = sum(len(edit["drags"]) for edit in edits)
    job = write_job(directory, out, edits, is_mask_free=True)
    return Imported(job, len(edits), drags, tuple(skipped))


def _folders_with(directory: Path, marker: str) -> Iterator[Path]:
    """Yield the folders of samples in order, never through a link."""
    if not directory.is_dir():
        raise InvalidEdit(f"{directory} is not a folder: name the folder of the dataset")
    for folder, folders, files in os.walk(directory):
        folders.sort()
        if marker in files:
            yield Path(folder)


def _edit_line(directory: Path, image: Path, out: Path, sample: Sample) -> dict[str, Any]:
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
        write_png(out, edit["mask"], sample.mask)
    return edit


def _drags(folder: Path, points: Sequence[Sequence[float]]) -> list[dict[str, list[float]]]:
    """Pair up a flat list handle, target, handle, target, …"""
    # Before any value is read: a list may hold one long list thousands of times.
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
    if not abs(value) <= LARGEST_COORDINATE:
        raise InvalidEdit(f"{folder}: a number beyond {LARGEST_COORDINATE} is not a coordinate")
    return value


def is_nested(points: Any) -> bool:
    """Return whether `points` is a list of lists, or an array of rows."""
    if isinstance(points, np.ndarray):
        return points.ndim == 2
    return isinstance(points, list | tuple) and all(isinstance(p, list | tuple) for p in points)


def write_job(
    directory: Path, out: Path, edits: Sequence[dict[str, Any]], *, is_mask_free: bool = False
) -> Path:
    """Write a job file and its edits to `out`; `directory` holds the images.

    Args:
        is_mask_free: whether the job leaves its masks aside.

    Raises:
        InvalidEdit: if they cannot be written.
    """
    own_masks = any(edit.get("mask", "").startswith(f"{MASK_FOLDER}/") for edit in edits)
    settings = {"edits": "edits.jsonl", "image_root": _relative(directory, out)}
    if own_masks:
        settings["mask_root"] = "."
    lines = "".join(f"{json.dumps(edit, ensure_ascii=False)}\n" for edit in edits)
    try:
        # Half of a surrogate pair can be pickled, or be in a file's name; that edit is a bad one.
        _write(out, "edits.jsonl", lines.encode("utf-8", "replace"))
        job = toml_document(settings) + MASK_FREE * is_mask_free
        _write(out, "job.toml", job.encode())
    except UnicodeEncodeError:
        raise InvalidEdit(f"{directory} has a name that is not UTF-8: rename it") from None
    except OSError as error:
        raise cannot_write(out, error) from error
    return out / "job.toml"


def write_png(root: Path, name: str, pixels: Pixels) -> None:
    """Write an image below `root`, unless the same one is there."""
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    _write(root, name, encoded.getvalue())


def _write(root: Path, name: str, data: bytes) -> None:
    """Write a file below `root`, unless the same one is there: what is known of it stays true.

    A dataset may hold links: they are replaced, never followed.
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


def _relative(directory: Path, out: Path) -> str:
    """Return how the job file names the dataset: within its own folder, else in full."""
    return "." if directory.resolve() == out.resolve() else str(directory.resolve())


def cannot_write(out: Path, error: OSError) -> InvalidEdit:
    """Return the error of an output folder that the system does not let us write."""
    return InvalidEdit(
        f"{out} cannot be written ({error.strerror}): name another folder with --out"
    )
