"""Means with percentile bootstrap intervals; the edits of one image are resampled together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval.

    Attributes:
        pairs: number of values in the mean.
        images: number of images that they come from.
        missing: number of values that were None; the mean leaves them out.
    """

    mean: float
    low: float
    high: float
    pairs: int
    images: int
    missing: int


def mean_interval(
    values: Sequence[float | None],
    images: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Return the mean of values and its percentile bootstrap interval; None if all are missing.

    Args:
        values: one per pair or edit, pooled over all images; None where missing.
        images: the image of each value; images are drawn with replacement, with all their values.

    Raises:
        ValueError: for a value that is not finite.
    """
    kept = [(v, image) for v, image in zip(values, images, strict=True) if v is not None]
    if not kept:
        return None
    numbers = np.array([value for value, _ in kept], float)
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite; a missing one is None")
    place = {image: i for i, image in enumerate(dict.fromkeys(image for _, image in kept))}
    owner = np.array([place[image] for _, image in kept])
    sums, counts = np.bincount(owner, numbers), np.bincount(owner)
    drawn = _drawn(len(place), resamples, seed)
    means = (drawn @ sums) / (drawn @ counts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(
        mean=float(numbers.mean()),
        low=float(low),
        high=float(high),
        pairs=len(kept),
        images=len(place),
        missing=len(values) - len(kept),
    )


# One table needs the draws of the same number of images hundreds of times.
@lru_cache(maxsize=32)
def _drawn(images: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples images"]:
    """Return how often each image is drawn in each resample."""
    shares = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, shares, resamples).astype(float)


def paired_difference(
    first: Sequence[float | None],
    second: Sequence[float | None],
    images: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Return the mean of first − second with its interval; a pair without both is missing."""
    differences = [
        None if a is None or b is None else a - b for a, b in zip(first, second, strict=True)
    ]
    return mean_interval(differences, images, confidence=confidence, resamples=resamples, seed=seed)
