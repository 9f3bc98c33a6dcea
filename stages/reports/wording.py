"""Counts, times and tables in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NAMED = 3
"""Names that stand for many."""


class Table(NamedTuple):
    """A table of text; the first cell of a row names it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 edit", "2 edits"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_of(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are: "a, b, c and 9 more"."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def ended(point: Mapping[str, Any]) -> str:
    """Say how one drag ended, by what a stage keeps of it."""
    return f"{point['verdict']}, {point['distance']:.1f} px from its target"


def found(point: Mapping[str, Any]) -> str:
    """Say where the witness finds the handle of one drag, by what its stage keeps of it."""
    is_lost = point["verdict"] == "lost"
    return "lost: nothing like the handle is found" if is_lost else ended(point)


def warnings_of(summary: Mapping[str, Any]) -> list[str]:
    """Return what a stage warns of, by what it says of its work."""
    warnings = summary.get("warnings")
    return [str(warning) for warning in warnings] if isinstance(warnings, list) else []


def pace(per_hour: float) -> str:
    """Return how many edits are done in an hour, such as "118/h" or "0.4/h"."""
    return f"{per_hour:.{0 if per_hour >= 10 else 1}f}/h"


def duration(seconds: float) -> str:
    """Return a time in the two units that matter."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
