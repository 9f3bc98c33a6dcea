"""The images and masks of a job as the stages read them."""

import base64
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from adaptivedrag.pictures import masks
from adaptivedrag.pictures.files import read_picture
from adaptivedrag.pictures.limit import PIXEL_LIMIT
from adaptivedrag.pictures.masks import Mask
from artifacts import Digest, digest_pixels
from stages.jobs.image_files import TOUCHED_SIDE

Pixels: TypeAlias = npt.NDArray[np.uint8]


def read_image(path: Path, pixel_limit: int = PIXEL_LIMIT) -> Pixels:
    """Return an image as uint8 sRGB (height, width, 3), as seen after EXIF orientation.

    Raises:
        InvalidEdit: if it cannot be decoded or its header declares more than `pixel_limit` pixels.
    """
    return read_picture(path, pixel_limit).pixels


def describe_image(path: Path, pixel_limit: int = PIXEL_LIMIT) -> dict[str, Any]:
    """Return the digest, size and notes of an image, as JSON; see `read_image`."""
    found = read_picture(path, pixel_limit)
    height, width, _ = found.pixels.shape
    digest = digest_pixels(found.pixels)
    return {"digest": digest, "width": width, "height": height, "notes": [*found.notes]}


def read_mask(path: Path, pixel_limit: int = PIXEL_LIMIT) -> Mask:
    """Return a mask (height, width), True where the image may change.

    Raises:
        InvalidEdit: if it cannot be decoded or its header declares more than `pixel_limit` pixels.
    """
    return masks.read_mask(path, pixel_limit).values


def digest_mask(mask: Mask) -> Digest:
    """Return the digest of a mask's values."""
    return digest_pixels(mask.astype(np.uint8)[:, :, None])


def describe_mask(path: Path, pixel_limit: int = PIXEL_LIMIT) -> dict[str, Any]:
    """Return what `MaskInfo` knows of a mask, as JSON; see `read_mask`."""
    mask = masks.read_mask(path, pixel_limit)
    height, width = mask.values.shape
    return {
        "digest": digest_mask(mask.values),
        "width": width,
        "height": height,
        "notes": [*mask.notes],
        "share": float(mask.values.mean()),
        "touched": _touched(mask.values),
    }


def _touched(mask: Mask) -> str:
    """Return which squares of `TOUCHED_SIDE` pixels the mask touches, row by row, as text."""
    height, width = (-(-side // TOUCHED_SIDE) * TOUCHED_SIDE for side in mask.shape)
    whole = np.zeros((height, width), bool)
    whole[: mask.shape[0], : mask.shape[1]] = mask
    squares = whole.reshape(height // TOUCHED_SIDE, TOUCHED_SIDE, -1, TOUCHED_SIDE).any((1, 3))
    return base64.b64encode(zlib.compress(np.packbits(squares).tobytes())).decode()
