"""Superpixels (paper, Sec. 3.3): SLIC on SAM 2's image features, or on Lab colours as a control."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, UInt8

from adaptivedrag.config import ExtractSuperpixelsConfig


@dataclass(frozen=True)
class Superpixels:
    """A partition of the feature grid."""

    labels: Int[np.ndarray, "h w"]
    """Superpixel of each cell, 0 … count - 1."""

    @property
    def count(self) -> int:
        """Number of superpixels."""
        return int(self.labels.max()) + 1

    @cached_property
    def centroids(self) -> Float[np.ndarray, "n 2"]:
        """Mean (row, col) of each superpixel."""
        sizes = np.bincount(self.labels.ravel(), minlength=self.count)
        axes = np.indices(self.labels.shape)
        sums = [np.bincount(self.labels.ravel(), axis.ravel(), self.count) for axis in axes]
        return np.stack(sums, axis=1) / sizes[:, None]

    @cached_property
    def spacing(self) -> Float[np.ndarray, "n"]:
        """Distance from each centroid to the nearest other one; infinite for a lone superpixel."""
        gaps = np.linalg.norm(self.centroids[:, None] - self.centroids[None], axis=-1)
        np.fill_diagonal(gaps, np.inf)
        return gaps.min(axis=1)


def extract_superpixels(
    maps: Sequence[Float[np.ndarray, "c _ _"]],
    size: tuple[int, int],
    config: ExtractSuperpixelsConfig,
) -> Superpixels:
    """Cluster image features of any resolutions into superpixels.

    The maps are resized to the grid, reduced to their principal components, normalised per channel
    and scaled to [0, 1], so that `compactness` weighs distance against features of known range.

    Args:
        maps: SAM 2's stride-16 embedding and its two high-resolution maps.
        size: rows and columns of the feature grid.
    """
    features = np.concatenate([_resized(_standardised(part), size) for part in maps])
    components = _principal_components(features, config.feature_channels)
    return _slic(np.moveaxis(components, 0, -1), config)


def colour_superpixels(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], config: ExtractSuperpixelsConfig
) -> Superpixels:
    """Cluster the Lab colours of an image into superpixels (the control of Fig. 3b)."""
    from skimage.color import rgb2lab

    lab = np.moveaxis(rgb2lab(image), -1, 0)
    return _slic(np.moveaxis(_resized(lab, size), 0, -1), config)


def _standardised(features: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "c h w"]:
    """Give every map the same total variance, whatever its number of channels and scale."""
    features = features.astype(np.float64)
    features = features - features.mean(axis=(1, 2), keepdims=True)
    return features / max(np.sqrt((features**2).mean(axis=(1, 2)).sum()), 1e-12)


def _resized(
    features: Float[np.ndarray, "c _ _"], size: tuple[int, int]
) -> Float[np.ndarray, "c h w"]:
    from skimage.transform import resize

    return resize(features, (len(features), *size), order=1, mode="edge", anti_aliasing=False)


def _principal_components(
    features: Float[np.ndarray, "c h w"], count: int
) -> Float[np.ndarray, "k h w"]:
    flat = features.reshape(len(features), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(flat @ flat.T / flat.shape[1])
    components = vectors[:, ::-1][:, :count].T @ flat
    components /= np.maximum(components.std(axis=1, keepdims=True), 1e-12)
    return components.reshape(-1, *features.shape[1:])


def _slic(channels: Float[np.ndarray, "h w c"], config: ExtractSuperpixelsConfig) -> Superpixels:
    from skimage.segmentation import relabel_sequential, slic

    labels = slic(
        channels,
        n_segments=config.count,
        compactness=config.compactness,
        convert2lab=False,
        start_label=0,
        channel_axis=-1,
    )
    return Superpixels(relabel_sequential(labels + 1)[0].astype(np.int32) - 1)
