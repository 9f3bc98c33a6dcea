"""How commands print: whole lines, lists, tables that fit or become blocks, one progress bar."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from stages.reports.wording import Table

NARROW = 80
"""Columns below which bars are left out."""
SENTENCE = 24
"""Columns that a sentence of a table needs at least."""
NARROWEST = 40
"""Columns below which progress is shown in lines, which a terminal wraps."""


class Terminal(Console):
    """A console that prints text as it is, and goes on in silence when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on: what is done counts, not who reads of it."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def console(*, stderr: bool = False) -> Console:
    """Return a console for output or errors; only a real terminal is interactive."""
    stream = sys.stderr if stderr else sys.stdout
    is_live = None if stream is not None and stream.isatty() else False
    return Terminal(stderr=stderr, highlight=False, emoji=False, force_interactive=is_live)


def can_show_bars(target: Console) -> bool:
    """Return whether progress can be drawn, rather than told in lines."""
    return target.is_interactive and target.width >= NARROWEST


def say(text: str, *, stderr: bool = False) -> None:
    """Print text; a terminal wraps it, and nothing is cut."""
    console(stderr=stderr).out(text)


def say_list(title: str, lines: Sequence[str]) -> None:
    """Print lines under a title, if there are any."""
    if lines:
        say(f"{title}:")
        for line in lines:
            say(f"  {line}")


def say_table(table: Table) -> None:
    """Print a table, or a block of lines "name: value" for each row where it does not fit.

    Its last column may hold sentences, which first go on below. A file or a pipe has no width,
    unless COLUMNS gives one.
    """
    target = console()
    is_limited = target.is_interactive or target.is_dumb_terminal or "COLUMNS" in os.environ
    lines = _aligned(table)
    if is_limited and not _fits(lines, target.width):
        lines = _aligned(_continued(table, target.width))
    if is_limited and not _fits(lines, target.width):
        lines = [line for row in table.rows for line in _block(table.heads, row)]
    for line in lines:
        say(line)


def _fits(lines: Sequence[str], width: int) -> bool:
    return max(map(cell_len, lines)) <= width


def _continued(table: Table, width: int) -> Table:
    """Return the table with its last column cut into lines between words."""
    *before, _ = zip(table.heads, *table.rows, strict=True)
    room = width - sum(2 + max(map(cell_len, column)) for column in before)
    if room < SENTENCE:
        return table
    rows = []
    for *cells, last in table.rows:
        first, *rest = wrap(last, room, break_long_words=False, break_on_hyphens=False) or [""]
        rows += [[*cells, first], *([""] * len(cells) + [line] for line in rest)]
    return Table(table.heads, rows)


def _aligned(table: Table) -> list[str]:
    rows = [table.heads, *table.rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_padded, row, widths)).rstrip() for row in rows]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _block(heads: Sequence[str], row: Sequence[str]) -> Iterator[str]:
    yield f"{heads[0]}: {row[0]}"
    for head, cell in zip(heads[1:], row[1:], strict=True):
        if cell:
            yield f"  {head}: {cell}"


@contextmanager
def step_bar(
    title: str, target: Console, *, after: float = 0.0
) -> Iterator[Callable[[int, int], None]]:
    """Show how many steps of how many are done, and the time that is left, on a terminal.

    Args:
        after: seconds before anything is shown.

    Yields:
        A function to call with the steps done and their total.
    """
    columns: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TimeRemainingColumn())
    columns = columns if target.width < NARROW else (BarColumn(), *columns)
    shown = (TextColumn(title), *columns)
    bar = Progress(*shown, console=target, transient=True, disable=not can_show_bars(target))
    task, begun = bar.add_task(title, total=None), time.monotonic()

    def advance(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if time.monotonic() - begun >= after:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
