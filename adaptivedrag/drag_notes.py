"""Notes on drags that look wrong and can be done all the same."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from adaptivedrag.points import Drag, ImagePoint


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
