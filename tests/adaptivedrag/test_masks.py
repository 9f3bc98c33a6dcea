"""Masks of every mode, and what is said against them."""

import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from adaptivedrag.config import BuildMaskConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.masks import (
    build_mask,
    handle_segment,
    image_mask,
    latent_mask,
    segment_mask,
    superpixel_line_mask,
    swept_mask,
    user_mask,
)
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.superpixels import Superpixels

FRAME = Frame.of_image(256, 256, factor=8, working_size=768)
GRID = FRAME.feature_size
NOTHING = np.zeros((0, *GRID), bool)
DIRECTIONS = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 16, endpoint=False)]


def checkerboard(cell: int = 16) -> Superpixels:
    """Square superpixels of `cell` cells a side on the grid of a 256 px image."""
    rows, cols = np.indices(GRID) // cell
    return Superpixels((rows * (GRID[1] // cell) + cols).astype(np.int32))


def drag(handle, target):
    return Drag(ImagePoint(*handle), ImagePoint(*target))


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(GRID, bool)
    mask[top:bottom, left:right] = True
    return mask


ACROSS = (drag((60, 60), (120, 60)),)


def built(mode, segments=NOTHING, drags=ACROSS, **given):
    settings = BuildMaskConfig(mode=mode, **given.pop("settings", {}))
    return build_mask(settings, checkerboard(8), segments, drags, FRAME, **given)


@pytest.mark.parametrize(("dx", "dy"), DIRECTIONS)
def test_the_mask_covers_the_true_line_and_not_its_mirror_image(dx, dy):
    superpixels = checkerboard(8)
    handle, target = (128, 128), (128 + 90 * dx, 128 + 90 * dy)
    mask = superpixel_line_mask(superpixels, [drag(handle, target)], FRAME)
    near = binary_dilation(mask)  # the rasterized line passes within one cell of the true one
    for share in np.linspace(0, 1, 40):
        point = ImagePoint(128 + 90 * dx * share, 128 + 90 * dy * share)
        assert near[FRAME.to_cell(point)]
    if min(abs(dx), abs(dy)) > 0.3:
        assert not mask[FRAME.to_cell(ImagePoint(128 - 80 * dx, 128 + 80 * dy))]
    assert mask.mean() < 0.1


@pytest.mark.parametrize(
    ("target", "rows", "cols"),
    [((120, 21), (10, 10), (10, 60)), ((21, 120), (10, 60), (10, 10))],
    ids=["horizontal", "vertical"],
)
def test_a_straight_line_is_whole_and_does_not_overshoot(target, rows, cols):
    single_cells = Superpixels(np.arange(GRID[0] * GRID[1], dtype=np.int32).reshape(GRID))
    mask = superpixel_line_mask(single_cells, [drag((21, 21), target)], FRAME)
    np.testing.assert_array_equal(mask, box(rows[0], rows[1] + 1, cols[0], cols[1] + 1))


def test_a_single_point_masks_its_superpixel():
    mask = superpixel_line_mask(checkerboard(16), [drag((5, 5), (5, 5))], FRAME)
    np.testing.assert_array_equal(mask, box(0, 16, 0, 16))


def test_without_line_extension_only_the_handles_superpixels_count():
    drags = (drag((60, 60), (120, 60)), drag((200, 200), (10, 10)))
    mask, _ = built("superpixel_line", drags=drags, settings={"line_extension": False})
    np.testing.assert_array_equal(mask, box(24, 32, 24, 32) | box(96, 104, 96, 104))


def test_the_smallest_segment_that_holds_the_handle_is_its_own():
    segments = np.stack([box(0, 128, 0, 128), box(20, 60, 20, 60), box(90, 99, 90, 99)])
    np.testing.assert_array_equal(handle_segment(segments, (30, 30), (30, 50)), segments[1])
    np.testing.assert_array_equal(handle_segment(segments, (80, 80), (75, 70)), segments[0])


@pytest.mark.parametrize(
    ("handle", "target", "expected"),
    [
        ((40, 30), (40, 90), box(20, 60, 20, 60)),  # most of it lies ahead: whole
        ((40, 55), (40, 90), box(20, 60, 55, 60)),  # little lies ahead: that part only
        ((40, 55), (40, 0), box(20, 60, 20, 60)),
        ((22, 40), (5, 40), box(20, 23, 20, 60)),
        ((40, 40), (40, 40), box(20, 60, 20, 60)),  # no way to go: whole
    ],
)
def test_a_segment_that_lies_behind_the_handle_is_cut(handle, target, expected):
    segments = box(20, 60, 20, 60)[None]
    np.testing.assert_array_equal(handle_segment(segments, handle, target), expected)


def test_segments_of_several_handles_are_joined():
    segments = np.stack([box(0, 40, 0, 40), box(80, 110, 80, 110)])
    drags = [drag((20, 20), (100, 20)), drag((180, 180), (240, 180))]
    np.testing.assert_array_equal(segment_mask(segments, drags, FRAME), segments[0] | segments[1])


@pytest.mark.parametrize(("dx", "dy"), DIRECTIONS)
def test_a_swept_segment_is_the_union_of_its_places_on_the_way(dx, dy):
    rows, cols = np.indices(GRID)
    disc = np.hypot(rows - 64, cols - 64) < 9
    way = drag((128.5, 128.5), (128.5 + 60 * dx, 128.5 + 60 * dy))
    mask = swept_mask(disc[None], [way], FRAME)
    along = np.clip((cols - 64) * dx + (rows - 64) * dy, 0, 30)
    distance = np.hypot(cols - 64 - along * dx, rows - 64 - along * dy)
    assert mask[distance < 8].all()
    assert not mask[distance > 10].any()


def test_what_is_swept_off_the_grid_does_not_come_back_on_the_other_side():
    segments = box(100, 128, 100, 128)[None]
    mask = swept_mask(segments, [drag((210, 210), (255, 255))], FRAME)
    np.testing.assert_array_equal(mask, segments[0])


def test_union_is_the_line_and_the_segment():
    segments = box(20, 50, 20, 50)[None]
    line, segment, union = (
        built(mode, segments)[0] for mode in ("superpixel_line", "segment", "union")
    )
    np.testing.assert_array_equal(union, line | segment)
    assert union.sum() > max(line.sum(), segment.sum())


def test_a_handle_in_no_segment_contributes_nothing_and_is_said():
    segments = box(20, 50, 20, 50)[None]
    drags = (drag((60, 60), (80, 60)), drag((200, 30.5), (220, 30)))
    mask, warnings = built("segment", segments, drags)
    np.testing.assert_array_equal(mask, segments[0])
    assert warnings == [
        "handle 2 at (200, 30.5) lies in no segment",
        "handle 2 at (200, 30.5) lies outside the mask",
        "target 2 at (220, 30) lies outside the mask",
    ]


def test_without_any_segment_the_mask_is_empty_and_that_is_said():
    for mode in ("segment", "swept"):
        mask, warnings = built(mode)
        assert not mask.any()
        assert warnings == [
            "handle 1 at (60, 60) lies in no segment",
            "the mask is empty: it holds nothing",
        ]


def test_a_users_mask_is_taken_as_it_is():
    given = np.zeros((256, 256), bool)
    given[40:80, 40:160] = True
    mask, warnings = built("user", user=given)
    np.testing.assert_array_equal(mask, user_mask(given, FRAME))
    assert warnings == []


@pytest.mark.parametrize(
    ("mode", "segments", "missing"), [("user", NOTHING, "mask"), ("union", None, "segments")]
)
def test_a_mode_without_what_it_needs_is_refused(mode, segments, missing):
    with pytest.raises(InvalidEdit, match=f'mode is "{mode}", but there is no {missing}'):
        built(mode, segments)


def test_the_latent_mask_keeps_thin_parts():
    mask = np.zeros(GRID, bool)
    mask[:, 17] = True
    assert latent_mask(mask).sum() == GRID[0] // 4


def test_a_users_mask_survives_the_way_through_the_grid():
    frame = Frame.of_image(341, 500, factor=8, working_size=768)
    mask = np.zeros((341, 500), bool)
    mask[100:200, 50:300] = True
    shown = image_mask(user_mask(mask, frame), frame)
    assert shown[mask].all()
    assert (shown & ~mask).sum() < 2 * (100 + 250) * 2
