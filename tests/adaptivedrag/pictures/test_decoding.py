"""Pixels of any depth and polarity, opaque and not, as values written by hand have them."""

import struct

import numpy as np
import pytest
from PIL import Image
from support import pictures as made

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.decoding import decode
from adaptivedrag.pictures.files import read_picture
from adaptivedrag.pictures.masks import read_mask

DEEP = np.array([[0, 255, 0x1234, 0x8000, 0xFF00, 0xFFFF]], np.uint16).repeat(2, 0)
HIGH = (DEEP >> 8).astype(np.uint8)
TWELVE = bytes([0x00, 0x0F, 0xFF, 0x80, 0x01, 0x23])


def clear(*values: int) -> bytes:
    return made.chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def with_white(values, *places):
    found = np.array(values)
    found[:, list(places)] = 255
    return found


def deep_tiff(photometric: int, *, big: bool) -> bytes:
    samples = DEEP.astype(">u2" if big else "<u2").tobytes()
    return made.tiff(samples, 6, 2, 16, photometric, big=big)


GRAYS = {
    # name: (file, expected gray, note)
    "16 bits": (made.png(DEEP, bits=16), HIGH, "16-bit gray: converted to 8-bit RGB"),
    "16 bits, one of them clear": (
        made.png(DEEP, clear(0x1234), bits=16), with_white(HIGH, 2), "16-bit gray: laid over white",
    ),
    "16 bits with alpha": (
        made.png(np.dstack([DEEP, np.full_like(DEEP, 0xFFFF)]), bits=16), HIGH,
        "16-bit gray with transparency: laid over white",
    ),
    "8 bits, one of them clear": (
        made.png(HIGH, clear(0x12)), with_white(HIGH, 2), "gray: laid over white",
    ),
    "4 bits, one of them clear": (
        made.png(np.array([[0, 3, 15]]), clear(3), bits=4), [[0, 255, 255]],
        "gray: laid over white",
    ),
    "2 bits, one of them clear": (
        made.png(np.array([[0, 1, 2]]), clear(2), bits=2), [[0, 85, 255]], "gray: laid over white",
    ),
    "1 bit, black clear": (
        made.png(np.array([[0, 1]]), clear(0), bits=1), [[255, 255]],
        "black and white: laid over white",
    ),
    "TIFF from black": (
        deep_tiff(1, big=False), HIGH, "16-bit gray: converted to 8-bit RGB",
    ),
    "TIFF from black, big-endian": (
        deep_tiff(1, big=True), HIGH, "16-bit gray: converted to 8-bit RGB",
    ),
    "TIFF from white": (
        deep_tiff(0, big=False), 255 - HIGH, "16-bit gray: converted to 8-bit RGB",
    ),
    "TIFF from white, big-endian": (
        deep_tiff(0, big=True), 255 - HIGH, "16-bit gray: converted to 8-bit RGB",
    ),
    "TIFF of 8 bits from white": (
        made.tiff(HIGH.tobytes(), 6, 2, 8, 0), 255 - HIGH, "gray: converted to RGB",
    ),
    "TIFF of 12 bits": (
        made.tiff(TWELVE, 4, 1, 12, 1), [[0, 255, 128, 18]], "12-bit gray: converted to 8-bit RGB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAYS)
def test_a_gray_of_any_depth_is_read_as_it_was_written(tmp_path, name):
    data, expected, note = GRAYS[name]
    (tmp_path / "a").write_bytes(data)
    found = read_picture(tmp_path / "a")
    assert np.array_equal(found.pixels, np.repeat(np.asarray(expected)[..., None], 3, axis=2))
    assert found.notes == (note,)


def test_dark_light_of_16_bits_is_not_lost_before_its_curve(tmp_path):
    ramp = np.arange(0, 4096, 16, dtype=np.uint16).reshape(4, 64)
    linear = made.chunk(b"gAMA", struct.pack(">I", 100_000))
    (tmp_path / "a.png").write_bytes(made.png(ramp, linear, bits=16))
    found = read_picture(tmp_path / "a.png").pixels[..., 0]
    expected = made.shown_as_srgb(np.repeat(ramp[..., None], 3, 2), gamma=1.0, top=65535)[..., 0]
    assert np.abs(found - expected).max() < 1


@pytest.mark.parametrize("shape", [(2, 8), (2, 8, 2), (2, 8, 3), (2, 8, 4)])
def test_8_bits_in_16_are_refused_and_12_are_noted(tmp_path, shape):
    for top in (255, 4095):
        values = np.full(shape, top)
        if shape[2:] in ((2,), (4,)):
            values[..., -1] = 0xFFFF
        (tmp_path / f"{top}.png").write_bytes(made.png(values, bits=16))
    with pytest.raises(InvalidEdit, match=r"16-bit values are all below 256.*: save it with 8"):
        read_picture(tmp_path / "255.png")
    note = "uses only 12 of 16 bits: dark unless its values are scaled up to 65535"
    assert note in read_picture(tmp_path / "4095.png").notes


def test_colors_of_16_bits_in_planes_are_refused(tmp_path):
    path = tmp_path / "a.tiff"
    Image.new("RGB", (8, 8)).save(path, tiffinfo={284: 2})
    for read in (read_picture, read_mask):
        eight = path.read_bytes().replace(b"\x08\x00" * 3, b"\x10\x00" * 3)
        data = eight.replace(
            struct.pack("<HHIHxx", 284, 3, 1, 1), struct.pack("<HHIHxx", 284, 3, 1, 2)
        )
        (tmp_path / "deep.tiff").write_bytes(data)
        with pytest.raises(InvalidEdit, match=r"16-bit colors in separate planes.*interleave"):
            read(tmp_path / "deep.tiff")


def test_a_ppm_of_16_bits_says_so(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 2 1 65535\n" + b"\xff\xff\0\0\x80\x80" * 2)
    found = read_picture(tmp_path / "a.ppm")
    assert found.pixels.tolist() == [[[255, 0, 128]] * 2]
    assert found.notes == ("16-bit RGB: converted to 8-bit RGB",)


def test_a_clear_color_of_16_bits_lies_over_white(tmp_path):
    colors = np.array([[[0x1200, 0x3400, 0x5600], [0xFFFF, 0, 0x8080]]], np.uint16)
    (tmp_path / "a.png").write_bytes(made.png(colors, clear(0x1200, 0x3400, 0x5600), bits=16))
    found = read_picture(tmp_path / "a.png")
    assert found.pixels.tolist() == [[[255] * 3, [255, 0, 128]]]
    assert found.notes == ("16-bit RGB: laid over white",)


def test_a_palette_with_clear_and_half_clear_colors_lies_over_white(tmp_path):
    palette = made.chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    opacity = made.chunk(b"tRNS", bytes([0, 128]))
    data = made.png(np.array([[0, 1, 2]]), palette, opacity, kind=3)
    (tmp_path / "a.png").write_bytes(data)
    half = [round(255 - (255 - value) * 128 / 255) for value in (40, 50, 60)]
    found = read_picture(tmp_path / "a.png").pixels.astype(int)
    assert np.abs(found - [[[255] * 3, half, [70, 80, 90]]]).max() <= 1


def test_only_the_first_frame_page_or_picture_is_used_and_that_is_noted(tmp_path):
    first, second = (Image.new("RGB", (40, 40), color) for color in ("red", "blue"))
    notes = {
        "gif": "animated: first of 2 frames used",
        "webp": "animated: first of 2 frames used",
        "png": "animated: first of 2 frames used",
        "avif": "animated: first of 2 frames used",
        "tiff": "several pages: the first is used",
        "mpo": "2 pictures: the first is used",
    }
    for suffix, note in notes.items():
        path = tmp_path / f"a.{suffix}"
        first.save(path, save_all=True, append_images=[second])
        found = read_picture(path)
        assert np.abs(found.pixels.astype(int) - [255, 0, 0]).max() < 8
        assert note in found.notes, suffix


def test_a_pil_image_is_not_changed_by_being_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(made.png(np.array([[0, 3, 15]]), clear(3), bits=4))
    with Image.open(path) as image:
        decode(image)
        assert image.info["transparency"] == 3
        assert np.asarray(image).tolist() == [[0, 51, 255]]
