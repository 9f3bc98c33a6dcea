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
        mean: weighted, where the values have weights.
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
    weights: Sequence[float] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Return the mean of values and its percentile bootstrap interval; None if all are missing.

    Recoveries 1 − error / at stake, weighted by what is at stake, are pooled: their mean is
    1 − Σ error / Σ at stake, in which an edit counts by what it could recover.

    Args:
        values: one per pair or edit, pooled over all images; None where missing.
        images: the image of each value; images are drawn with replacement, with all their values.
        weights: above 0 for each value that is not missing; None: all the same.

    Raises:
        ValueError: for a value that is not finite, or a weight that is not above 0.
    """
    given = zip(values, images, weights or [1.0] * len(values), strict=True)
    kept = [(value, image, weight) for value, image, weight in given if value is not None]
    if not kept:
        return None
    numbers = np.array([value for value, _, _ in kept], float)
    masses = np.array([weight for _, _, weight in kept], float)
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite; a missing one is None")
    if not (masses > 0).all():
        raise ValueError("a value has no weight above 0")
    place = {image: i for i, image in enumerate(dict.fromkeys(image for _, image, _ in kept))}
    owner = np.array([place[image] for _, image, _ in kept])
    sums, totals = np.bincount(owner, numbers * masses), np.bincount(owner, masses)
    drawn = _drawn(len(place), resamples, seed)
    means = (drawn @ sums) / (drawn @ totals)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(
        mean=float(np.average(numbers, weights=masses)),
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
    weights: Sequence[float] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """Return the mean of first − second with its interval; a pair without both is missing.

    With weights it is the difference of the weighted means over the pairs that both have.
    """
    differences = [
        None if a is None or b is None else a - b for a, b in zip(first, second, strict=True)
    ]
    return mean_interval(
        differences, images, weights, confidence=confidence, resamples=resamples, seed=seed
    )
