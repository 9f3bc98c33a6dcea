"""Parquet tables, with pictures in a column as datasets of the hub have them, or with paths."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptivedrag.errors import InvalidEdit
from stages.jobs.importers.manifest import Manifest
from stages.jobs.importers.writer import Imported

_ROWS_AT_ONCE = 64


def import_parquet(
    path: Path,
    out: Path | None = None,
    images: Path | None = None,
    *,
    follow_links: bool = False,
) -> Imported:
    """Write a job for a Parquet file, or a folder of them; see `import_csv` for the arguments.

    Raises:
        InvalidEdit: if it cannot be read, has no edit, or another job is in `out`.
    """
    manifest = Manifest.of(path, out, images, follow_links=follow_links, table=True)
    return manifest.read(_rows(path))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InvalidEdit(
            "Parquet is read by pyarrow, which is not here: pip install 'adaptivedrag[parquet]'"
        ) from None
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InvalidEdit(f"{path} holds no .parquet file")
    for file in files:
        try:
            number = 0
            for batch in ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name}, row {number}", _without_nulls(row)
        except (ArrowException, OSError) as error:
            why = " ".join(str(error).split())
            raise InvalidEdit(f"{file} cannot be read as Parquet: {why:.200}") from None


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the fields without a value: a column has those of all its rows."""
    return {
        name: _without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in row.items()
        if value is not None
    }
