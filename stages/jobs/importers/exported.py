"""What `export` wrote, taken back as the job that it was: edits, without their results."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivedrag.errors import InvalidEdit
from stages.jobs.importers.manifest import Manifest
from stages.jobs.importers.writer import Imported

if TYPE_CHECKING:
    from stages.exporters.formats import Format

MANIFEST = "export.json"
"""Lies in the folder of a finished export."""


def is_export(directory: Path) -> bool:
    """Return whether a folder holds a finished export."""
    return (directory / MANIFEST).is_file()


def import_export(directory: Path, out: Path | None, *, follow_links: bool) -> Imported:
    """Write a job of the edits of an export; those of imagefolder keep their pictures there.

    Raises:
        InvalidEdit: if it is no export, a shard cannot be read, or another job is in `out`.
    """
    from stages.exporters.formats import FORMATS
    from stages.exporters.target import read_manifest

    manifest = Manifest.of(directory, out, None, follow_links=follow_links, table=False)
    terms, shards = read_manifest(directory / MANIFEST)
    form = FORMATS.get(terms.format)
    if form is None:
        raise InvalidEdit(f"{directory} is an export as {terms.format!r}, which is not known")
    return manifest.read(_rows(form, directory, [shard.name for shard in shards]))


def _rows(
    form: "Format", directory: Path, shards: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in shards:
        try:
            for number, row in enumerate(form.rows(directory / name), start=1):
                yield f"{name}, row {number}", row
        # Readers of damaged files raise errors of many types.
        except Exception as error:
            why = " ".join(str(error).split())
            raise InvalidEdit(f"{directory / name} cannot be read: {why:.200}") from error
