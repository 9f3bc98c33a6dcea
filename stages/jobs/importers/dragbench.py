"""DragBench: folders with `original_image.png` and `meta_data.pkl`.

DragBench-SR and DragBench-DR have `meta_data_region.pkl` beside it, where regions are dragged: all
their points, handle and target in turn.
"""

import io
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from adaptivedrag.errors import InvalidEdit
from stages.jobs.importers.writer import Imported, Sample, import_samples, is_nested

POINTS, REGIONS = "meta_data.pkl", "meta_data_region.pkl"
REGION_DRAGS = 16
"""Drags that stand for the regions of a sample: enough for their shapes, and few to optimize."""
LARGEST_PICKLE = 64 << 20
LONGEST_MASK_SIDE = 16_384

Array: TypeAlias = np.ndarray[Any, Any]


def import_dragbench(
    directory: Path, out: Path | None = None, *, regions: bool = False, follow_links: bool = False
) -> Imported:
    """Write a job for DragBench, or for DragBench-SR and DragBench-DR, which have regions too.

    Args:
        out: folder for the job, its edits and masks; by default the dataset's own.
        regions: take the dragged regions of DragBench-SR or -DR: each is many points, of which
            `REGION_DRAGS` are chosen, spread as evenly as can be.
        follow_links: take files that are links out of the folder.

    Raises:
        InvalidEdit: if there is no sample that can be read, or `out` cannot be written.
    """
    files = (REGIONS if regions else POINTS), "original_image.png"
    read = _read_regions if regions else _read_points
    return import_samples(directory, out or directory, *files, read, follow_links=follow_links)


def _read_points(folder: Path) -> Sample:
    return _read_sample(folder / POINTS)


def _read_regions(folder: Path) -> Sample:
    sample = _read_sample(folder / REGIONS)
    return replace(sample, points=_spread(folder, sample.points))


def _spread(folder: Path, points: Any) -> Any:
    """Choose pairs of handle and target whose handles lie far from each other, from the middle."""
    try:
        pairs = np.array(points, np.float64).reshape(-1, 2, 2)
    except (ValueError, TypeError, OverflowError):
        pairs = np.empty((0, 2, 2))
    if 2 * len(pairs) != len(points) or not len(pairs) or not np.isfinite(pairs).all():
        raise InvalidEdit(f"{folder}: points are not pairs of handle and target (x, y)")
    handles = pairs[:, 0]
    chosen = [_distance(handles, handles.mean(axis=0)).argmin()]
    nearest = _distance(handles, handles[chosen[0]])
    while len(chosen) < REGION_DRAGS and nearest.max() > 0:
        chosen.append(nearest.argmax())
        nearest = np.minimum(nearest, _distance(handles, handles[chosen[-1]]))
    return pairs[chosen].reshape(-1, 2).tolist()


def _distance(points: Array, point: Array) -> Array:
    distance: Array = np.hypot(*(points - point).T)
    return distance


def _read_sample(path: Path) -> Sample:
    meta = load_arrays(path)
    if not isinstance(meta, dict) or not {"prompt", "points"} <= meta.keys():
        raise InvalidEdit(f"{path} does not hold a dictionary with prompt and points")
    prompt, points, mask = meta["prompt"], _values(meta["points"]), _values(meta.get("mask"))
    if isinstance(points, list | tuple):
        points = [_values(point) for point in points]
    if not isinstance(prompt, str) or not is_nested(points):
        raise InvalidEdit(f"{path}: prompt is not a text, or points is not a list of points")
    if mask is None:
        return Sample(prompt, points, None)
    if not isinstance(mask, np.ndarray) or mask.ndim != 2:
        raise InvalidEdit(f"{path}: mask is not an array of rows and columns")
    if not mask.size or max(mask.shape) > LONGEST_MASK_SIDE:
        raise InvalidEdit(f"{path}: mask has {mask.shape[0]} rows and {mask.shape[1]} columns")
    return Sample(prompt, points, (mask > 0) * np.uint8(255))


def load_arrays(path: Path) -> Any:
    """Read a pickle of numpy arrays, numbers, texts and builtin containers.

    Nothing that a pickle names is imported or called. numpy's own types would let crafted bytes
    pass for objects, so arrays are `PickledArray` here, rebuilt from shape, type and bytes.

    Raises:
        InvalidEdit: in one line that names the file and, if it names anything else, what.
    """
    try:
        if path.stat().st_size > LARGEST_PICKLE:
            raise pickle.UnpicklingError(f"it has more than {LARGEST_PICKLE >> 20} MiB")
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None
    # Damaged bytes end in errors of many types.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidEdit(f"{path} is skipped, a pickle we do not read: {reason:.200}") from error


class PickledType:
    """Stands for a numpy type of plain numbers."""

    def __init__(self, code: str, *_flags: object) -> None:
        """Take what `numpy.dtype` is called with."""
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise pickle.UnpicklingError(f"it has an array of type {code!r:.40}")
        self._code, self._order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, all that a type of plain numbers has for a state."""
        self._order = ">" if state[1] == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type itself."""
        return np.dtype(self._order + self._code)


class PickledArray:
    """Stands for a numpy array, and for the functions and types that begin one."""

    def __init__(self, *_arguments: object) -> None:
        """Begin without values."""
        self.values: np.ndarray[Any, Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the shape, type and bytes."""
        _version, shape, kind, is_fortran, raw = state
        values = np.frombuffer(raw, kind.dtype)
        self.values = values.reshape(shape, order="F" if is_fortran else "C")


def _scalar(kind: PickledType, raw: bytes) -> Any:
    return np.frombuffer(raw, kind.dtype)[0].item()


_NAMES: Mapping[str, Callable[..., Any]] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledType,
    "numpy.core.multiarray._reconstruct": PickledArray,
    "numpy.core.multiarray.scalar": _scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        path = f"{module}.{name}"
        try:
            return _NAMES[path.replace("numpy._core.", "numpy.core.", 1)]  # numpy 2, numpy 1
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {path:.80}, and only numpy arrays are read"
            ) from None


def _values(found: Any) -> Any:
    return found.values if isinstance(found, PickledArray) else found
