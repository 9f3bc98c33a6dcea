"""The interface of a segmenter, and the table of supported ones.

Importing this module loads no torch: planning reads which files a segmenter has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from adaptivedrag.model.weights import find_segmenter


@runtime_checkable
class Segmenter(Protocol):
    """A network that finds what belongs together in an image."""

    def image_features(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> Sequence[Float[np.ndarray, "_ _ _"]]:
        """Return maps of features of the whole image, of any channels and resolutions."""
        ...

    def segments(
        self, image: UInt8[np.ndarray, "h w 3"], at_once: int | None = None
    ) -> Bool[np.ndarray, "n h w"]:
        """Return segments of the whole image, largest first; they may overlap and leave gaps.

        Args:
            at_once: number of prompts to decode together; None for the segmenter's own choice.
        """
        ...


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
