"""Pictures of any mode and depth as 8-bit RGB, upright, over white, in sRGB."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.colors import GRAY_MODES, said_colors, to_srgb, unseen_colors_note

Pixels = UInt8[np.ndarray, "h w 3"]

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_MODE_NAMES = {
    "1": "black and white",
    "L": "gray",
    "LA": "gray with transparency",
    "La": "gray with transparency",
    "P": "palette",
    "PA": "palette with transparency",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "LAB": "Lab",
}
_PHOTOMETRIC, _BITS, _PLANES = 262, 258, 284
_WHITE_IS_ZERO, _SEPARATE = 0, 2
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of an image, in sRGB, and what was converted to get them."""

    pixels: Pixels
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """How the pixels of an image are stored, which is not known any more once they are loaded.

    Attributes:
        raw: such as "L;4" or "RGB;16B"; "" if unknown.
        bits: of a sample.
        is_from_white: whether zero is white; Pillow turns round what has 8 bits or fewer.
    """

    raw: str
    bits: int
    is_from_white: bool

    @classmethod
    def of(cls, image: Image.Image) -> "Stored":
        """Look at an image that was opened.

        Raises:
            InvalidEdit: if it has 16-bit colors in planes, which Pillow takes to have 8 bits.
        """
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(_BITS, ())
        if tags.get(_PLANES) == _SEPARATE and len(bits) > 1 and max(bits) > 8:
            raise InvalidEdit("16-bit colors in separate planes are not read: interleave them")
        raw, is_from_white = _raw_mode(image), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        if image.mode in DEEP_MODES:
            return cls(raw, 12 if bits == (12,) else 16, is_from_white)
        low = {"L;2": 2, "L;4": 4}.get(raw, 8)
        return cls(raw, 16 if "16" in raw else low, is_from_white)

    @property
    def is_gray(self) -> bool:
        """Whether a gray with transparency was stored that Pillow loads as RGBA."""
        return self.raw.startswith("LA;")

    @property
    def depth(self) -> str:
        """The depth, where it is more than 8 bits, as it stands before a mode's name."""
        return f"{self.bits}-bit " if self.bits > 8 else ""


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of how pixels are stored; "" of those that are loaded."""
    for tile in getattr(image, "tile", ()):
        match tile[3]:
            case (str(mode), int(top)) if tile[0] == "ppm" and top > 255:
                return f"{mode};16"
            case (mode, *_):
                return str(mode)
            case mode:
                return str(mode)
    return ""


def decode(image: Image.Image, *, in_place: bool = False) -> DecodedImage:
    """Return an image as 8-bit sRGB, as seen after EXIF orientation; transparency lies over white.

    Args:
        in_place: whether the image may be changed, which saves memory.

    Raises:
        InvalidEdit: if its pixels have no known range, are HDR, or are 8 bits stored in 16.
    """
    stored, said = Stored.of(image), said_colors(image)
    notes = [unseen_colors_note(image)]  # first: to look for EXIF loads a PNG
    notes += [frames_note(image), rotation_note(image)]
    if in_place:
        ImageOps.exif_transpose(image, in_place=True)
    else:
        image = ImageOps.exif_transpose(image)
    colors, alpha = _layers(image, stored)
    if stored.bits == 16 and colors.mode in ("I;16", "L", "RGB"):
        notes.append(range_note(_highest(colors)))
    rgb, of_colors = to_srgb(colors, said)
    if alpha is not None:
        rgb = _over_white(rgb, alpha)
    notes += [_mode_note(image, stored), of_colors]
    return DecodedImage(np.array(rgb), tuple(note for note in notes if note))


def _layers(image: Image.Image, stored: Stored) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors (L, I;16, RGB, CMYK or LAB), and the opacity where not all is opaque."""
    if image.mode == "F":
        raise InvalidEdit("32-bit floating-point pixels have no known range: save it with 8 bits")
    if image.mode in DEEP_MODES:
        return _deep_layers(image, stored)
    if image.has_transparency_data:
        return clear_layers(image, stored)
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _deep_layers(image: Image.Image, stored: Stored) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise InvalidEdit("32-bit integer pixels have no known range: save it with 8 bits")
    values = values.astype(np.uint16)
    clear = image.info.get("transparency")
    alpha = None if clear is None else Image.fromarray((values != clear).astype(np.uint8) * 255)
    shown = _full_range(values, stored)
    return Image.fromarray(shown), alpha


def _full_range(values: UInt16[np.ndarray, "h w"], stored: Stored) -> UInt16[np.ndarray, "h w"]:
    """Return gray from 0, black, to 65535, white."""
    if stored.bits == 12:
        values = values << 4 | values >> 8
    return 65535 - values if stored.is_from_white else values


def _highest(colors: Image.Image) -> int:
    """Return the highest value of 16 bits; of colors, of which the high byte is left, at most."""
    values = np.asarray(colors)
    return int(values.max()) if colors.mode == "I;16" else int(values.max()) << 8 | 255


def range_note(highest: int) -> str | None:
    """Say of 16-bit pixels that they leave the upper bits unused, which makes them dark.

    Raises:
        InvalidEdit: if they have only the lower 8 bits, so that they would be black.
    """
    if 0 < highest <= 255:
        raise InvalidEdit(
            "its 16-bit values are all below 256, which is black: "
            "save it with 8 bits, or with values up to 65535"
        )
    bits = highest.bit_length()
    if 0 < bits <= 14:
        return f"uses only {bits} of 16 bits: dark unless its values are scaled up to 65535"
    return None


def clear_layers(image: Image.Image, stored: Stored) -> tuple[Image.Image, Image.Image]:
    """Return the colors (L or RGB) and the opacity of an image with transparency of 8 bits."""
    # Pillow compares the transparent color with samples that it has brought to 8 bits.
    clear = image.info.get("transparency")
    if isinstance(clear, int) and stored.bits < 8:
        image.info["transparency"] = clear * 255 // ((1 << stored.bits) - 1)
    elif isinstance(clear, tuple) and stored.bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    is_gray = image.mode in GRAY_MODES or stored.is_gray
    if image.mode == "La":  # which Pillow turns into nothing else
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    return rgba.getchannel("R") if is_gray else rgba.convert("RGB"), rgba.getchannel("A")


def _over_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


# Notes


def frames_note(image: Image.Image) -> str | None:
    """Say that only the first of several frames, pages or pictures is used."""
    if image.format == "TIFF":  # which looks for the pages one by one
        return "several pages: the first is used" if getattr(image, "is_animated", False) else None
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return None
    if image.format == "MPO":  # a photograph, with previews or a depth map
        return f"{frames} pictures: the first is used"
    return f"animated: first of {frames} frames used"


def rotation_note(image: Image.Image) -> str | None:
    """Say that an image is turned as its EXIF orientation asks."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    return f"EXIF orientation {orientation}: turned upright" if orientation in range(2, 9) else None


def _mode_note(image: Image.Image, stored: Stored) -> str | None:
    if image.mode in DEEP_MODES:
        name = "gray"
    elif stored.is_gray:
        name = _MODE_NAMES["LA"]
    else:
        name = _MODE_NAMES.get(image.mode, image.mode)
    if image.has_transparency_data:
        return f"{stored.depth}{name}: laid over white"
    if image.mode != "RGB" or stored.depth:
        return f"{stored.depth}{name}: converted to {'8-bit ' * bool(stored.depth)}RGB"
    return None
