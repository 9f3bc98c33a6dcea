"""Content moved in the picture, without a model."""

import numpy as np
import pytest

from adaptivedrag.points import Frame
from adaptivedrag.warp.content import Content
from adaptivedrag.warp.motion import sources
from adaptivedrag.warp.pasting import paste

STEP = 2
"""Pixels per feature cell."""

SIZE = 128
FRAME = Frame(SIZE, SIZE, SIZE, SIZE, factor=8)
SKY, GROUND, BALL = (90, 140, 220), (60, 120, 40), (230, 60, 30)


def picture(center, radius=14.0, size=SIZE):
    """A ball before a sky and a ground, with smooth edges; its center is (x, y) in pixels."""
    y, x = np.mgrid[:size, :size]
    reach = np.hypot(x - center[0], y - center[1])
    inside = np.clip(radius + 0.5 - reach, 0, 1)[..., None]
    behind = np.where(y[..., None] < size // 2, SKY, GROUND)
    return (behind * (1 - inside) + np.array(BALL) * inside).round().astype(np.uint8)


def ball_region(center, radius=14.0, size=SIZE):
    """Where the ball is, on the feature grid."""
    y, x = (np.mgrid[: size // STEP, : size // STEP] + 0.5) * STEP - 0.5
    return np.hypot(x - center[0], y - center[1]) <= radius


def carried(right, down):
    """A motion by pixels, in feature cells."""
    return sources(np.array([[1.0, 0, down / STEP], [0, 1.0, right / STEP]]), (SIZE // STEP,) * 2)


def error(made, wanted, region=...):
    return np.abs(made.astype(float) - wanted)[region].mean()


@pytest.mark.parametrize("way", [(40.0, 10.0), (33.5, 7.25), (-9.3, 20.6)])
def test_content_is_moved_by_fractions_of_a_pixel(way):
    before, after = picture((50, 40)), picture((50 + way[0], 40 + way[1]))
    moved = paste(before, [Content(ball_region((50, 40)), carried(*way))], FRAME).picture
    changed = (before != after).any(axis=2)
    assert error(moved, after, changed) < 0.1 * error(before, after, changed)
    rounded = picture((50 + round(way[0] / 8) * 8, 40 + round(way[1] / 8) * 8))
    assert error(moved, after) < error(rounded, after)  # what whole latent cells could do


def test_content_is_stretched_about_its_far_end():
    """A bar that stands on the ground of its picture and becomes half as long again."""
    image = np.full((SIZE, SIZE, 3), SKY, np.uint8)
    image[60:100, 60:68] = BALL
    wanted = np.full((SIZE, SIZE, 3), SKY, np.uint8)
    wanted[40:100, 60:68] = BALL
    region = np.zeros((SIZE // STEP, SIZE // STEP), bool)
    region[30:50, 30:34] = True
    foot = 49.5  # the lower edge of its last cell
    longer = np.array([[1.5, 0, foot - 1.5 * foot], [0, 1.0, 0]])
    moved = paste(image, [Content(region, sources(longer, region.shape))], FRAME).picture
    around = (slice(36, 104), slice(56, 72))
    assert error(moved, wanted, around) < 0.3 * error(image, wanted, around)


def test_what_is_left_behind_is_filled_from_around_it():
    before, empty = picture((50, 40)), picture((500, 40))
    moved = paste(before, [Content(ball_region((50, 40)), carried(40, 0))], FRAME).picture
    left = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([40, 50])[:, None, None])) < 17
    assert error(moved, empty, left) < 1
    assert error(before, empty, left) > 50


def test_what_is_neither_content_nor_near_it_keeps_its_bytes():
    before = picture((50, 40))
    moved = paste(before, [Content(ball_region((50, 40)), carried(40, 10))], FRAME).picture
    far = np.ones((SIZE, SIZE), bool)
    far[15:75, 25:115] = False
    assert np.array_equal(moved[far], before[far])


def test_the_later_content_lies_in_front():
    image = np.full((SIZE, SIZE, 3), SKY, np.uint8)
    image[20:40, 20:40], image[20:40, 80:100] = BALL, GROUND
    cells = np.zeros((2, SIZE // STEP, SIZE // STEP), bool)
    cells[0, 10:20, 10:20], cells[1, 10:20, 40:50] = True, True
    ball, block = Content(cells[0], carried(30, 40)), Content(cells[1], carried(-30, 40))
    assert tuple(paste(image, [ball, block], FRAME).picture[70, 60]) == GROUND
    assert tuple(paste(image, [block, ball], FRAME).picture[70, 60]) == BALL


def test_without_contents_and_without_motion_nothing_is_moved():
    before = picture((50, 40))
    assert np.array_equal(paste(before, [], FRAME).picture, before)
    stayed = paste(before, [Content(ball_region((50, 40)), carried(0, 0))], FRAME).picture
    assert error(stayed, before) < 1


def test_content_that_fills_its_picture_is_moved_over_itself():
    before = picture((50, 40))
    everywhere = np.ones((SIZE // STEP, SIZE // STEP), bool)
    moved = paste(before, [Content(everywhere, carried(10, 0))], FRAME).picture
    assert error(moved[20:60, 30:100], picture((60, 40))[20:60, 30:100]) < 3
