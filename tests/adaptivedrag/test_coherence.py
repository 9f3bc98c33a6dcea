"""How near a filling is to what surrounds it."""

import numpy as np
import pytest

from adaptivedrag.coherence import incoherence

SIZE = 64
HOLE = np.zeros((SIZE, SIZE), bool)
HOLE[24:40, 24:40] = True


def stripes():
    """Bars of four pixels."""
    bars = (np.arange(SIZE) // 4 % 2 * 160 + 40).astype(np.uint8)
    return np.repeat(np.tile(bars, (SIZE, 1))[..., None], 3, axis=2)


def with_hole(filling):
    picture = stripes()
    picture[HOLE] = filling
    return picture


def test_what_goes_on_as_the_surroundings_do_is_nearer_than_gray_and_gray_than_red():
    going_on, gray, red = incoherence(
        [stripes(), with_hole(120), with_hole((255, 0, 0))], HOLE, ~HOLE
    )
    assert going_on < 0.1
    assert going_on < gray < red


def test_distances_are_in_gray_levels():
    flat = np.full((SIZE, SIZE, 3), 100, np.uint8)
    lighter = flat.copy()
    lighter[HOLE] = 107
    inner = np.zeros_like(HOLE)
    inner[28:36, 28:36] = True  # patches that lie within what is lighter
    (found,) = incoherence([lighter], inner, ~HOLE)
    assert found == pytest.approx(7, abs=1e-3)


def test_without_surroundings_nothing_is_said():
    assert incoherence([stripes()], HOLE, np.zeros_like(HOLE)) is None
