"""What is odd about an editable mask, in words."""

from collections.abc import Callable, Iterator, Sequence

from adaptivedrag.points import Drag, ImagePoint

NEARLY_WHOLE = 0.95
"""Share of an image above which a mask leaves too little out to hold it."""


def mask_warnings(
    share: float, holds: Callable[[ImagePoint], bool], drags: Sequence[Drag]
) -> list[str]:
    """Say whether a mask is empty or nearly everything, and what lies outside it, a line each.

    Args:
        share: of the image that may change.
        holds: tells whether a point may change.
    """
    if share == 0:
        return ["the mask is empty: it holds nothing"]
    return [*_too_large(share), *_outside(holds, drags)]


def _too_large(share: float) -> Iterator[str]:
    if share == 1:
        yield "the mask is the whole image: it holds nothing"
    elif share >= NEARLY_WHOLE:
        yield f"the mask is {min(share, 0.999):.1%} of the image: it holds almost nothing"


def _outside(holds: Callable[[ImagePoint], bool], drags: Sequence[Drag]) -> Iterator[str]:
    for number, drag in enumerate(drags, start=1):
        for name, point in zip(("handle", "target"), drag, strict=True):
            if not holds(point):
                yield f"{name} {number} at ({point.x:g}, {point.y:g}) lies outside the mask"
