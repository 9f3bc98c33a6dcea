"""Frames and the conversions between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Frame, ImagePoint

sides = st.integers(32, 3000)


@given(height=sides, width=sides, across=st.floats(0, 1), down=st.floats(0, 1))
def test_a_point_survives_the_way_to_the_feature_grid_and_back(height, width, across, down):
    frame = Frame.of_image(height, width, factor=8, working_size=768)
    point = ImagePoint(across * (width - 1), down * (height - 1))
    back = frame.to_image(frame.to_feature(point))
    assert abs(back.x - point.x) < 0.01
    assert abs(back.y - point.y) < 0.01


@given(height=sides, width=sides, factor=st.sampled_from([4, 8]))
def test_every_corner_maps_inside_the_grid(height, width, factor):
    frame = Frame.of_image(height, width, factor=factor, working_size=512)
    rows, cols = frame.feature_size
    for corner in [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]:
        row, col = frame.to_cell(ImagePoint(*corner))
        assert 0 <= row < rows
        assert 0 <= col < cols


def test_x_and_y_are_not_swapped_on_a_wide_image():
    frame = Frame.of_image(256, 512, factor=8, working_size=768)
    assert frame.feature_size == (128, 256)
    assert frame.to_cell(ImagePoint(500, 20)) == (10, 250)


def test_the_last_pixel_of_512_is_the_last_cell():
    frame = Frame.of_image(512, 512, factor=8, working_size=768)
    assert frame.to_cell(ImagePoint(511, 511)) == (255, 255)


def test_sides_are_padded_to_the_stride_and_large_images_shrunk():
    frame = Frame.of_image(341, 512, factor=8, working_size=768)
    assert (frame.padded_height, frame.padded_width) == (384, 512)
    assert frame.latent_size == (48, 64)
    large = Frame.of_image(3000, 4000, factor=8, working_size=768)
    assert (large.height, large.width) == (665, 887)
    tall = Frame.of_image(913, 512, factor=8, working_size=768)
    assert (tall.height, tall.width) == (913, 512)


def test_even_a_narrow_image_has_latents_for_one_stride():
    frame = Frame.of_image(48, 300, factor=8, working_size=768)
    assert frame.image_latents == (8, 38)
    assert frame.latent_size == (8, 40)


def test_a_tiny_image_is_refused_with_its_size():
    with pytest.raises(InvalidEdit, match="20x64 pixels"):
        Frame.of_image(64, 20, factor=8, working_size=768)
