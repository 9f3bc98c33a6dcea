"""Colors of other spaces become sRGB, as an independent computation has them, and are noted."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from support import pictures as made

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.files import read_picture

RGB = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
ADOBE_COLUMNS = (
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (0.14919, 0.06322, 0.74457),
)
P3_COLUMNS = (0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)
SRGB_COLUMNS = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
P3 = made.matrix_profile(P3_COLUMNS, 2.2, "Display P3")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(path, data):
    path.write_bytes(data)
    return read_picture(path)


def encoded(pixels, form, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def gamma(value: float) -> bytes:
    return made.chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def primaries(points) -> bytes:
    values = [*made.D65, *(value for point in points for value in point)]
    return made.chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values)))


def cicp(*code: int) -> bytes:
    return made.chunk(b"cICP", bytes(code))


WIDE = {
    # name: (file, primaries, gamma, note)
    "P3, PNG": (
        made.png(RGB, made.profile_chunk(P3)), made.P3, 2.2, 'color profile "Display P3"',
    ),
    "P3, WebP": (
        encoded(RGB, "WEBP", lossless=True, icc_profile=P3), made.P3, 2.2,
        'color profile "Display P3"',
    ),
    "P3, TIFF": (encoded(RGB, "TIFF", icc_profile=P3), made.P3, 2.2, 'color profile "Display P3"'),
    "Adobe RGB": (
        made.png(RGB, made.profile_chunk(made.matrix_profile(ADOBE_COLUMNS, 563 / 256, "Adobe"))),
        made.ADOBE, 563 / 256, 'color profile "Adobe"',
    ),
    "cICP": (made.png(RGB, cicp(12, 13, 0, 1)), made.P3, None, "Display P3 (cICP)"),
    "cICP before iCCP": (
        made.png(RGB, cicp(12, 13, 0, 1), made.profile_chunk(SRGB)), made.P3, None,
        "Display P3 (cICP)",
    ),
    "cICP of BT.2020": (made.png(RGB, cicp(9, 14, 0, 1)), made.BT2020, None, "BT.2020 (cICP)"),
    "cICP, linear": (
        made.png(RGB, cicp(1, 8, 0, 1)), made.SRGB, 1.0, "BT.709 with gamma 1 (cICP)",
    ),
    "gAMA of 1": (made.png(RGB, gamma(1)), made.SRGB, 1.0, "gAMA"),
    "gAMA of old Macs": (
        made.png(RGB, gamma(1 / 1.8), primaries(made.SRGB)), made.SRGB, 1.8, "gAMA and cHRM",
    ),
    "gAMA and cHRM of P3": (
        made.png(RGB, gamma(1 / 2.2), primaries(made.P3)), made.P3, 2.2, "gAMA and cHRM",
    ),
    "cHRM alone": (made.png(RGB, primaries(made.P3)), made.P3, None, "cHRM"),
    "gray, gAMA of 1": (made.png(GRAY, gamma(1)), made.SRGB, 1.0, "gAMA"),
    "gray with a profile": (
        made.png(GRAY, made.profile_chunk(made.gray_profile(1.75, "Dots"))), made.SRGB, 1.75,
        'color profile "Dots"',
    ),
    "gray with a profile of RGB": (
        encoded(GRAY, "TIFF", icc_profile=made.matrix_profile(P3_COLUMNS, 1.75)), made.SRGB, 1.75,
        "color profile",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_colors_of_another_space_become_those_of_srgb(tmp_path, name):
    data, space, exponent, said = WIDE[name]
    found = read(tmp_path / "a", data)
    stored = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    expected = made.shown_as_srgb(stored, space, exponent)
    assert np.abs(found.pixels - expected).max() < 1.5
    assert found.notes[-1] == f"{said}: converted to sRGB"
    assert np.abs(found.pixels - stored.astype(float)).max() > 5


SAME = {
    "no word": made.png(RGB),
    "sRGB's profile": made.png(RGB, made.profile_chunk(SRGB)),
    "a profile that is sRGB in effect": made.png(
        RGB, made.profile_chunk(made.matrix_profile(SRGB_COLUMNS, None, "Camera"))
    ),
    "sRGB's chunk": made.png(RGB, made.chunk(b"sRGB", b"\0"), gamma(1)),
    "gAMA of sRGB": made.png(RGB, gamma(0.45455)),
    "gAMA and cHRM of sRGB": made.png(RGB, gamma(0.45455), primaries(made.SRGB)),
    "cICP of sRGB": made.png(RGB, cicp(1, 13, 0, 1)),
    "cICP of nothing": made.png(RGB, cicp(2, 2, 0, 1)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_picture_in_srgb_keeps_its_pixels_and_nothing_is_said(tmp_path, name):
    found = read(tmp_path / "a.png", SAME[name])
    assert np.array_equal(found.pixels, RGB)
    assert found.notes == ()


UNFIT = {
    # name: (file, note)
    "not zlib": (made.png(RGB, made.chunk(b"iCCP", b"a\0\0xx")), "color profile: damaged"),
    "not a profile": (made.png(RGB, made.profile_chunk(b"no" * 99)), "color profile: damaged"),
    "cut off": (made.png(RGB, made.profile_chunk(P3[:300])), "damaged or unknown"),
    "of gray": (
        made.png(RGB, made.profile_chunk(made.gray_profile(1.8, "Dots"))),
        'color profile "Dots": not for RGB pixels, read as sRGB',
    ),
    "of CMYK": (
        made.png(RGB, made.profile_chunk(made.ink_profile())),
        'color profile "Inks": not for RGB pixels',
    ),
    "a name of control characters": (
        made.png(RGB, made.profile_chunk(made.gray_profile(1.8, "a\x1b[2J\nb" + "c" * 500))),
        f'color profile "a [2J b{"c" * 53}": not for RGB',
    ),
    "unknown primaries": (made.png(RGB, cicp(77, 13, 0, 1)), "color code 77, 13 (cICP): damaged"),
    "cICP of a byte": (made.png(RGB, cicp(12)), "cICP: damaged or unknown"),
    "gAMA of 0": (made.png(RGB, gamma(0)), "gAMA: damaged or unknown"),
    "gAMA beyond": (made.png(RGB, gamma(0.00001)), "gAMA: damaged or unknown"),
    "cHRM of 0": (made.png(RGB, made.chunk(b"cHRM", bytes(32))), "cHRM: damaged or unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_used_is_noted_and_the_picture_read_as_srgb(tmp_path, name):
    data, said = UNFIT[name]
    found = read(tmp_path / "a.png", data)
    assert np.array_equal(found.pixels, RGB)
    assert len(found.notes) == 1
    assert said in found.notes[0]
    assert found.notes[0].isprintable()


@pytest.mark.parametrize("code", [(9, 16, 0, 1), (9, 18, 0, 1), (12, 13, 0, 0)])
def test_light_that_8_bits_cannot_show_is_refused(tmp_path, code):
    with pytest.raises(InvalidEdit, match=r"a\.png: its (light is HDR|colors have the range)"):
        read(tmp_path / "a.png", made.png(RGB, cicp(*code)))


def test_inks_go_through_their_profile(tmp_path):
    inks = np.array(
        [[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [9, 9, 9, 255]]]
    )
    flat = Image.fromarray(np.repeat(np.repeat(inks, 16, 0), 16, 1).astype(np.uint8), "CMYK")
    for form, near in (("TIFF", 1), ("JPEG", 4)):
        file = io.BytesIO()
        flat.save(
            file, form, icc_profile=made.ink_profile(), **{"quality": 100} if near > 1 else {}
        )
        found = read(tmp_path / "a", file.getvalue())
        white, cyan, magenta, yellow, black = found.pixels[8, 8::16].astype(int)
        assert abs(white - 255).max() <= near
        assert black.max() <= near
        assert cyan[0] < 60 < 150 < cyan[2]
        assert magenta[0] > 200 > 120 > magenta[1]
        assert yellow[:2].min() > 180 > 120 > yellow[2]
        naive = np.array([[0, 255, 255], [255, 0, 255], [255, 255, 0]])
        assert np.abs([cyan, magenta, yellow] - naive).min(axis=1).max() > near
        assert found.notes == (
            "CMYK: converted to RGB",
            'color profile "Inks": converted to sRGB',
        )


def test_inks_without_a_profile_and_with_one_of_rgb_are_read_alike(tmp_path):
    inks = Image.new("CMYK", (16, 16), (0, 200, 255, 10))
    inks.save(tmp_path / "a.jpg", quality=100)
    inks.save(tmp_path / "b.jpg", quality=100, icc_profile=P3)
    plain, unfit = (read_picture(tmp_path / name) for name in ("a.jpg", "b.jpg"))
    assert np.abs(plain.pixels.astype(int) - [245, 53, 0]).max() <= 2
    assert np.array_equal(plain.pixels, unfit.pixels)
    assert plain.notes == ("CMYK: converted to RGB",)
    assert unfit.notes[1] == 'color profile "Display P3": not for CMYK pixels, read as sRGB'


def test_lab_becomes_the_color_that_it_names(tmp_path):
    """CIE L*a*b* of D50: 53.2, 80.1, 67.2 is the red of sRGB (in Bruce Lindbloom's tables)."""
    stored = bytes([136, 81, 70, 255, 0, 0, 0, 0, 0])
    colors = Image.frombytes("LAB", (3, 1), stored).resize((48, 16), Image.Resampling.NEAREST)
    colors.save(tmp_path / "a.tiff")
    found = read_picture(tmp_path / "a.tiff")
    assert np.abs(found.pixels[8, 8::16] - [[255, 0, 0], [255] * 3, [0] * 3]).max() <= 8
    assert found.notes == ("Lab: converted to RGB",)


def test_what_is_transparent_lies_over_white_after_the_conversion(tmp_path):
    alpha = np.zeros((40, 48, 1), np.uint8)
    alpha[:, 24:] = 255
    data = made.png(np.dstack([RGB, alpha]), made.profile_chunk(P3))
    found = read(tmp_path / "a.png", data)
    opaque = read(tmp_path / "b.png", made.png(RGB, made.profile_chunk(P3)))
    assert (found.pixels[:, :24] == 255).all()
    assert np.array_equal(found.pixels[:, 24:], opaque.pixels[:, 24:])
    assert found.notes == (
        "RGBA: laid over white",
        'color profile "Display P3": converted to sRGB',
    )


def test_a_turned_picture_is_converted_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read(tmp_path / "a.png", encoded(RGB, "PNG", icc_profile=P3, exif=exif))
    plain = read(tmp_path / "b.png", encoded(RGB, "PNG", icc_profile=P3))
    assert np.array_equal(turned.pixels, np.rot90(plain.pixels, -1))
    assert len(turned.notes) == 2


def test_the_adobe_rgb_of_cameras_is_told_by_exif(tmp_path):
    flat = np.full((16, 16, 3), (40, 200, 60), np.uint8)
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    found = read(tmp_path / "a.jpg", encoded(flat, "JPEG", quality=100, exif=exif))
    expected = made.shown_as_srgb(flat, made.ADOBE, 563 / 256)
    assert np.abs(found.pixels - expected).max() < 3
    assert found.notes == ("Adobe RGB (EXIF): converted to sRGB",)
    exif[0x8769] = {0xA001: 0xFFFF}
    unknown = read(tmp_path / "b.jpg", encoded(flat, "JPEG", exif=exif))
    assert "uncalibrated" in unknown.notes[0]


def test_avif_says_its_colors_by_code_and_jpeg_2000_by_a_box(tmp_path):
    flat = np.full((32, 32, 3), (200, 60, 40), np.uint8)
    avif = encoded(flat, "AVIF", quality=100, subsampling="4:4:4")
    usual = b"colrnclx\0\1\0\r"
    assert usual in avif
    assert read(tmp_path / "a.avif", avif).notes == ()
    wide = read(tmp_path / "b.avif", avif.replace(usual, b"colrnclx\0\x0c\0\r"))
    assert np.abs(wide.pixels - made.shown_as_srgb(flat, made.P3)).max() < 4
    assert wide.notes == ("Display P3 (nclx): converted to sRGB",)
    with pytest.raises(InvalidEdit, match="HDR"):
        read(tmp_path / "c.avif", avif.replace(usual, b"colrnclx\0\x09\0\x10"))

    jp2 = encoded(flat, "JPEG2000")
    box = struct.pack(">I", 11 + len(P3)) + b"colr\2\0\0" + P3
    head, place = jp2.index(b"jp2h") - 4, jp2.index(b"colr") - 4
    (size,) = struct.unpack_from(">I", jp2, head)
    longer = struct.pack(">I", size + len(box) - 15)
    tagged = jp2[:head] + longer + jp2[head + 4 : place] + box + jp2[place + 15 :]
    assert read(tmp_path / "a.jp2", jp2).notes == ()
    found = read(tmp_path / "b.jp2", tagged)
    assert np.abs(found.pixels - made.shown_as_srgb(flat, made.P3, 2.2)).max() < 2
    assert found.notes == ('color profile "Display P3": converted to sRGB',)
