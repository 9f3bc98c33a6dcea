"""Rows of the report on faults: what was asked for, what was reached, and how to see it again."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        asked: the figure that is to be reached.
        reached: what was counted.
        held: whether that is what was asked for; None if it could not be tried here.
        notes: what a reader needs to judge it, in a few words.
    """

    test: str
    asked: str
    reached: str
    held: bool | None
    seconds: float
    notes: str = ""

    @property
    def outcome(self) -> str:
        """What was reached, marked if it was missed or not run."""
        return {True: "", False: "**missed**: ", None: "**not run**: "}[self.held] + self.reached


class NotPossibleHere(Exception):
    """What a fault needs cannot be had on this machine; the message says what."""


Rows = Callable[[int], Iterator[Row]]
"""A module of this folder has one such function, `rows(seed)`, at full size."""


@dataclass
class Stopwatch:
    """Seconds since it was made."""

    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@contextmanager
def on_seed(test: str, seed: int) -> Iterator[None]:
    """Name the seed of whatever goes wrong inside, so that it can be seen again."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{test}: seed {seed}")
        raise


def table(rows: Iterable[Row], seed: int) -> list[str]:
    """Write rows as a table, with their notes below it."""
    rows = list(rows)
    lines = ["| test | asked | reached | seconds |", "| --- | --- | --- | ---: |"]
    for row in rows:
        cells = (row.test, row.asked, row.outcome, f"{row.seconds:.0f}")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    notes = [f"- {row.test}: {row.notes}" for row in rows if row.notes]
    return [*lines, "", f"Seed {seed}.", *([""] if notes else []), *notes]


def written(document: str, name: str, title: str, lines: Iterable[str]) -> str:
    """Put lines between a module's marks; at the end, under its title, if it has none yet."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    body = "\n".join([begin, "", *lines, "", end])
    if begin not in document:
        return f"{document.rstrip()}\n\n## {title}\n\n{body}\n"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: body, document, flags=re.DOTALL)
