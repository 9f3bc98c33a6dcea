"""Curves of losses as points of an SVG drawing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

WIDTH, HEIGHT = 600, 120
"""Of the drawing, in its own units."""


@dataclass(frozen=True)
class Curve:
    """A loss over the updates of a stage.

    Attributes:
        lines: the points of each unbroken piece, as the attribute `points` of an SVG polyline.
        low, high: the smallest and the largest loss.
        last: the last loss that is known.
        updates: how many there were.
        unknown: how many of them have no loss.
    """

    lines: tuple[str, ...]
    low: float
    high: float
    last: float
    updates: int
    unknown: int

    @classmethod
    def of(cls, losses: Sequence[float | None]) -> Self | None:
        """Draw losses, None where they are unknown; None if all are."""
        known = [loss for loss in losses if loss is not None]
        if not known:
            return None
        low, high = min(known), max(known)
        lines = tuple(_lines(losses, low, high - low))
        return cls(lines, low, high, known[-1], len(losses), len(losses) - len(known))


def _lines(losses: Sequence[float | None], low: float, span: float) -> Iterator[str]:
    step = WIDTH / max(len(losses) - 1, 1)
    for is_known, piece in groupby(enumerate(losses), key=lambda each: each[1] is not None):
        if is_known:
            yield " ".join(
                f"{place * step:.1f},{HEIGHT * (1 - (loss - low) / (span or 1)):.1f}"
                for place, loss in piece
                if loss is not None
            )
