"""Masks as users have them, read as True where the image may change; `docs/masks.md` has the rules.

A mask is data, not a picture: it is read at its full depth, without any conversion of colors.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.colors import file_head
from adaptivedrag.pictures.decoding import (
    DEEP_MODES,
    Stored,
    clear_layers,
    frames_note,
    rotation_note,
)
from adaptivedrag.pictures.files import opened
from adaptivedrag.pictures.limit import PIXEL_LIMIT

Mask: TypeAlias = npt.NDArray[np.bool_]
Values: TypeAlias = npt.NDArray[Any]

SAMPLE_FORMAT, UNSIGNED = 339, (1,)
"""A tag of TIFFs that Pillow leaves aside in 32 bits, and its value where it is not given."""
LOSSY = ("JPEG", "MPO", "AVIF", "JPEG2000")
"""Formats that keep no exact values, so that they hold no labels."""

FEW = 16
"""Levels that a mask with soft edges mostly has more of."""
MANY = 64
"""Levels, or colors, that labels in 8 bits have at most where none of them is white."""
WHITE = 224
"""The least of 255 that is drawn as white."""
DIM = 64
"""The least of 255 that may be the brightest level of a soft mask; below, all is black."""
NOISE = 16
"""How far lossy compression takes white away from itself, of 255."""
GRAIN = 0.25
"""Share of neighbors that differ in a noisy picture; labels are even areas."""
SOME = 0.05
"""Area of labels that are dark, beside that of bright ones; soft edges have less."""
BLACK = 2
"""The brightest level that programs write for black beside colors, of 255."""
GRAY = 16
"""The most by which the channels of a gray differ, or the colors of a flat area."""
TWO_TONES = 0.9
"""Share of a black and white mask that is nearly black or nearly white, edges aside."""

_LABELS = "read as labels, everything but 0 may change"
_BACKGROUND = "read as labels, everything but its most frequent color may change"
_COLORS = "it has many colors, what is at least half bright may change"
_FROM_WHITE = "it counts from white: turned round"
_SAME_ALPHA = "its transparency is the same everywhere, and is left aside"


@dataclass(frozen=True)
class DecodedMask:
    """True where the image may change, (height, width), and what its author may not expect."""

    values: Mask
    notes: tuple[str, ...]


class _Read(NamedTuple):
    values: Mask
    note: str | None = None


def read_mask(path: Path, pixel_limit: int = PIXEL_LIMIT) -> DecodedMask:
    """Return a mask file as True where the image may change, with notes on how it was read.

    Raises:
        InvalidEdit: if it cannot be decoded or its header declares more than `pixel_limit` pixels.
    """
    with opened(path, pixel_limit) as image:
        return decode_mask(image)


def decode_mask(image: Image.Image) -> DecodedMask:
    """Like `read_mask`, of an image that was opened.

    Raises:
        InvalidEdit: if its depth or its layout is not read, or leaves nothing of it.
    """
    stored, is_lossy = Stored.of(image), _is_lossy(image)
    notes = [frames_note(image), rotation_note(image)]
    tags = dict(getattr(image, "tag_v2", {}))
    image = ImageOps.exif_transpose(image)
    if image.mode in (*DEEP_MODES, "F"):
        found = _of_depth(_deep(image, tags, stored), image.info.get("transparency"))
    else:
        found = _of_bytes(image, stored, is_lossy=is_lossy)
        if stored.bits == 16:
            notes.append(_high_byte_note(found.values))
    notes += [_FROM_WHITE if stored.is_from_white else None, found.note]
    return DecodedMask(found.values, tuple(note for note in notes if note))


def _is_lossy(image: Image.Image) -> bool:
    """Tell whether compression may have changed values; a WebP says so by its first frame."""
    if image.format != "WEBP":
        return image.format in LOSSY
    head, place = file_head(image), 12
    while place + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, place)
        if name in (b"VP8 ", b"VP8L"):
            return bool(name == b"VP8 ")
        place += 24 if name == b"ANMF" else 8 + size + size % 2
    return False


def _of_bytes(image: Image.Image, stored: Stored, *, is_lossy: bool) -> _Read:
    """Read a mask of which Pillow has at most 8 bits."""
    if image.has_transparency_data:
        colors, alpha = clear_layers(image, stored)
        return _of_layers(np.asarray(colors.convert("RGB")), np.asarray(alpha), is_lossy=is_lossy)
    if image.mode == "P":
        return _of_palette(image)
    if image.mode in ("1", "L"):
        return _of_levels(np.asarray(image, np.uint8), is_lossy=is_lossy)
    return _of_colors(np.asarray(image.convert("RGB")), is_lossy=is_lossy)


def _high_byte_note(mask: Mask) -> str:
    if not mask.any():
        raise InvalidEdit(
            "16-bit colors are read by their high byte, which leaves nothing of this mask: "
            "save it as 8-bit or 16-bit gray"
        )
    return "16-bit colors: read by their high byte"


def _deep(image: Image.Image, tags: Mapping[int, Any], stored: Stored) -> Values:
    """Return values of more than 8 bits as a TIFF means them; other files have no such tags."""
    values: Values = np.asarray(image)
    if image.mode == "F":
        if stored.is_from_white:
            raise InvalidEdit("fractions that count from white are not read: count from black")
        return np.nan_to_num(values)
    if image.mode == "I":
        is_unsigned = bool(tags) and tags.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED
        return values.view(np.uint32) if is_unsigned else values
    return 65535 - values.astype(np.int64) if stored.is_from_white else values


def _of_depth(values: Values, clear: int | None) -> _Read:
    """Read values of more than 8 bits, of which one may stand for what is transparent."""
    if clear is None or clear not in values:
        return _of_levels(values)
    high = (values >> 8).astype(np.uint8)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return _of_layers(np.dstack([high] * 3), alpha, is_lossy=False)


def _of_levels(values: Values, *, is_lossy: bool = False) -> _Read:
    """Read values of one channel: those of labels that are not 0, or the brighter half."""
    levels, counts = _levels(values)
    if len(levels) <= 2:
        return _Read(values > (levels[0] if len(levels) == 2 else 0))
    if is_lossy:
        return _Read(_brighter_half(values))
    if values.dtype == np.uint8:
        changes = np.count_nonzero(values[:, 1:] != values[:, :-1])
        are_labels = changes <= GRAIN * values.size and _are_labels(levels, counts)
    else:
        are_labels = _are_deep_labels(levels)
    return _Read(values > 0, _LABELS) if are_labels else _Read(_brighter_half(values))


def _levels(values: Values) -> tuple[Values, Values]:
    """Return the values that exist, in order, and how often each does."""
    if values.dtype == np.uint8:
        histogram = np.array(Image.fromarray(values).histogram())
        levels = np.flatnonzero(histogram)
        return levels, histogram[levels]
    levels, counts = np.unique(values, return_counts=True)
    return levels, counts


def _are_labels(levels: Values, counts: Values) -> bool:
    """Tell at least three levels of 8 bits that are labels from a mask with soft edges.

    Labels have no white among them, or are few and exact, and enough of them are dark.
    """
    brightest = levels[-1]
    if brightest < WHITE:
        return len(levels) <= MANY
    if len(levels) > FEW or levels[-2] >= brightest - NOISE:
        return False
    dark = (levels > levels[0]) & (levels < 128)
    return bool(counts[dark].sum() >= SOME * counts[levels >= 128].sum())


def _are_deep_labels(levels: Values) -> bool:
    """Like `_are_labels`, for more bits: anything but many levels up to white, or fractions."""
    if len(levels) <= FEW or levels[0] < 0:
        return True
    return levels.dtype.kind != "f" and not WHITE * 257 <= levels[-1] <= 65535


def _brighter_half(values: Values) -> Mask:
    """Return what is brighter than half of white, or of the brightest level of a dim mask."""
    brightest = float(values.max())
    if values.dtype.kind == "f":
        return values > max(1.0, brightest) / 2
    return values > (brightest if brightest >= DIM else 255) / 2


def _of_colors(rgb: Values, *, is_lossy: bool) -> _Read:
    """Read colors: grays as levels; of a few exact ones all but the background; or the bright."""
    brightest = rgb.max(axis=2)
    if (brightest - rgb.min(axis=2)).max() <= GRAY:
        return _of_levels(brightest, is_lossy=is_lossy)
    colors = None if is_lossy else Image.fromarray(rgb).getcolors(MANY)
    if colors is None:
        return _Read(_brighter_half(brightest), _COLORS)
    if brightest.min() <= BLACK:
        return _Read(brightest > BLACK, _LABELS)
    _, background = max(colors)
    return _Read((rgb != background).any(axis=2), _BACKGROUND)


def _of_palette(image: Image.Image) -> _Read:
    """Read a palette by its colors, or by its numbers where all have the same color."""
    rgb, numbers = np.asarray(image.convert("RGB")), np.asarray(image)
    if numbers.max() > 0 and (rgb == rgb[0, 0]).all():
        return _Read(numbers > 0, _LABELS)
    return _of_colors(rgb, is_lossy=False)


def _of_layers(rgb: Values, alpha: Values, *, is_lossy: bool) -> _Read:
    """Read a mask with transparency: see `docs/masks.md` for which part is meant."""
    if alpha.min() == alpha.max():
        found = _of_colors(rgb, is_lossy=is_lossy)
        return found if alpha.min() == 255 else _Read(found.values, _SAME_ALPHA)
    visible = alpha > (int(alpha.min()) + int(alpha.max())) / 2
    shown = rgb[visible]
    if _is_black_and_white(shown):
        return _Read(visible & (rgb.max(axis=2) >= 128), "what is transparent counts as black")
    part = visible if visible.mean() <= 0.5 and _are_strokes(shown) else ~visible
    name = "transparent" if part[~visible].any() else "opaque"
    return _Read(part, f"its {name} part, {part.mean():.1%} of it, may change")


def _is_black_and_white(colors: Values) -> bool:
    """Tell whether colors (n, 3) are both black and white, soft edges aside."""
    brightest = colors.max(axis=1)
    in_two_tones = (brightest < 255 - WHITE) | (brightest >= WHITE)
    is_gray = (brightest - colors.min(axis=1)).max() <= GRAY
    return bool(np.ptp(brightest) > GRAY and is_gray and in_two_tones.mean() >= TWO_TONES)


def _are_strokes(colors: Values) -> bool:
    """Tell whether colors (n, 3) are those of strokes, a single or few exact ones."""
    is_single = np.ptp(colors, axis=0).max() <= GRAY
    return bool(is_single) or Image.fromarray(colors[None]).getcolors(MANY) is not None
