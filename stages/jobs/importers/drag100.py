"""Drag100: folders with `original.jpg`, `points.json` and `mask.png`."""

import json
from pathlib import Path

from adaptivedrag.errors import InvalidEdit
from stages.jobs.importers.writer import Imported, Sample, import_samples, is_nested

LARGEST_POINTS = 1 << 20


def import_drag100(
    directory: Path, out: Path | None = None, *, follow_links: bool = False
) -> Imported:
    """Write a job for Drag100; see `import_dragbench` for the arguments.

    Raises:
        InvalidEdit: as `import_dragbench`.
    """
    files = "points.json", "original.jpg"
    return import_samples(
        directory, out or directory, *files, _read_sample, follow_links=follow_links
    )


def _read_sample(folder: Path) -> Sample:
    path, mask = folder / "points.json", folder / "mask.png"
    try:
        if path.stat().st_size > LARGEST_POINTS:
            raise InvalidEdit(f"{path} has more than {LARGEST_POINTS >> 20} MiB: it is skipped")
        points = json.loads(path.read_text("utf-8"))["points"]
    except InvalidEdit:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidEdit(f"{path} does not hold points: {error}") from error
    if not is_nested(points):
        raise InvalidEdit(f"{path}: points is not a list of points")
    return Sample("", points, mask if mask.is_file() else None)
