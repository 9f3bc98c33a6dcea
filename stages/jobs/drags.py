"""Drags that cannot be meant: points outside the image, and notes on those that look wrong."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

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


def drag_notes(drags: Sequence[Drag]) -> Iterator[str]:
    """Name what is odd about drags: fractions for pixels, handles given twice, no movement."""
    if all(0 <= value <= 1 for drag in drags for point in drag for value in point):
        yield "all points lie between 0 and 1 like fractions, and are taken as pixels (x, y)"
        return
    targets: dict[ImagePoint, list[ImagePoint]] = defaultdict(list)
    for drag in drags:
        targets[drag.handle].append(drag.target)
    for (x, y), of_handle in targets.items():
        if len(set(of_handle)) > 1:
            yield f"handle ({x:g}, {y:g}) has {len(set(of_handle))} targets: one handle has one"
        elif len(of_handle) > 1:
            yield f"the drag from ({x:g}, {y:g}) is there {len(of_handle)} times"
        if (x, y) in of_handle:
            yield f"the drag from ({x:g}, {y:g}) does not move: its target is its handle"
