"""The interface of a segmenter."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8


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
