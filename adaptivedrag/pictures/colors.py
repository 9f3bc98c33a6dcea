"""What a picture says of its colors, and their conversion to sRGB by LittleCMS."""

import io
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.spaces import (
    ADOBE_RGB,
    BT709,
    D65,
    DISPLAY_P3,
    Primaries,
    gray_profile,
    icc_profile,
)

GRAY_MODES = ("1", "L", "LA", "La", "I;16")
_HEAD = 1 << 20
"""Bytes of a file in which its colors are described."""
_LONGEST_NAME = 60
_UNREADABLE = (ImageCms.PyCMSError, OSError, TypeError, ValueError)

# By the numbers of ITU-T H.273, which PNG and AVIF refer to.
_PRIMARIES = {
    1: ("BT.709", BT709),
    5: ("BT.601", Primaries((0.640, 0.330), (0.290, 0.600), (0.150, 0.060))),
    6: ("BT.601", Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    7: ("BT.601", Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    9: ("BT.2020", Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    11: ("DCI-P3", Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351))),
    12: ("Display P3", DISPLAY_P3),
}
_GAMMAS = {1: None, 6: None, 13: None, 14: None, 15: None, 4: 2.2, 5: 2.8, 8: 1.0}
"""None: the curve of sRGB, as which viewers read that of video, too."""
_HDR = {16: "PQ", 18: "HLG"}
_UNSPECIFIED = 2

_SRGB_GAMMA, _NEAR = 1 / 2.2, 0.05
"""What PNG's gAMA has in pictures that are sRGB, and how far from it libpng still takes it so."""
_ADOBE_GAMMA = 563 / 256
_EXIF, _INTEROPERABILITY, _COLOR_SPACE, _INDEX = 0x8769, 0xA005, 0xA001, 1
_OF_EXIF_ADOBE, _UNCALIBRATED = 2, 0xFFFF


@dataclass(frozen=True)
class SaidColors:
    """What a picture says of its colors, where that may be another space than sRGB.

    Attributes:
        name: such as "Display P3 (cICP)"; "" if the profile names itself.
        profile: in ICC's format; None if it is damaged or means nothing.
    """

    name: str
    profile: bytes | None


def said_colors(image: Image.Image) -> SaidColors | None:
    """Return what a picture, whose pixels need not be loaded yet, says of its colors.

    Raises:
        InvalidEdit: if they are those of HDR, or of video.
    """
    info = image.info
    if image.format == "PNG" and (code := _png_chunk(file_head(image), b"cICP")):
        if len(code) != 4:
            return SaidColors("cICP", None)
        return _by_code("cICP", code[0], code[1], is_full=code[3] != 0)
    if "icc_profile" in info:
        return SaidColors("", info["icc_profile"])
    if image.format in ("AVIF", "JPEG2000"):
        return _by_box(_color_box(file_head(image)))
    if "srgb" in info:
        return None
    points = None if image.mode in GRAY_MODES else info.get("chromaticity")
    return _by_gamma(image.mode, info.get("gamma"), points) or _by_exif(image)


def to_srgb(image: Image.Image, said: SaidColors | None) -> tuple[Image.Image, str | None]:
    """Return a picture (L, I;16, RGB, CMYK or LAB) as sRGB, and a note if its colors were others.

    Pixels of a space that is sRGB within a level stay as they are.
    """
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _applied(image, ImageCms.ImageCmsProfile(lab), "LAB"), None
    if said is None:
        return eight_bit(image), None
    name = said.name or "color profile"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(said.profile or b""))
        name = said.name or _name_of(profile)
        mode = _fitting(profile.profile.xcolor_space.strip(), image.mode)
        if mode is None:
            kind = "gray" if image.mode in GRAY_MODES else image.mode
            return eight_bit(image), f"{name}: not for {kind} pixels, read as sRGB"
        if _is_srgb(profile, mode, image.mode):
            return eight_bit(image), None
        return _applied(image, profile, mode), f"{name}: converted to sRGB"
    except _UNREADABLE:
        return eight_bit(image), f"{name}: damaged or unknown, read as sRGB"


def eight_bit(image: Image.Image) -> Image.Image:
    """Return a picture as RGB, whatever its colors; 16-bit gray keeps its high byte."""
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


# What pictures say


def _by_code(source: str, primaries: int, transfer: int, *, is_full: bool) -> SaidColors | None:
    if transfer in _HDR:
        raise InvalidEdit(
            f"its light is HDR ({_HDR[transfer]}), which is not read: save it in sRGB or Display P3"
        )
    if not is_full:
        raise InvalidEdit("its colors have the range of video: save it with full range")
    name, space = _PRIMARIES.get(1 if primaries == _UNSPECIFIED else primaries, ("", None))
    transfer = 13 if transfer == _UNSPECIFIED else transfer
    if space is None or transfer not in _GAMMAS:
        return SaidColors(f"color code {primaries}, {transfer} ({source})", None)
    gamma = _GAMMAS[transfer]
    if space == BT709 and gamma is None:
        return None
    exponent = f" with gamma {gamma:g}" if gamma else ""
    return SaidColors(f"{name}{exponent} ({source})", icc_profile(space, gamma))


def _by_box(box: bytes) -> SaidColors | None:
    """Read the color box of AVIF (ISO/IEC 23000-22) or JPEG 2000 (ISO/IEC 15444-1, I.5.3.3)."""
    if box.startswith(b"nclx") and len(box) >= 8:
        primaries, transfer = struct.unpack_from(">HH", box, 4)
        return _by_code("nclx", primaries, transfer, is_full=True)
    method, number = box[:1], int.from_bytes(box[3:7], "big")
    if method in (b"\2", b"\3"):
        return SaidColors("", box[3:])
    if method == b"\1" and number not in (0, 12, 15, 16, 17, 18):
        return SaidColors(f"color space {number} of JPEG 2000", None)
    return None


