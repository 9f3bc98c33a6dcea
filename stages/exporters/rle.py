"""Masks as run lengths in COCO's compressed form, which `pycocotools.mask.decode` reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adaptivedrag.pictures.masks import Mask

_BITS, _SIGN, _MORE, _FIRST = 5, 0x10, 0x20, 48


def run_lengths(mask: Mask) -> dict[str, Any]:
    """Return a mask (height, width) as `size` and `counts`.

    The runs go down the columns, one after another, and begin with False.
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0))
    runs = np.diff(changes, prepend=0, append=flat.size).tolist()
    return {"size": [*mask.shape], "counts": _compressed(runs)}


def _compressed(runs: Sequence[int]) -> str:
    """Write each run as what it differs by from the one before the last, in letters of 5 bits."""
    before = (0, 0, 0, *runs[1:])
    return "".join(_letters(run - other) for run, other in zip(runs, before, strict=False))


def _letters(number: int) -> str:
    letters = []
    while True:
        bits, number = number & (1 << _BITS) - 1, number >> _BITS
        is_last = number == (-1 if bits & _SIGN else 0)
        letters.append(chr(_FIRST + bits + (0 if is_last else _MORE)))
        if is_last:
            return "".join(letters)
