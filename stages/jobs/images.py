"""The images of a job as the stages read them."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from adaptivedrag.pictures.files import read_picture
from adaptivedrag.pictures.limit import PIXEL_LIMIT
from artifacts import digest_pixels

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
