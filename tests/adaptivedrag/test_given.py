"""Images that are given to an edit in memory, against what the reader of jobs makes of them."""

import io

import numpy as np
import pytest
from PIL import Image
from support.pictures import chunk, matrix_profile, png

import adaptivedrag
from adaptivedrag.given import given_drags, given_image, given_mask
from stages.images import read_image

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
            np.testing.assert_array_equal(given_image(image).pixels, expected)


def test_arrays_of_gray_and_rgba_become_rgb():
    np.testing.assert_array_equal(given_image(RGB).pixels, RGB)
    np.testing.assert_array_equal(
        given_image(RGB[..., 0]).pixels, np.repeat(RGB[..., :1], 3, axis=2)
    )
    shown = given_image(np.dstack([RGB, np.zeros((20, 30), np.uint8)])).pixels
    assert (shown == 255).all()


def test_floats_from_0_to_1_are_the_bytes_that_they_stand_for():
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(given_image(RGB.astype(dtype) / 255).pixels, RGB)


def test_16_bits_keep_their_high_byte_and_one_channel_is_gray():
    deep = RGB.astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(given_image(deep).pixels, RGB)
    np.testing.assert_array_equal(given_image(deep[..., 0]).pixels, given_image(RGB[..., 0]).pixels)
    one = given_image(RGB[..., :1]).pixels
    np.testing.assert_array_equal(one, given_image(RGB[..., 0]).pixels)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.astype(float), r"float64 with values from 0 to 255: give floats from 0 to 1"),
        (RGB / 127.5 - 1, "float64 with values from -1 to 1"),
        (np.full((4, 4, 3), np.nan), "values from nan to nan"),
        (RGB.astype(np.int64), "array of int64 .* give floats from 0 to 1, uint8"),
        (RGB > 9, "array of bool"),
        (RGB.astype(np.uint16), "array of uint16 with values from 0 to 255"),
        (RGB.astype(np.int32) * 257, "array of int32"),
        (np.moveaxis(RGB, -1, 0), r"shape \(3, 20, 30\).* channels last"),
        (RGB[None], r"shape \(1, 20, 30, 3\)"),
        (RGB[..., :2], r"shape \(20, 30, 2\)"),
        (RGB[:0], r"shape \(0, 30, 3\)"),
        (np.ma.masked_array(RGB, RGB > 9), r"image is a masked array: give .* image.filled\(0\)"),
        (RGB.astype(complex), "array of complex128: give floats"),
        (RGB.astype(object), "array of object: give floats"),
        (RGB.astype(str), "array of <U3: give floats"),
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
        given_image(tmp_path / "deep.tiff")


@pytest.mark.parametrize("image", [None, 5, [[1, 2], [3, 4]], memoryview(b"image")])
def test_what_is_no_image_at_all_is_refused_by_its_type(image):
    with pytest.raises(adaptivedrag.InvalidEdit, match="give a path, a PIL image or a NumPy array"):
        given_image(image)


def test_colors_of_a_pil_image_are_converted_and_the_image_is_left_as_it_was(tmp_path):
    wide = matrix_profile(((0.52, 0.24, 0), (0.29, 0.69, 0.04), (0.16, 0.07, 0.78)), 2.2, "Wide")
    Image.fromarray(RGBA).save(tmp_path / "a.png", icc_profile=wide)
    with Image.open(tmp_path / "a.png") as image:
        found = given_image(image)
        np.testing.assert_array_equal(np.asarray(image), RGBA)
    np.testing.assert_array_equal(found.pixels, given_image(tmp_path / "a.png").pixels)
    assert found.notes == (
        "RGBA: laid over white",
        'color profile "Wide": converted to sRGB',
    )


def test_a_png_loaded_from_memory_may_have_colors_that_are_not_seen():
    data = png(RGB, chunk(b"cICP", bytes([12, 13, 0, 1])))
    image = Image.open(io.BytesIO(data))
    image.load()
    assert given_image(image).notes == ("loaded from memory: a cICP of its PNG is not seen",)
    assert given_image(Image.open(io.BytesIO(data))).notes == (
        "Display P3 (cICP): converted to sRGB",
    )


def test_an_array_of_12_bits_is_noted_as_a_file_is(tmp_path):
    deep = RGB[..., 0].astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "a.png")
    note = "uses only 12 of 16 bits: dark unless its values are scaled up to 65535"
    for given in (deep, np.dstack([deep] * 3), Image.fromarray(deep), tmp_path / "a.png"):
        assert note in given_image(given).notes


