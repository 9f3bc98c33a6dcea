"""The table of supported segmenters: how their files are recognized, named and loaded.

Importing this module loads neither torch nor numpy: planning reads which files a segmenter has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptivedrag.model.weights import find_segmenter

if TYPE_CHECKING:
    from adaptivedrag.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class SegmenterKind:
    """A kind of segmenter: how its files are recognized, named and loaded."""

    name: str
    recognizes: Callable[[Path], bool]
    files: Callable[[Path], tuple[Path, ...]]
    """Returns the files that `load` reads, for a file or a directory."""
    load: Callable[[Path, str], Segmenter]
    """Loads it onto a device; raises UnsupportedModel for other files."""


def _sam2_files(path: Path) -> tuple[Path, ...]:
    return (path / "config.json", path / "model.safetensors") if path.is_dir() else (path,)


def _load_sam2(path: Path, device: str) -> Segmenter:
    from adaptivedrag.segmenter.segmentation import Sam2

    return Sam2.load(path, device)


SEGMENTERS: tuple[SegmenterKind, ...] = (
    # Last: its loader explains what is wrong with an unknown file.
    SegmenterKind("SAM 2", lambda _path: True, _sam2_files, _load_sam2),
)
"""In order: the first that recognizes a path counts."""


def kind_of(path: Path) -> SegmenterKind:
    """Return the kind of the segmenter at a path."""
    return next(kind for kind in SEGMENTERS if kind.recognizes(path))


def load_segmenter(source: str | Path, device: str = "cpu") -> Segmenter:
    """Load "pocket", a directory, a checkpoint file, or a hub id.

    Raises:
        ModelUnavailable: if nothing is there; the message says what was tried and how to get it.
        UnsupportedModel: if what is there is no segmenter.
    """
    path = find_segmenter(str(source))
    return kind_of(path).load(path, device)
