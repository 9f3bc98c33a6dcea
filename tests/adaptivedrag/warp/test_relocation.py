"""Content moved in the picture by the warp, within the mask, and what it says of it."""

from dataclasses import replace

import numpy as np
import pytest

from adaptivedrag.drag import PictureProblem
from adaptivedrag.methods import Warp
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.superpixels import Superpixels

SIZE = 128
FRAME = Frame(SIZE, SIZE, SIZE, SIZE, factor=8)
CELLS = FRAME.feature_size
BLOCK = (slice(16, 28), slice(10, 22))
"""Of the feature grid; twice that in pixels."""

DRAG = Drag(ImagePoint(31, 43), ImagePoint(71, 43))


def problem(drag=DRAG, mask=None):
    """A red block before a gray ground, one segment of which is the block."""
    image = np.full((SIZE, SIZE, 3), 128, np.uint8)
    segments = np.zeros((1, *CELLS), bool)
    segments[0][BLOCK] = True
    image[np.kron(segments[0], np.ones((2, 2), bool))] = (220, 40, 30)
    mask = np.zeros(CELLS, bool) if mask is None else mask
    labels = np.zeros(CELLS, int)
    return PictureProblem(image, [drag], Superpixels(labels), segments, mask, FRAME)


def test_the_content_lies_at_its_target_and_the_handle_with_it():
    moved = Warp().move(problem())
    assert tuple(moved.pasted.picture[43, 71]) == (220, 40, 30)
    assert tuple(moved.pasted.picture[43, 31]) == (128, 128, 128)
    assert moved.pasted.hole[43, 31]
    assert not moved.pasted.hole[43, 71]
    assert moved.pasted.changed[43, 71]
    assert not moved.pasted.changed[100, 100]
    (point,) = moved.points
    assert (point.verdict, moved.verdict, moved.steps, len(moved.tracks)) == (
        *("reached", "reached"),
        *(1, 2),
    )
    assert point.distance <= 2
    assert moved.details["contents"][0]["share"] == pytest.approx(144 / 4096)


def test_a_drag_without_length_moves_nothing():
    still = Drag(DRAG.handle, DRAG.handle)
    moved = Warp().move(problem(still))
    assert np.array_equal(moved.pasted.picture, problem().image)
    assert not moved.pasted.changed.any()
    assert (moved.verdict, moved.steps, len(moved.tracks)) == ("no-op", 0, 1)


def test_outside_the_mask_nothing_changes_and_a_line_says_what_it_cuts():
    mask = np.zeros(CELLS, bool)
    mask[:, :36] = True  # the content arrives at columns 30 to 41
    moved = Warp().move(problem(mask=mask))
    assert np.array_equal(moved.pasted.picture[:, 72:], problem().image[:, 72:])
    assert not moved.pasted.changed[:, 72:].any()
    assert tuple(moved.pasted.picture[43, 64]) == (220, 40, 30)
    (line,) = moved.warnings
    assert line.startswith("the mask cuts what moves: ")
    assert "widen the mask" in line
    everywhere = Warp().move(problem(mask=np.ones(CELLS, bool)))
    assert everywhere.warnings == ()


def test_content_that_leaves_the_picture_in_part_is_named():
    away = Drag(ImagePoint(31, 43), ImagePoint(127, 43))
    moved = Warp().move(problem(away))
    assert moved.verdict == "reached"
    assert moved.points[0].end.x <= SIZE
    assert moved.warnings == ("content of drag 1: 50% of it leaves the image",)


def test_a_drag_shorter_than_the_stop_distance_moves_content_and_says_so():
    moved = Warp().move(problem(Drag(ImagePoint(31, 43), ImagePoint(33, 43))))
    assert moved.pasted.picture[43, 44, 0] > 200 > problem().image[43, 44, 0]
    assert (moved.verdict, moved.steps) == ("reached", 1)
    assert moved.points[0].end.x == pytest.approx(33, abs=1)


def test_a_handle_in_pressed_content_that_stops_short_is_not_lost():
    """Content is pressed to a quarter at most, so that its cells come from every fourth one."""
    pair = [
        Drag(ImagePoint(22, 43), ImagePoint(80, 100)),
        Drag(ImagePoint(42, 43), ImagePoint(80.5, 100)),
    ]
    moved = Warp(stop_distance=1.0).move(replace(problem(), drags=pair))
    assert {point.verdict for point in moved.points} <= {"reached", "stalled"}
    assert "stalled" in {point.verdict for point in moved.points}
