"""What every importer writes: a job file, its edits, and the images and masks of its own."""

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from adaptivedrag.errors import InvalidEdit
from stages.images import Pixels
from stages.jobs.absent import remedy, stand_in
from stages.jobs.ids import Ids
from stages.jobs.image_folder import locate
from stages.jobs.importers.points import in_turn
from stages.jobs.spec import EDITS_FILE
from stages.jobs.toml import toml_document

Line: TypeAlias = dict[str, Any]
"""A line of the edits file."""

IMAGE_FOLDER = "images"
MASK_FOLDER = "user_mask"
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
        notes: what was changed, left out, or is still to be written.
    """

    job: Path
    images: int
    drags: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, job: Path, edits: Sequence[Line], skipped: Iterable[str], notes: Iterable[str] = ()
    ) -> Self:
        """Count what the edits of a job have."""
        images = len({edit["image"] for edit in edits})
        drags = sum(len(edit["drags"]) for edit in edits)
        return cls(job, images, drags, tuple(skipped), tuple(notes))


@dataclass(frozen=True)
class Sample:
    """A sample as read; `mask` is a file of the dataset, or values to be written as one."""

    prompt: str
    points: Sequence[Sequence[float]]
    mask: Path | Pixels | None


def import_samples(
    directory: Path,
    out: Path,
    marker: str,
    image: str,
    read: Callable[[Path], Sample],
    *,
    follow_links: bool,
) -> Imported:
    """Write a job of the samples of a benchmark; one that cannot be read is skipped with a line.

    Args:
        marker: the file that makes a folder a sample.
        image: name of the image in that folder.
        read: reads a folder; raises InvalidEdit if it cannot.
        follow_links: take files and folders that are links out of the dataset.

    Raises:
        InvalidEdit: if there is no sample that can be read, or `out` cannot be written.
    """
    edits, skipped, ids = [], [], Ids()
    for folder, files in folders(directory, follow_links=follow_links):
        if marker not in files:
            continue
        try:
            for name in (marker, image):
                _check(directory, folder / name, follow_links)
            sample = _sample(read, folder, marker)
            edits.append(_edit_line(directory, folder / image, out, sample, ids))
        except InvalidEdit as error:
            skipped.append(str(error))
        except OSError as error:
            raise cannot_write(out, error) from error
    if not edits:
        why = f": {skipped[0]}" if skipped else f": no folder under it has a {marker}"
        raise InvalidEdit(f"{directory} has no sample that can be imported{why}")
    own_masks = any(edit.get("mask", "").startswith(f"{MASK_FOLDER}/") for edit in edits)
    job = write_job(
        directory, out, edits, own_masks=own_masks, follow_links=follow_links, is_benchmark=True
    )
    return Imported.of(job, edits, skipped)


def folders(directory: Path, *, follow_links: bool) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it in order, each once, with the names of their files.

    Raises:
        InvalidEdit: if `directory` is not a folder.
    """
    if not directory.is_dir():
        why = remedy(directory.parent, directory.name)
        raise InvalidEdit(f"{directory} is not a folder of a dataset: {why}")
    seen = set[Path]()
    for folder, inner, files in os.walk(directory, followlinks=follow_links):
        inner.sort()
        path = Path(folder)
        if follow_links:
            inner[:] = [name for name in inner if (path / name).resolve() not in seen]
            seen |= {(path / name).resolve() for name in inner}
        yield path, files


def _check(directory: Path, path: Path, follow_links: bool) -> None:
    """Check that a file of a sample is there, and no link out of the dataset."""
    name = path.relative_to(directory).as_posix()
    locate(directory, name, follow_links=follow_links)


def _sample(read: Callable[[Path], Sample], folder: Path, marker: str) -> Sample:
    try:
        return read(folder)
    except InvalidEdit:
        if why := stand_in(folder / marker):
            raise InvalidEdit(f"{folder}: {why}") from None
        raise