def _by_gamma(mode: str, gamma: float | None, points: Sequence[float] | None) -> SaidColors | None:
    """Read the chunks gAMA and cHRM of PNG, which most writers of sRGB add, too."""
    given = [name for name, value in (("gAMA", gamma), ("cHRM", points)) if value is not None]
    is_usual = gamma is None or abs(gamma / _SRGB_GAMMA - 1) < _NEAR
    space = _primaries(points) if points else BT709
    if is_usual and space == BT709:
        return None
    profile = None
    with suppress(ValueError, ZeroDivisionError):
        exponent = None if gamma is None else 1 / gamma
        is_gray = mode in GRAY_MODES
        profile = gray_profile(exponent) if is_gray else icc_profile(space, exponent)
    return SaidColors(" and ".join(given), profile)


def _primaries(points: Sequence[float]) -> Primaries:
    white, red, green, blue = zip(points[::2], points[1::2], strict=True)
    found = Primaries(red, green, blue, white)
    usual = [*D65, *BT709.red, *BT709.green, *BT709.blue]
    return BT709 if np.allclose(points, usual, rtol=0, atol=0.01) else found


def _by_exif(image: Image.Image) -> SaidColors | None:
    """Tell the Adobe RGB of cameras (DCF option files) by its interoperability index."""
    exif, index, space = image.getexif(), "", None
    with suppress(Exception):  # a broken table says nothing
        space = exif.get_ifd(_EXIF).get(_COLOR_SPACE)
        index = str(exif.get_ifd(_INTEROPERABILITY).get(_INDEX, ""))
    if space == _OF_EXIF_ADOBE or index.startswith("R03"):
        return SaidColors("Adobe RGB (EXIF)", icc_profile(ADOBE_RGB, _ADOBE_GAMMA))
    if space == _UNCALIBRATED:
        return SaidColors('color space "uncalibrated" (EXIF)', None)
    return None


def unseen_colors_note(image: Image.Image) -> str | None:
    """Say that colors may be missed, since Pillow keeps no `cICP` of a PNG that was in memory."""
    if image.format == "PNG" and not file_head(image):
        return "loaded from memory: a cICP of its PNG is not seen"
    return None


def file_head(image: Image.Image) -> bytes:
    """Return the first bytes of a picture's file, where it still has one."""
    if name := getattr(image, "filename", ""):
        with suppress(OSError), Path(name).open("rb") as stored:
            return stored.read(_HEAD)
    file: Any = getattr(image, "fp", None)
    is_loaded = image.format != "WEBP" and not getattr(image, "tile", ())
    if file is None or is_loaded:
        return b""
    place = file.tell()
    file.seek(0)
    head: bytes = file.read(_HEAD)
    file.seek(place)
    return head


def _png_chunk(data: bytes, wanted: bytes) -> bytes:
    """Return the data of a chunk before the pixels; b"" if there is none."""
    place = 8
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if name == wanted:
            return data[place + 8 : place + 8 + size]
        if name == b"IDAT":
            break
        place += 12 + size
    return b""


_BOXES = {b"jp2h": 0, b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes that hold boxes, and the bytes before the first of those."""


def _color_box(data: bytes, deepest: int = len(_BOXES)) -> bytes:
    """Return the data of the first color box; b"" if there is none."""
    place = 0
    while deepest and place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        end = place + size if size else len(data)
        inside = data[place + 8 : end]
        if name == b"colr":
            return inside
        if name in _BOXES and (found := _color_box(inside[_BOXES[name] :], deepest - 1)):
            return found
        if end < place + 8:  # larger than 4 GiB: pixels
            break
        place = end
    return b""


# Conversion


def _name_of(profile: ImageCms.ImageCmsProfile) -> str:
    text = ImageCms.getProfileDescription(profile)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f'color profile "{text[:_LONGEST_NAME]}"' if text else "color profile"


def _fitting(space: str, mode: str) -> str | None:
    """Return the mode in which pixels go through a profile; None if it is not for them."""
    is_gray = mode in GRAY_MODES
    fits = {"RGB": mode == "RGB" or is_gray, "GRAY": is_gray, "CMYK": mode == "CMYK"}
    if not fits.get(space):
        return None
    return "RGB" if space == "RGB" else mode


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    # Optimized, a steep curve of gray is ten levels off in the dark.
    exact = ImageCms.Flags.NOOPTIMIZE if mode in GRAY_MODES else ImageCms.Flags.NONE
    return ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        exact | ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _applied(image: Image.Image, profile: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    given = eight_bit(image) if mode == "RGB" else image
    found = ImageCms.applyTransform(given, _transform(profile, mode))
    assert found is not None  # not in place
    return found


def _is_srgb(profile: ImageCms.ImageCmsProfile, mode: str, of: str) -> bool:
    """Return whether no color that pixels of mode `of` may have moves by more than a level."""
    if mode == "CMYK":
        return False
    probe = _RAMP if of in GRAY_MODES else _GRID
    shown = np.asarray(_applied(probe, profile, "L" if mode in GRAY_MODES else mode), int)
    return bool(np.abs(shown - np.asarray(eight_bit(probe), int)).max() <= 1)


_RAMP = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
_GRID = Image.fromarray(
    np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), -1).reshape(1, -1, 3).astype(np.uint8)
)
