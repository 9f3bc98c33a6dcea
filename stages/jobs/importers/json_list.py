"""JSON: an array of edits, an object of edits by id, one edit, or one after another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptivedrag.errors import InvalidEdit
from stages.jobs.complaints import Refused
from stages.jobs.importers.manifest import Manifest, Values
from stages.jobs.importers.text import read_text
from stages.jobs.importers.writer import Imported
from stages.jobs.lines import without_duplicates

_LISTS = ("edits", "data", "samples", "images", "items", "annotations")


def import_json(
    path: Path,
    out: Path | None = None,
    images: Path | None = None,
    *,
    follow_links: bool = False,
) -> Imported:
    """Write a job for a JSON file of edits; see `import_csv` for the arguments.

    Raises:
        InvalidEdit: if the file cannot be read, has no edit, or another job is in `out`.
    """
    manifest = Manifest.of(path, out, images, follow_links=follow_links, table=False)
    edits, left_out = _edits(_values(path))
    return manifest.read(_objects(edits), left_out=left_out)


def _objects(edits: Sequence[Any]) -> Iterator[tuple[str, Values]]:
    for number, value in enumerate(edits, start=1):
        unlike = InvalidEdit(f"it is {type(value).__name__}, not an object")
        yield f"item {number}", value if isinstance(value, Mapping) else unlike


def _values(path: Path) -> list[Any]:
    """Read the values of a file, of which there may be several."""
    text, found, at = read_text(path, "JSON"), [], 0
    decoder = json.JSONDecoder(object_pairs_hook=without_duplicates)
    try:
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            value, at = decoder.raw_decode(text, at)
            found.append(value)
    except Refused as refused:
        raise InvalidEdit(f"{path}: {refused}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidEdit(f"{path} is not JSON: {' '.join(str(error).split())}: fix it") from None
    return found


def _edits(values: Sequence[Any]) -> tuple[Sequence[Any], list[str]]:
    """Return the edits, and the keys beside them.

    They are of one array, of an object that holds them, or one after another.
    """
    if len(values) != 1:
        return values, []
    (value,) = values
    if not isinstance(value, Mapping):
        return value if isinstance(value, list) else [value], []
    for name in _LISTS:
        held = value.get(name)
        edits = held if isinstance(held, list) else _by_id(held)
        if edits is not None:
            return edits, [key for key in value if key != name]
    by_id = _by_id(value)
    return [value] if by_id is None else by_id, []


def _by_id(value: Any) -> list[Any] | None:
    """Return the edits of an object that has one for each id; None for another value."""
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(isinstance(each, Mapping) for each in value.values()):
        return None
    return [{"id": name, **each} for name, each in value.items()]
