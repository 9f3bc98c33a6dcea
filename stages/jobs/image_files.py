"""The image files of a job: what has to be known of them before any work.

Nothing that decodes is loaded for files that were seen before.
"""

import base64
import zlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import PIL

from adaptivedrag.pictures.limit import PIXEL_LIMIT, refuse_large
from adaptivedrag.points import ImagePoint
from artifacts import Digest, StatCache

_DECODING = 3
"""Raise when images are decoded differently, so that old digests are not taken for new."""
IMAGE = f"image/{_DECODING}/{PIL.__version__}"
"""Names what is remembered of an image file."""
_READING = 4
"""Raise when masks are read differently."""
MASK = f"mask/{_READING}/{PIL.__version__}"
"""Names what is remembered of a mask file."""
TOUCHED_SIDE = 2
"""Side in pixels of the squares by which a mask is remembered."""


@dataclass(frozen=True)
class ImageInfo:
    """What a job needs to know of an image.

    Attributes:
        digest: of the decoded, oriented sRGB pixels.
        width: in pixels, after EXIF orientation.
        notes: what was converted, such as "gray: converted to RGB".
    """

    digest: Digest
    width: int
    height: int
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> int:
        """How many it has: what may be decoded when it is read again."""
        return self.width * self.height


@dataclass(frozen=True)
class MaskInfo(ImageInfo):
    """What a job needs to know of a mask; the digest is that of its boolean values.

    Attributes:
        share: of its pixels that may change.
        touched: which squares of `TOUCHED_SIDE` pixels may change, packed.
    """

    share: float = 0.0
    touched: str = ""

    def holds(self, point: ImagePoint) -> bool:
        """Return whether a point lies in a square that the mask touches."""
        row, col = (
            min(max(round(at), 0), side - 1) // TOUCHED_SIDE
            for at, side in ((point.y, self.height), (point.x, self.width))
        )
        place = row * -(-self.width // TOUCHED_SIDE) + col
        return bool(self._squares[place // 8] & 128 >> place % 8)

    @cached_property
    def _squares(self) -> bytes:
        return zlib.decompress(base64.b64decode(self.touched))


def inspect_image(path: Path, cache: StatCache, pixel_limit: int = PIXEL_LIMIT) -> ImageInfo:
    """Return the digest and size of an image, decoding it only if the file has changed.

    Raises:
        InvalidEdit: as `read_image`.
    """
    seen = cache.value(path, IMAGE, partial(_decoded_image, pixel_limit=pixel_limit))
    refuse_large(path, seen["width"] * seen["height"], pixel_limit)
    return ImageInfo(**seen | {"notes": tuple(seen["notes"])})


def inspect_mask(path: Path, cache: StatCache, pixel_limit: int = PIXEL_LIMIT) -> MaskInfo:
    """Return what a job needs to know of a mask, decoding it only if the file has changed.

    Raises:
        InvalidEdit: as `read_mask`.
    """
    seen = cache.value(path, MASK, partial(_decoded_mask, pixel_limit=pixel_limit))
    refuse_large(path, seen["width"] * seen["height"], pixel_limit)
    return MaskInfo(**seen | {"notes": tuple(seen["notes"])})


def _decoded_image(path: Path, pixel_limit: int) -> dict[str, Any]:
    from stages.images import describe_image

    return describe_image(path, pixel_limit)


def _decoded_mask(path: Path, pixel_limit: int) -> dict[str, Any]:
    from stages.images import describe_mask

    return describe_mask(path, pixel_limit)
