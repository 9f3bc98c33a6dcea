"""Images as users have them, decoded to 8-bit RGB, with notes on what was converted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from adaptivedrag.errors import InvalidEdit
from artifacts import digest_pixels

Pixels: TypeAlias = npt.NDArray[np.uint8]

PIXEL_LIMIT = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Formats that are decoded; others run interpreters (EPS) or say little about their size."""

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_MODE_NAMES = {
    "1": "black and white",
    "L": "gray",
    "LA": "gray with transparency",
    "P": "palette",
    "PA": "palette with transparency",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "Lab",
    "HSV": "HSV",
}


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of an image, uint8 (height, width, 3), and what was converted to get them."""

    pixels: Pixels
    notes: tuple[str, ...]


def read_image(path: Path, pixel_limit: int = PIXEL_LIMIT) -> Pixels:
    """Return an image as uint8 RGB (height, width, 3), as seen after EXIF orientation.

    Raises:
        InvalidEdit: if it cannot be decoded or its header declares more than `pixel_limit` pixels.
    """
    return decode_image(path, pixel_limit).pixels


def decode_image(path: Path, pixel_limit: int = PIXEL_LIMIT) -> DecodedImage:
    """Like `read_image`, with notes on what was converted."""
    with opened(path, pixel_limit) as image:
        sixteen_bit = _is_sixteen_bit(image)  # not known once the pixels are loaded
        notes = [animation_note(image), rotation_note(image)]
        ImageOps.exif_transpose(image, in_place=True)
        rgb, conversion = _to_rgb(image, sixteen_bit)
        return DecodedImage(np.array(rgb), tuple(note for note in (*notes, conversion) if note))


def describe_image(path: Path) -> dict[str, Any]:
    """Return the digest, size and notes of an image, as JSON; see `read_image`."""
    found = decode_image(path)
    height, width, _ = found.pixels.shape
    digest = digest_pixels(found.pixels)
    return {"digest": digest, "width": width, "height": height, "notes": [*found.notes]}


@contextmanager
def opened(path: Path, pixel_limit: int) -> Iterator[Image.Image]:
    """Open by header, refuse what is too large, and turn every decoder's error into ours."""
    try:
        with _without_bomb_warning(), Image.open(path, formats=FORMATS) as image:
            _refuse_bomb(path, image.width * image.height, pixel_limit)
            yield image
    except (InvalidEdit, MemoryError):
        raise
    except FileNotFoundError:
        raise InvalidEdit(f"{path} does not exist: correct the path") from None
    except Image.DecompressionBombError:
        raise InvalidEdit(_bomb_message(path, "far too many", pixel_limit)) from None
    except UnidentifiedImageError:
        raise InvalidEdit(
            f"{path} is damaged or not an image: PNG, JPEG, WebP, TIFF, BMP, GIF and PPM are read"
        ) from None
    # Pillow's decoders raise errors of a dozen types on damaged bytes.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidEdit(f"{path} cannot be decoded ({reason}): save it again") from error


@contextmanager
def _without_bomb_warning() -> Iterator[None]:
    """Our own limit is checked right after the header is read; Pillow's warning would repeat it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _refuse_bomb(path: Path, pixels: int, pixel_limit: int) -> None:
    if pixels > pixel_limit:
        raise InvalidEdit(_bomb_message(path, f"{pixels / 1e6:.1f} million", pixel_limit))


def _bomb_message(path: Path, pixels: str, pixel_limit: int) -> str:
    limit = f"{pixel_limit / 1e6:g} million"
    return f"{path} has {pixels} pixels, and the limit is {limit}: shrink it, with its points"


def animation_note(image: Image.Image) -> str | None:
    """Say that only the first of several frames is used."""
    if image.format == "TIFF":  # which looks for the frames one by one
        several = getattr(image, "is_animated", False)
        return "animated: first of several frames used" if several else None
    frames = getattr(image, "n_frames", 1)
    return f"animated: first of {frames} frames used" if frames > 1 else None


def rotation_note(image: Image.Image) -> str | None:
    """Say that an image is turned as its EXIF orientation asks."""
    orientation = image.getexif().get(0x0112, 1)
    return f"EXIF orientation {orientation}: turned upright" if orientation in range(2, 9) else None


def _is_sixteen_bit(image: Image.Image) -> bool:
    """Return whether the raw mode is 16-bit: Pillow drops its low bits silently."""
    return image.mode in DEEP_MODES or any(
        "16" in _raw_mode(tile.args) for tile in getattr(image, "tile", ())
    )


def _raw_mode(decoder_arguments: object) -> str:
    if isinstance(decoder_arguments, tuple) and decoder_arguments:
        return str(decoder_arguments[0])
    return str(decoder_arguments)


def _to_rgb(image: Image.Image, sixteen_bit: bool) -> tuple[Image.Image, str | None]:
    if image.mode == "F":
        raise InvalidEdit("32-bit floating-point pixels have no known range: save it with 8 bits")
    if image.mode in DEEP_MODES:
        return _from_deep_gray(image), "16-bit gray: converted to 8-bit RGB"
    depth = "16-bit " if sixteen_bit else ""
    name = depth + _MODE_NAMES.get(image.mode, image.mode)
    if image.has_transparency_data:
        return _over_white(_as_rgba(image)), f"{name}: laid over white"
    if image.mode != "RGB" or sixteen_bit:
        return image.convert("RGB"), f"{name}: converted to {'8-bit ' * sixteen_bit}RGB"
    return image, None


def _from_deep_gray(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise InvalidEdit("32-bit integer pixels have no known range: save it with 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _as_rgba(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGBA" else image.convert("RGBA")  # which would copy it


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
