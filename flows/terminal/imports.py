"""Benchmarks, tables and folders imported as jobs."""

from pathlib import Path

from flows.terminal.console import say, say_list
from flows.terminal.jobs import first_lines
from stages.jobs import importers
from stages.reports.wording import count


def import_csv(path: Path, out: Path | None, images: Path | None, *, follow_links: bool) -> None:
    """Write a job for a CSV table, and print what was found."""
    _say_imported(importers.import_csv(path, out, images, follow_links=follow_links))


def import_json(path: Path, out: Path | None, images: Path | None, *, follow_links: bool) -> None:
    """Write a job for a JSON file, and print what was found."""
    _say_imported(importers.import_json(path, out, images, follow_links=follow_links))


def import_parquet(
    path: Path, out: Path | None, images: Path | None, *, follow_links: bool
) -> None:
    """Write a job for Parquet, and print what was found."""
    _say_imported(importers.import_parquet(path, out, images, follow_links=follow_links))


def import_folder(directory: Path, out: Path | None, *, follow_links: bool) -> None:
    """Write the skeleton of a job for a folder of pictures, and print what was found."""
    _say_imported(importers.import_folder(directory, out, follow_links=follow_links))


def import_dragbench(
    directory: Path, out: Path | None, *, regions: bool, follow_links: bool
) -> None:
    """Write a job for DragBench, and print what was found."""
    found = importers.import_dragbench(directory, out, regions=regions, follow_links=follow_links)
    _say_imported(found)


def import_drag100(directory: Path, out: Path | None, *, follow_links: bool) -> None:
    """Write a job for Drag100, and print what was found."""
    _say_imported(importers.import_drag100(directory, out, follow_links=follow_links))


def import_dragscenes(directory: Path, edits: int | None, scenes: int, size: int) -> None:
    """Render scenes with a job, and print what was written.

    Args:
        edits: how many; None for the fixed ones of the ablation.
    """
    chosen = importers.dragscenes(edits, scenes)
    _say_imported(importers.import_dragscenes(directory, chosen, size=size))


def _say_imported(imported: importers.Imported) -> None:
    say_list("Skipped", first_lines(imported.skipped))
    say_list("Note", imported.notes)
    say(f"{count(imported.images, 'image')}, {count(imported.drags, 'drag')}: {imported.job}")