def _edit_line(directory: Path, image: Path, out: Path, sample: Sample, ids: Ids) -> Line:
    """Return one line of the edits file, after writing the sample's mask if it is not a file."""
    parts = image.parent.relative_to(directory).parts or (directory.resolve().name,)
    try:
        drags = in_turn(sample.points)
    except InvalidEdit as error:
        raise InvalidEdit(f"{image.parent}: {error}") from None
    name = ids.claim(".".join(parts))
    edit: Line = {
        "id": name,
        "image": image.relative_to(directory).as_posix(),
        "prompt": sample.prompt,
        "drags": drags,
        "tags": [parts[0] if len(parts) > 1 else parts[0].rsplit("_", 1)[0]],
    }
    if isinstance(sample.mask, Path):
        edit["mask"] = sample.mask.relative_to(directory).as_posix()
    elif sample.mask is not None:
        edit["mask"] = f"{MASK_FOLDER}/{name}.png"
        write_png(out, edit["mask"], sample.mask)
    return edit


def is_nested(points: Any) -> bool:
    """Return whether `points` is a list of lists, or an array of rows."""
    if isinstance(points, np.ndarray):
        return points.ndim == 2
    rows = list, tuple, np.ndarray
    return isinstance(points, list | tuple) and all(isinstance(each, rows) for each in points)


def write_job(
    directory: Path,
    out: Path,
    edits: Sequence[Line],
    *,
    own_masks: bool = False,
    follow_links: bool = False,
    is_benchmark: bool = False,
) -> Path:
    """Write a job file and its edits to `out`; `directory` holds the images.

    Args:
        own_masks: whether the masks were written to `out`.
        follow_links: whether the job takes images that are links out of `directory`.
        is_benchmark: whether the job leaves its masks aside, and replaces another one in `out`:
            it can be had again, which is not so of edits that somebody goes on writing.

    Raises:
        InvalidEdit: if they cannot be written, or are there and say something else.
    """
    settings: dict[str, Any] = {"edits": EDITS_FILE, "image_root": _relative(directory, out)}
    if own_masks:
        settings["mask_root"] = "."
    if follow_links:
        settings["follow_links"] = True
    lines = "".join(f"{json.dumps(edit, ensure_ascii=False)}\n" for edit in edits)
    try:
        # Half of a surrogate pair can be pickled, or be in a file's name; that edit is a bad one.
        job = toml_document(settings) + MASK_FREE * is_benchmark
        files = {EDITS_FILE: lines.encode("utf-8", "replace"), "job.toml": job.encode()}
        if not is_benchmark:
            _refuse_others(out, files)
        for name, data in files.items():
            _write(out, name, data)
    except UnicodeEncodeError:
        raise InvalidEdit(f"{directory} has a name that is not UTF-8: rename it") from None
    except OSError as error:
        raise cannot_write(out, error) from error
    return out / "job.toml"


def _refuse_others(out: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = out / name
        if os.path.lexists(path) and (not path.is_file() or path.read_bytes() != data):
            raise InvalidEdit(
                f"{path} is there already, and may have been edited: name another folder with "
                "--out, or move it away"
            )


def unfinished(edits: Sequence[Line]) -> Iterator[str]:
    """Say how many edits have no drags yet, and how they are written."""
    if number := sum(not edit["drags"] for edit in edits):
        yield (
            f"{number} of {len(edits)} edits have no drags yet: write them in {EDITS_FILE} as "
            '"drags": [{"handle": [x, y], "target": [x, y]}], in pixels of the image'
        )


def write_picture(root: Path, name: str, data: bytes) -> str:
    """Write the bytes of a picture below `root`; return its name with the suffix of its format.

    Raises:
        InvalidEdit: if they are no picture.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            named = f"{name}.{(picture.format or '').lower()}"
    # Damaged bytes end in errors of many types.
    except Exception as error:
        raise InvalidEdit(f"its bytes are no picture: {' '.join(str(error).split())}") from error
    _write(root, named, data)
    return named


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
