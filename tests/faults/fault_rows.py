"""Rows of the report on faults: the figure to reach, the figure reached, and the seed."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        asked: the figure to reach.
        reached: the figure reached.
        held: whether it was reached; None if it could not be tried here.
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
    """This machine lacks what a fault needs; the message says what."""


Rows = Callable[[int], Iterator[Row]]
"""The function `rows(seed)` of a module, which runs its tests at full size."""


@dataclass
class Stopwatch:
    """Measures the seconds since it was made."""

    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@contextmanager
def on_seed(test: str, seed: int) -> Iterator[None]:
    """Add the seed to any error inside, so that it can be reproduced."""
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
    """Put lines between a module's marks, or at the end under its title if it has none yet."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    body = "\n".join([begin, "", *lines, "", end])
    if begin not in document:
        return f"{document.rstrip()}\n\n## {title}\n\n{body}\n"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: body, document, flags=re.DOTALL)
