"""Glows: found where it is brighter around content, and carried along."""

import numpy as np
import pytest

from adaptivedrag.points import Frame
from adaptivedrag.warp.content import Content
from adaptivedrag.warp.glow import Glow, find_glow
from adaptivedrag.warp.motion import carried, sources
from adaptivedrag.warp.pasting import paste

SIZE, CELLS = 128, 64
FRAME = Frame(SIZE, SIZE, SIZE, SIZE, factor=8)
RADIUS = 12.0


def away(center, size):
    """Distance of every pixel from a center (x, y) in pixels of a picture of `SIZE`."""
    y, x = (np.mgrid[:size, :size] + 0.5) * (SIZE / size) - 0.5
    return np.hypot(x - center[0], y - center[1])


def sky(center=None, glow=40.0):
    """A sky that is paler below, with a sun and its glow."""
    image = np.empty((SIZE, SIZE, 3))
    image[:] = np.linspace((60, 100, 180), (110, 140, 190), SIZE)[:, None]
    if center is not None:
        reach = away(center, SIZE)
        image += glow * np.clip(1.6 - reach / (1.5 * RADIUS), 0, 1)[..., None]
        image[reach <= RADIUS] = (250, 240, 160)
    return image


def sun(center, size=SIZE):
    return away(center, size) <= RADIUS


def test_a_glow_is_found_and_nothing_else_is_taken_for_one():
    glow = find_glow(sky((40, 50)), sun((40, 50)), 1)
    assert glow.profile[0].mean() == pytest.approx(35, abs=6)
    assert glow.profile[-1] == pytest.approx([0, 0, 0])
    assert find_glow(sky((40, 50), glow=0), sun((40, 50)), 1) is None
    assert find_glow(sky((40, 50), glow=-40), sun((40, 50)), 1) is None  # a shadow
    pole = sky((40, 50))
    pole[60:, 36:44] = 20
    assert find_glow(pole, sun((40, 50)), 1) is None


def test_a_glow_goes_with_its_content():
    before, after = sky((40, 50)).round().astype(np.uint8), sky((88, 60))
    motion = sources(carried(np.array([5.0, 24.0])), (CELLS, CELLS))
    made = paste(before, [Content(sun((40, 50), CELLS), motion)], FRAME)
    for center in ((40, 50), (88, 60)):
        ring = (away(center, SIZE) < 1.8 * RADIUS) & (away(center, SIZE) > RADIUS + 3)
        error = np.abs(made.picture[ring] - after[ring]).mean()
        assert error < 0.25 * np.abs(before[ring] - after[ring]).mean()
        assert made.changed[ring].mean() > 0.9
    far = (away((40, 50), SIZE) > 45) & (away((88, 60), SIZE) > 45)
    assert np.array_equal(made.picture[far], before[far])
    assert not made.changed[far].any()


def test_around_nothing_there_is_no_glow():
    nothing = np.zeros((20, 20), bool)
    assert not Glow(np.full((30, 3), 9.0)).around(nothing).any()
