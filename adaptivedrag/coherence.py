"""Coherence: how near a filled region is to what surrounds it.

Every patch of a filling is compared with the patch most like it among those around the region; the
mean distance is the incoherence of Simakov et al. (2008), Eq. 2. It is small for a filling that
goes on as the surroundings do, and large for one that shows what is nowhere around it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

PATCH = 2
"""Half the side of a patch, in pixels."""

SURROUNDINGS = 24
"""How far around the region patches are taken from, in pixels."""

MOST = (4000, 1500)
"""Most patches of the surroundings, and most of the region, that are compared."""

FEWEST = 30
"""With fewer patches around it, nothing can be said of a region."""

Region = Bool[np.ndarray, "h w"]


def incoherence(
    fillings: Sequence[UInt8[np.ndarray, "h w 3"]], region: Region, known: Region
) -> list[float] | None:
    """Return the incoherence of each filling of a region, in gray levels; None if none is known.

    Args:
        fillings: pictures that are the same where `known`.
        known: where the pictures show what the region should be like.
    """
    from scipy.ndimage import binary_dilation
    from scipy.spatial import cKDTree

    near = binary_dilation(region, iterations=SURROUNDINGS)
    touched = binary_dilation(~known, np.ones((2 * PATCH + 1, 2 * PATCH + 1), bool))
    around = near & known & ~touched
    if around.sum() < FEWEST:
        return None
    inside = _thinned(region, MOST[1])
    tree = cKDTree(_patches(fillings[0])[_thinned(around, MOST[0])])
    return [float(tree.query(_patches(each)[inside])[0].mean()) for each in fillings]


def _patches(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "pixels d"]:
    """Return the patch around every pixel, scaled so that distances are in gray levels."""
    side = 2 * PATCH + 1
    wide = np.pad(picture.astype(np.float32), ((PATCH, PATCH), (PATCH, PATCH), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side), axis=(0, 1))
    flat = windows.reshape(picture.shape[0] * picture.shape[1], -1)
    return flat / np.float32(flat.shape[1] ** 0.5)


def _thinned(region: Region, most: int) -> np.ndarray:
    """Return the flat indices of a region, every n-th if they are too many."""
    places = np.flatnonzero(region)
    return places[:: len(places) // most + 1]
