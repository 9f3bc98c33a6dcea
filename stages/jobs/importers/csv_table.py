"""CSV tables, as spreadsheets and scripts write them."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from adaptivedrag.errors import InvalidEdit
from stages.jobs.importers.manifest import Manifest, Values
from stages.jobs.importers.text import read_text
from stages.jobs.importers.writer import Imported

_DELIMITERS = ",;\t|"


def import_csv(
    path: Path,
    out: Path | None = None,
    images: Path | None = None,
    *,
    follow_links: bool = False,
) -> Imported:
    """Write a job for a CSV table; rows with one id are drags of one edit.

    Args:
        out: folder for the job; by default that of the table.
        images: folder that names of files are relative to; by default that of the table.

    Raises:
        InvalidEdit: if the table cannot be read, has no edit, or another job is in `out`.
    """
    manifest = Manifest.of(path, out, images, follow_links=follow_links, table=True)
    return manifest.read(_rows(path))


def _rows(path: Path) -> Iterator[tuple[str, Values]]:
    text = read_text(path, "CSV")
    delimiter, text = _delimiter(text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        head = [cell.strip() or f"column {at}" for at, cell in enumerate(next(reader, []), 1)]
        if len(set(head)) < len(head) or len(head) < 2:
            raise InvalidEdit(
                f"{path} has no head of several columns, each named once, such as "
                "id,image,prompt,handle_x,handle_y,target_x,target_y"
            )
        rows = 0
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows += 1
                yield f"line {reader.line_num}", _row(head, cells)
        if not rows:
            raise InvalidEdit(
                f"{path} has one line, which is its head: write the edits below it, one a line"
            )
    except csv.Error as error:
        raise InvalidEdit(
            f"{path} cannot be read as CSV, line {reader.line_num}: {error}"
        ) from None


def _row(head: Sequence[str], cells: Sequence[str]) -> Values:
    if len(cells) < len(head):
        return InvalidEdit(
            f"it has {len(cells)} cells, and the head {len(head)}: leave the last ones empty, "
            "with the marks between them"
        )
    if any(cells[len(head) :]):
        return InvalidEdit(
            f"it has {len(cells)} cells, and the head {len(head)}: put texts that hold the mark "
            "between cells in quotes"
        )
    return dict(zip(head, cells, strict=False))


def _delimiter(text: str) -> tuple[str, str]:
    """Return the mark between cells, and the table; Excel names the mark in a line before it."""
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        return first.strip()[-1], rest
    return max(_DELIMITERS, key=first.count), text
