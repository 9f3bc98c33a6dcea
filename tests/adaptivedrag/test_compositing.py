"""Composites, and the texture that moved content keeps."""

import numpy as np
import pytest

from adaptivedrag.compositing import FEATHER, composite, feathered, with_texture
from adaptivedrag.points import Frame

FRAME = Frame(64, 64, 64, 64, factor=8)
REGION = np.zeros((64, 64), bool)
REGION[20:40, 20:40] = True


def plain(level):
    return np.full((64, 64, 3), level, np.uint8)


def test_a_composite_is_the_image_outside_what_changed_and_the_edit_inside():
    made = composite(plain(10), plain(200), REGION, FRAME)
    far = feathered(REGION, FRAME) == 0
    assert (made[REGION] == 200).all()
    assert (made[far] == 10).all()
    assert 10 < made[30, 40, 0] < 200  # the feather


@pytest.mark.parametrize("times", [1, 2])
def test_the_feather_grows_with_the_image(times):
    frame = Frame(64, 64, 64 // times, 64 // times, factor=8)
    reached = feathered(REGION, frame)[30, 40:] > 0
    assert reached.sum() == FEATHER * times
    assert not feathered(np.zeros_like(REGION), frame).any()


def test_a_picture_gets_back_what_the_vae_took_and_its_hole_does_not():
    picture = plain(100)
    picture[::2] = 140
    made = with_texture(plain(121), plain(120), picture, REGION, FRAME)
    assert (made[REGION] == 121).all()
    far = feathered(REGION, FRAME) == 0
    assert np.array_equal(made[far], picture[far] + 1)
