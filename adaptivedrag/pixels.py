"""Images as callers have them (paths, PIL images, arrays), read as the method's 8-bit RGB."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from adaptivedrag.errors import InvalidEdit

Pixels = UInt8[np.ndarray, "h w 3"]

_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def rgb_pixels(image: str | Path | Image.Image | np.ndarray) -> Pixels:
    """Return an image as RGB, upright and with what is transparent laid over white.

    Args:
        image: a path; a PIL image; or an array (height, width) of gray or (height, width, 3 or 4)
            of RGB or RGBA, uint8 or floats from 0 to 1.

    Raises:
        InvalidEdit: if it cannot be read, or is an array of another shape, type or range.
    """
    if isinstance(image, np.ndarray):
        return _rgb(Image.fromarray(_bytes(image)))
    if isinstance(image, Image.Image):
        return _rgb(ImageOps.exif_transpose(image))
    try:
        with Image.open(image) as opened:
            return _rgb(ImageOps.exif_transpose(opened))
    except InvalidEdit as error:
        raise InvalidEdit(f"{image}: {error}") from error
    # Pillow's decoders raise errors of a dozen types on damaged bytes.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InvalidEdit(f"{image} cannot be read as an image: {reason}") from error


def _bytes(array: np.ndarray) -> UInt8[np.ndarray, "h w *channels"]:
    """Return an array as uint8, (height, width) or (height, width, 3 or 4)."""
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)) or not array.size:
        raise InvalidEdit(
            f"image is an array of shape {array.shape}: give (height, width) or "
            "(height, width, 3 or 4), channels last"
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidEdit(f"image is an array of {array.dtype}: give uint8, or floats from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN compares false
        raise InvalidEdit(
            f"image is an array of {array.dtype} with values from {low:g} to {high:g}: "
            "give floats from 0 to 1, or uint8"
        )
    return (array * 255).round().astype(np.uint8)


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise InvalidEdit("32-bit floating-point pixels have no known range: give 8 bits")
    if image.mode in _DEEP_MODES:
        image = _from_sixteen_bits(image)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layers)
    return np.array(image.convert("RGB"))


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InvalidEdit("32-bit integer pixels have no known range: give 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))
