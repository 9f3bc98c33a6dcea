"""Drags whose points lie outside their image."""

from collections.abc import Sequence

from adaptivedrag.points import Drag, ImagePoint, lies_inside
from stages.jobs.complaints import Refused


def refuse_outside(drags: Sequence[Drag], width: int, height: int) -> None:
    """Check that all points lie inside an image.

    Raises:
        Refused: naming the first point outside, and the remedy.
    """
    for number, drag in enumerate(drags):
        for name, point in (("handle", drag.handle), ("target", drag.target)):
            if not lies_inside(point, width, height):
                where = f"drags[{number}].{name}"
                raise Refused(
                    where,
                    f"{where} ({point.x:g}, {point.y:g}) lies outside the {width}x{height} image: "
                    f"x goes from 0 to {width - 1} and y from 0 to {height - 1}"
                    + _swap(drags, width, height),
                )


def _swap(drags: Sequence[Drag], width: int, height: int) -> str:
    """Say so if rows and columns were written for x and y."""
    swapped = (ImagePoint(point.y, point.x) for drag in drags for point in drag)
    fit = all(lies_inside(point, width, height) for point in swapped)
    return "; all points fit if x and y are swapped: write (x, y)" if fit else ""
