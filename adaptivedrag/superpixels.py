"""Superpixels (paper, Sec. 3.3): SLIC on a segmenter's image features.

Two others for comparison: on a coloring of its automatic segments, as the authors' code has
it, and on Lab colors (Fig. 3b).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from adaptivedrag.config import EditConfig, ExtractSuperpixelsConfig

if TYPE_CHECKING:
    from adaptivedrag.segmenter.segmenter import Segmenter

Segments = Bool[np.ndarray, "n hf wf"]
"""Automatic segments on the feature grid, largest first; they may overlap and leave gaps."""

PALETTE_STEPS = 6
"""Levels of each of red, green and blue from which the colors of segments are chosen."""


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


def divide_image(
    image: UInt8[np.ndarray, "h w 3"],
    size: tuple[int, int],
    config: EditConfig,
    load_segmenter: Callable[[], "Segmenter"],
    at_once: int | None = None,
) -> tuple[Superpixels, Segments | None]:
    """Return the superpixels of an image, and its automatic segments where they are needed.

    Args:
        size: rows and columns of the feature grid.
        load_segmenter: called only if the settings need a segmenter.
        at_once: how many prompts the segmenter decodes together; None for its own choice.
    """
    settings = config.extract_superpixels
    segments = None
    if config.needs_segments:
        segments = segments_on_grid(load_segmenter().segments(image, at_once), size)
    if settings.source == "rgb":
        return color_superpixels(image, size, settings), segments
    if settings.source == "segments" and segments is not None:
        return segment_superpixels(segments, settings), segments
    maps = load_segmenter().image_features(image)
    return extract_superpixels(maps, size, settings), segments


def extract_superpixels(
    maps: Sequence[Float[np.ndarray, "_ _ _"]],
    size: tuple[int, int],
    config: ExtractSuperpixelsConfig,
) -> Superpixels:
    """Cluster image features of any resolutions into superpixels.

    The maps are resized to the grid, reduced to their principal components, normalized per channel
    and scaled to [0, 1], so that `compactness` weighs distance against features of known range.

    Args:
        maps: a segmenter's feature maps; SAM 2 has a stride-16 embedding and two finer ones.
        size: rows and columns of the feature grid.
    """
    features = np.concatenate([_resized(_standardized(part), size) for part in maps])
    components = _principal_components(features, config.feature_channels)
    return _slic(np.moveaxis(components, 0, -1), config)


def color_superpixels(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], config: ExtractSuperpixelsConfig
) -> Superpixels:
    """Cluster the Lab colors of an image into superpixels (the control of Fig. 3b)."""
    from skimage.color import rgb2lab

    lab = np.moveaxis(rgb2lab(image), -1, 0)
    return _slic(np.moveaxis(_resized(lab, size), 0, -1), config)


def segment_superpixels(segments: Segments, config: ExtractSuperpixelsConfig) -> Superpixels:
    """Cluster a coloring of the automatic segments: a grid of cells cut at their borders.

    Where segments overlap the smaller one is seen. Without segments it is a plain grid.
    """
    visible = paint_segments(segments)
    return _slic(segment_palette(visible)[visible], config)


def segments_on_grid(segments: Bool[np.ndarray, "every hp wp"], size: tuple[int, int]) -> Segments:
    """Bring segments of the working image to the feature grid, leaving out those that vanish."""
    if not len(segments):
        return np.zeros((0, *size), dtype=bool)
    inside = _resized(segments.astype(np.float32), size) >= 0.5
    areas = inside.sum(axis=(1, 2))
    order = np.argsort(-areas, kind="stable")
    return inside[order[areas[order] > 0]]


def paint_segments(segments: Segments) -> Int[np.ndarray, "hf wf"]:
    """Lay the segments over each other, largest first; 0 where there is none, else its number."""
    visible = np.zeros(segments.shape[1:], dtype=np.int32)
    for number, segment in enumerate(segments, start=1):
        visible[segment] = number
    return visible


def segment_palette(visible: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "n 3"]:
    """Choose a Lab color for each number, far from those of the numbers it touches.

    In the order of the numbers, each takes the color whose nearest neighbor's is farthest. SLIC
    never joins what differs by much more than its compactness, so no superpixel crosses a border.
    """
    candidates = _lab_candidates()
    colors = np.zeros((int(visible.max()) + 1, 3))
    for number, neighbors in enumerate(_neighbors(visible)):
        chosen = colors[[other for other in sorted(neighbors) if other < number]]
        gaps = np.linalg.norm(candidates[:, None] - chosen[None], axis=-1)
        colors[number] = candidates[gaps.min(axis=1, initial=np.inf).argmax()]
    return colors


def _lab_candidates() -> Float[np.ndarray, "n 3"]:
    from skimage.color import rgb2lab

    levels = np.linspace(0, 1, PALETTE_STEPS)
    return rgb2lab(np.stack(np.meshgrid(levels, levels, levels), axis=-1)).reshape(-1, 3)


def _neighbors(labels: Int[np.ndarray, "h w"]) -> list[set[int]]:
    """Return the labels that each label touches along a side of a cell."""
    pairs = np.concatenate(
        [
            np.stack([labels[:, :-1], labels[:, 1:]], axis=-1).reshape(-1, 2),
            np.stack([labels[:-1], labels[1:]], axis=-1).reshape(-1, 2),
        ]
    )
    touching: list[set[int]] = [set() for _ in range(int(labels.max()) + 1)]
    for one, other in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).tolist():
        touching[one].add(other)
        touching[other].add(one)
    return touching


def _standardized(features: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "c h w"]:
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
