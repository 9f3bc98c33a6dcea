"""The true result of a drag of a rendered scene, and an edit's distance from it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, UInt8

if TYPE_CHECKING:
    from adaptivedrag.scenes import SceneDrag

PSNR_CAP = 99.0
"""Preservation in dB of a picture that is identical where it should be."""


@dataclass(frozen=True)
class TrueResult:
    """The true result of a drag, and the regions in which an edit is compared with it.

    Attributes:
        before: the picture that is edited.
        truth: the picture with the dragged parameter changed.
        arrival: the part after the drag.
        departure: where the part was and no longer is.
        outside: neither of them, and unchanged in the truth (shadows move with their part).
    """

    before: UInt8[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "h w 3"]
    arrival: Bool[np.ndarray, "h w"]
    departure: Bool[np.ndarray, "h w"]
    outside: Bool[np.ndarray, "h w"]

    @classmethod
    def of(cls, drag: "SceneDrag", size: int) -> Self:
        """Render the true result of a drag, `size` × `size` pixels."""
        from adaptivedrag.scenes import render

        before, after = render(drag.before, size), render(drag.after, size)
        start, arrival = before.mask(drag.part), after.mask(drag.part)
        unchanged = (before.image == after.image).all(axis=2)
        return cls(
            before=before.image,
            truth=after.image,
            arrival=arrival,
            departure=start & ~arrival,
            outside=unchanged & ~start & ~arrival,
        )


class Recovery(NamedTuple):
    """How far from the truth an edit is, and doing nothing is; sums of absolute RGB differences.

    Attributes:
        error: of the edit.
        at_stake: of the picture that is edited; 0 where there is nothing to recover.
    """

    error: int
    at_stake: int

    @property
    def share(self) -> float | None:
        """1 − error / at_stake: 1 is the truth, 0 is doing nothing, below 0 is farther than that.

        None if there is nothing to recover.
        """
        return 1 - self.error / self.at_stake if self.at_stake else None


def recovery(
    before: UInt8[np.ndarray, "h w 3"],
    truth: UInt8[np.ndarray, "h w 3"],
    edited: UInt8[np.ndarray, "h w 3"],
    region: Bool[np.ndarray, "h w"],
) -> Recovery:
    """Return how much of the truth an edit recovers over a region.

    Nothing is to be recovered where the region is empty, or the truth equals the picture.
    """
    return Recovery(_l1(edited, truth, region), _l1(before, truth, region))


def preservation(
    before: UInt8[np.ndarray, "h w 3"],
    edited: UInt8[np.ndarray, "h w 3"],
    outside: Bool[np.ndarray, "h w"],
) -> float | None:
    """Return the PSNR in dB of what should stay: 99 if identical, None if nothing should stay."""
    if not outside.any():
        return None
    squared = (before[outside].astype(float) - edited[outside]) ** 2
    return float(min(PSNR_CAP, 10 * np.log10(255**2 / max(squared.mean(), 1e-9))))


def _l1(
    first: UInt8[np.ndarray, "h w 3"],
    second: UInt8[np.ndarray, "h w 3"],
    region: Bool[np.ndarray, "h w"],
) -> int:
    """Return the sum of absolute differences, in integers: equal pictures give exactly 0."""
    return int(np.abs(first[region].astype(np.int64) - second[region]).sum())
