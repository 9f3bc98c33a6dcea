"""Images as callers have them (paths, PIL images, arrays), read as the method's 8-bit RGB."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.decoding import DecodedImage, decode
from adaptivedrag.pictures.files import read_picture


def rgb_pixels(image: str | Path | Image.Image | np.ndarray) -> DecodedImage:
    """Return an image as sRGB, upright and with what is transparent laid over white.

    Args:
        image: a path; a PIL image; or an array (height, width) of gray or (height, width, 3 or 4)
            of RGB or RGBA, uint8 or floats from 0 to 1, taken to be sRGB.

    Raises:
        InvalidEdit: if it cannot be read, or is an array of another shape, type or range.
    """
    if isinstance(image, np.ndarray):
        return decode(Image.fromarray(_bytes(image)))
    if isinstance(image, Image.Image):
        return decode(image)
    return read_picture(Path(image))


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
