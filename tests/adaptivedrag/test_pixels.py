"""Images that are given to an edit in memory, against what the reader of jobs makes of them."""

import numpy as np
import pytest
from PIL import Image

import adaptivedrag
from adaptivedrag.pixels import rgb_pixels
from stages.jobs.images import read_image

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGBA = RANDOM.integers(0, 256, (20, 30, 4), dtype=np.uint8)


def turned(image: Image.Image) -> Image.Image:
    image.getexif()[0x0112] = 6
    return image


IMAGES = {
    "rgb": Image.fromarray(RGB),
    "transparent": Image.fromarray(RGBA),
    "gray": Image.fromarray(RGB[..., 0]),
    "gray, transparent": Image.fromarray(RGBA).convert("LA"),
    "palette": Image.fromarray(RGB).quantize(16),
    "black and white": Image.fromarray(RGB).convert("1"),
    "16-bit gray": Image.fromarray(RGB[..., 0].astype(np.uint16) * 257),
    "turned": turned(Image.fromarray(RGB)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_paths_and_pil_images_are_read_as_jobs_read_them(tmp_path, name):
    path = tmp_path / "image.png"
    IMAGES[name].save(path, exif=IMAGES[name].getexif())
    expected = read_image(path)
    with Image.open(path) as opened:
        for image in (path, str(path), opened):
            np.testing.assert_array_equal(rgb_pixels(image).pixels, expected)


def test_arrays_of_gray_and_rgba_become_rgb():
    np.testing.assert_array_equal(rgb_pixels(RGB).pixels, RGB)
    np.testing.assert_array_equal(
        rgb_pixels(RGB[..., 0]).pixels, np.repeat(RGB[..., :1], 3, axis=2)
    )
    shown = rgb_pixels(np.dstack([RGB, np.zeros((20, 30), np.uint8)])).pixels
    assert (shown == 255).all()


def test_floats_from_0_to_1_are_the_bytes_that_they_stand_for():
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(rgb_pixels(RGB.astype(dtype) / 255).pixels, RGB)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.astype(float), r"float64 with values from 0 to 255: give floats from 0 to 1"),
        (RGB / 127.5 - 1, "float64 with values from -1 to 1"),
        (np.full((4, 4, 3), np.nan), "values from nan to nan"),
        (RGB.astype(np.int64), "array of int64: give uint8"),
        (RGB > 9, "array of bool"),
        (np.moveaxis(RGB, -1, 0), r"shape \(3, 20, 30\).* channels last"),
        (RGB[None], r"shape \(1, 20, 30, 3\)"),
        (RGB[..., :2], r"shape \(20, 30, 2\)"),
        (RGB[:0], r"shape \(0, 30, 3\)"),
    ],
)
def test_other_arrays_are_refused_in_one_line(array, message):
    with pytest.raises(adaptivedrag.InvalidEdit, match=message) as refused:
        adaptivedrag.edit(array, [((5, 5), (9, 5))])
    assert "\n" not in str(refused.value)


def test_what_is_no_image_is_refused_by_its_path(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    for name in ("text.png", "missing.png"):
        with pytest.raises(
            adaptivedrag.InvalidEdit, match=rf"{name} (is damaged or not an image|does not exist)"
        ):
            adaptivedrag.edit(tmp_path / name, [((5, 5), (9, 5))])
    Image.fromarray(RGB[..., 0].astype(np.float32)).save(tmp_path / "deep.tiff")
    with pytest.raises(adaptivedrag.InvalidEdit, match=r"deep\.tiff: 32-bit floating-point"):
        rgb_pixels(tmp_path / "deep.tiff")
