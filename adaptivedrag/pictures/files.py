"""Picture files, opened by their headers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.decoding import DecodedImage, decode
from adaptivedrag.pictures.formats import HEAD, raw_refusal, refusal
from adaptivedrag.pictures.limit import PIXEL_LIMIT, refuse_large

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
"""Formats that are decoded; others run interpreters (EPS) or say little about their size."""

# Pillow knows 16-bit gray whose zero is white in little-endian files only.
TiffImagePlugin.OPEN_INFO[TiffImagePlugin.MM, 0, (1,), 1, (16,), ()] = ("I;16B", "I;16B")

_opening = threading.Lock()


@contextmanager
def opened(path: Path, pixel_limit: int = PIXEL_LIMIT) -> Iterator[Image.Image]:
    """Open a picture by its header; errors of decoders become ours, also while it is read.

    Raises:
        InvalidEdit: in one line: it is missing, too large, damaged, or not of `FORMATS`.
    """
    with decoded(path, "save it again"), _header(path) as image:
        refuse_large(path, image.width * image.height, pixel_limit)
        _refuse_preview(path, image)
        try:
            yield image
        except InvalidEdit as error:
            raise InvalidEdit(f"{path}: {error}") from error


@contextmanager
def decoded(what: Path | str, remedy: str) -> Iterator[None]:
    """Make `InvalidEdit` of the dozen types of errors that Pillow's decoders raise."""
    try:
        yield
    except (InvalidEdit, MemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidEdit(f"{what} cannot be decoded ({reason}): {remedy}") from error


def _header(path: Path) -> Image.Image:
    """Open without Pillow's own limit, since ours is checked before any pixel is decoded."""
    with _opening:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=FORMATS)
        except FileNotFoundError:
            raise InvalidEdit(f"{path} does not exist: correct the path") from None
        except UnidentifiedImageError:
            raise InvalidEdit(refusal(path, _head(path))) from None
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _refuse_preview(path: Path, image: Image.Image) -> None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        reason = raw_refusal(path, _head(path), image.tag_v2)
        if reason:
            raise InvalidEdit(reason)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def read_picture(path: Path, pixel_limit: int = PIXEL_LIMIT) -> DecodedImage:
    """Return a picture file as 8-bit sRGB, with notes on what was converted; see `decode`.

    Raises:
        InvalidEdit: as `opened` and `decode`.
    """
    with opened(path, pixel_limit) as image:
        return decode(image, in_place=True)
