"""What is said against a mask."""

import pytest

from adaptivedrag.mask_warnings import mask_warnings
from adaptivedrag.points import Drag, ImagePoint

DRAGS = [Drag(ImagePoint(5, 5), ImagePoint(200, 9))]
HANDLE = "handle 1 at (5, 5) lies outside the mask"
TARGET = "target 1 at (200, 9) lies outside the mask"


@pytest.mark.parametrize(
    ("share", "right", "said"),
    [
        (0.0, 0, ["the mask is empty: it holds nothing"]),
        (0.2, 300, []),
        (0.2, 100, [TARGET]),
        (0.2, 2, [HANDLE, TARGET]),
        (0.96, 300, ["the mask is 96.0% of the image: it holds almost nothing"]),
        (0.9999, 300, ["the mask is 99.9% of the image: it holds almost nothing"]),
        (1.0, 300, ["the mask is the whole image: it holds nothing"]),
    ],
)
def test_what_is_odd_about_a_mask_is_said(share, right, said):
    """The mask reaches from the left side to a column."""
    assert mask_warnings(share, lambda point: point.x <= right, DRAGS) == said
