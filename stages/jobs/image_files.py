"""The image files of a job: where they are, and what has to be known of them before any work.

Nothing that decodes is loaded for files that were seen before.
"""

import base64
import os
import stat
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import PIL

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import ImagePoint
from artifacts import Digest, StatCache

_SHOWN = 80
_DECODING = 1
"""Raise when images are decoded differently, so that old digests are not taken for new."""
IMAGE = f"image/{_DECODING}/{PIL.__version__}"
"""Names what is remembered of an image file."""
_READING = 2
"""Raise when masks are read differently."""
MASK = f"mask/{_READING}/{PIL.__version__}"
"""Names what is remembered of a mask file."""
TOUCHED_SIDE = 2
"""Side in pixels of the squares by which a mask is remembered."""
_LONGEST = 1000


@dataclass(frozen=True)
class ImageInfo:
    """What a job needs to know of an image.

    Attributes:
        digest: of the decoded, oriented RGB pixels.
        width: in pixels, after EXIF orientation.
        notes: what was converted, such as "gray: converted to RGB".
    """

    digest: Digest
    width: int
    height: int
    notes: tuple[str, ...] = ()


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
        return zlib.decompress(base64.b85decode(self.touched))


def locate(root: Path, name: str) -> Path:
    """Return the file called `name` under `root`, with links followed.

    Raises:
        InvalidEdit: if it is missing, is no regular file, or lies outside `root`.
    """
    root, shown = root.resolve(), repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")
    try:
        path = (root / name).resolve()
        inside = path.is_relative_to(root)
        mode = path.stat().st_mode if inside else 0
    except FileNotFoundError:
        raise InvalidEdit(f"{shown} does not exist in {root}: correct the path") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidEdit(
            f"{shown} cannot be opened in {root} ({reason}): correct the path"
        ) from None
    if not inside:
        raise InvalidEdit(
            f"{shown} lies outside {root}: move the file there or set image_root or mask_root"
        )
    if not stat.S_ISREG(mode):
        raise InvalidEdit(f"{shown} is not a regular file: name an image file")
    return path


@dataclass(frozen=True)
class ImageFolder:
    """Finds the files of one folder as `locate` does, at a fraction of the cost for the many
    names that are neither links nor odd: each folder on the way is resolved once.
    """

    root: Path
    _folders: dict[str, str | None] = field(default_factory=dict)

    def recall(self, names: Iterable[object], kind: str, cache: StatCache) -> None:
        """Let the cache read in one go what it knows of files that will be asked for by name."""
        folder = self._folders.setdefault("", self._resolved(""))
        usual = {name for name in names if isinstance(name, str) and len(name) <= _LONGEST}
        if folder and usual:
            cache.recall((f"{folder}/{name}" for name in usual), kind)

    def locate(self, name: str) -> Path:
        """Return the file of that name; see `locate`."""
        above, slash, leaf = name.rpartition("/")
        if slash and not above:
            return locate(self.root, name)
        if above not in self._folders:
            self._folders[above] = self._resolved(above)
        folder = self._folders[above]
        if folder is not None and leaf not in ("", ".", ".."):
            path = f"{folder}/{leaf}"
            with suppress(OSError, ValueError):  # `locate` says what is wrong
                if stat.S_ISREG(os.lstat(path).st_mode):
                    return Path(path)
        return locate(self.root, name)

    def _resolved(self, name: str) -> str | None:
        try:
            root, folder = self.root.resolve(), (self.root / name).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return str(folder) if folder.is_relative_to(root) else None


def inspect_image(path: Path, cache: StatCache) -> ImageInfo:
    """Return the digest and size of an image, decoding it only if the file has changed.

    Raises:
        InvalidEdit: as `read_image`.
    """
    seen = cache.value(path, IMAGE, _decoded_image)
    return ImageInfo(**seen | {"notes": tuple(seen["notes"])})


def inspect_mask(path: Path, cache: StatCache) -> MaskInfo:
    """Return what a job needs to know of a mask, decoding it only if the file has changed.

    Raises:
        InvalidEdit: as `read_mask`.
    """
    seen = cache.value(path, MASK, _decoded_mask)
    return MaskInfo(**seen | {"notes": tuple(seen["notes"])})


def _decoded_image(path: Path) -> dict[str, Any]:
    from stages.jobs.images import describe_image

    return describe_image(path)


def _decoded_mask(path: Path) -> dict[str, Any]:
    from stages.jobs.masks import describe_mask

    return describe_mask(path)