def test_premultiplied_gray_is_read():
    gray = Image.fromarray(RGBA).convert("LA")
    assert np.array_equal(
        given_image(gray.convert("La")).pixels,
        given_image(gray.convert("La").convert("LA")).pixels,
    )
    part = Image.fromarray(np.uint8([[0, 255, 255]])).convert("LA")
    part.putalpha(Image.fromarray(np.uint8([[0, 255, 0]])))
    assert given_mask(part.convert("La"), (1, 3)).values.tolist() == [[False, True, False]]


def test_pil_images_that_are_closed_or_cut_off_are_refused_in_one_line(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=100)
    cut = (tmp_path / "a.jpg").read_bytes()[:-800]
    closed = Image.open(tmp_path / "a.jpg")
    closed.close()
    for name, read in (("image", given_image), ("mask", lambda mask: given_mask(mask, (20, 30)))):
        for image in (closed, Image.open(io.BytesIO(cut))):
            with pytest.raises(adaptivedrag.InvalidEdit, match=rf"^{name} cannot be decoded .*\Z"):
                read(image)


DRAG = adaptivedrag.Drag(adaptivedrag.ImagePoint(5, 6), adaptivedrag.ImagePoint(9.5, 6))
POINTS = (5, 6), (9.5, 6)
DRAGS = {
    "pairs": [POINTS],
    "pairs of lists": [[[5, 6], [9.5, 6]]],
    "four numbers": [(5, 6, 9.5, 6)],
    "objects of an edits file": [{"handle": [5, 6], "target": [9.5, 6]}],
    "an array of pairs": np.array([POINTS]),
    "an array of four numbers": np.array([[5, 6, 9.5, 6]], np.float32),
    "arrays": [np.array(POINTS)],
    "points that are arrays": [(np.array([5, 6]), np.array([9.5, 6]))],
    "numbers of NumPy": [tuple(np.float32(value) for value in (5, 6, 9.5, 6))],
    "drags": [DRAG],
}


@pytest.mark.parametrize("name", DRAGS)
def test_drags_are_read_in_every_form(name):
    assert given_drags(DRAGS[name]) == [DRAG]


@pytest.mark.parametrize(
    ("drags", "message"),
    [
        ([], "there are no drags"),
        (np.zeros((0, 4)), "there are no drags"),
        (POINTS, r"drags\[0\] is \(5, 6\): give \(\(x, y\), \(x, y\)\)"),
        ((5, 6, 9, 6), r"drags\[0\] is 5: give"),
        ([POINTS, (5, 6, 9)], r"drags\[1\] is \(5, 6, 9\)"),
        ([(5, 6, 9, float("nan"))], r"drags\[0\] .*nan"),
        ([(5, 6, 9, True)], r"drags\[0\] .*True"),
        ([("5", "6", "9", "6")], r"drags\[0\] .*'5'"),
        (["5,6->9,6"], r"drags\[0\] is '5,6->9,6'"),
        ("5,6->9,6", "drags is '5,6->9,6': give a list of drags"),
        ({"handle": (5, 6), "target": (9, 6)}, "give a list of drags"),
        ([{"handle": (5, 6)}], r"drags\[0\] is \{'handle'"),
        (np.zeros((1, 3)), r"drags\[0\] is \[0.0, 0.0, 0.0\]"),
        (5, "drags is 5: give a list"),
        ([(5, 6, 10**400, 6)], r"drags\[0\] is \(5, 6, 1000"),
        ([(5, 6, 10**5000, 6)], r"drags\[0\] is a tuple"),
    ],
)
def test_drags_of_another_form_are_refused_in_one_line(drags, message):
    with pytest.raises(adaptivedrag.InvalidEdit, match=message) as refused:
        given_drags(drags)
    assert "\n" not in str(refused.value)


def test_masks_are_read_as_files_of_jobs_are(tmp_path):
    part = np.zeros((20, 30), bool)
    part[5:9, 4:20] = True
    Image.fromarray(part).save(tmp_path / "mask.png")
    drawn = part.astype(np.uint8) * 255
    for mask in (part, drawn, part.astype(np.uint8), Image.fromarray(drawn), tmp_path / "mask.png"):
        np.testing.assert_array_equal(given_mask(mask, (20, 30)).values, part)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((20, 30)), "array of float64 of shape .*give bool or uint8"),
        (np.ones((20, 30, 3), np.uint8), r"shape \(20, 30, 3\): give bool or uint8"),
        (np.ones((30, 20), bool), r"shape \(30, 20\) and the image \(20, 30\)"),
        (True, "mask is a bool: give a path"),
        (np.ma.masked_array(np.ones((20, 30), bool), False), "mask is a masked array"),
        ("", "mask '' is not a file: name one"),
        (".", r"mask '\.' is not a file"),
        ("none.png", "none.png does not exist"),
    ],
)
def test_other_masks_are_refused_in_one_line(mask, message):
    with pytest.raises(adaptivedrag.InvalidEdit, match=message):
        given_mask(mask, (20, 30))
