"""Benchmarks imported as jobs."""

from pathlib import Path

from flows.terminal.console import say, say_list
from stages.jobs import importers
from stages.reports.wording import count


def import_dragbench(directory: Path, out: Path | None) -> None:
    """Write a job for DragBench, and print what was found."""
    _say_imported(importers.import_dragbench(directory, out))


def import_drag100(directory: Path, out: Path | None) -> None:
    """Write a job for Drag100, and print what was found."""
    _say_imported(importers.import_drag100(directory, out))


def import_dragscenes(directory: Path, edits: int | None, scenes: int, size: int) -> None:
    """Render scenes with a job, and print what was written.

    Args:
        edits: how many; None for the fixed ones of the ablation.
    """
    chosen = importers.dragscenes(edits, scenes)
    _say_imported(importers.import_dragscenes(directory, chosen, size=size))


def _say_imported(imported: importers.Imported) -> None:
    say_list("Skipped", imported.skipped)
    say(f"{count(imported.images, 'image')}, {count(imported.drags, 'drag')}: {imported.job}")
