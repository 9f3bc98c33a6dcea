"""Superpixels and semantic regions."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.measure import regionprops

from adaptivedrag.config import EditConfig, ExtractSuperpixelsConfig
from adaptivedrag.semantic_region import RegionMap
from adaptivedrag.superpixels import (
    Superpixels,
    divide_image,
    extract_superpixels,
    paint_segments,
    segment_palette,
    segment_superpixels,
    segments_on_grid,
)

GRID = (128, 128)


def checkerboard(cell: int = 16) -> Superpixels:
    """Square superpixels of `cell` cells a side on the grid of a 256 px image."""
    rows, cols = np.indices(GRID) // cell
    return Superpixels((rows * (GRID[1] // cell) + cols).astype(np.int32))


def test_superpixels_follow_the_borders_of_the_features():
    maps = [np.zeros((8, 32, 32)), np.zeros((4, 64, 64))]
    inside = np.hypot(*(np.indices((64, 64)) - 31.5)) < 20
    maps[1][:2, inside] = 3.0
    maps[0][0, inside[::2, ::2]] = 1.0
    config = ExtractSuperpixelsConfig(count=40, feature_channels=3)
    found = extract_superpixels(maps, GRID, config)
    disc = np.repeat(np.repeat(inside, 2, 0), 2, 1)
    shares = np.bincount(found.labels.ravel(), disc.ravel()) / np.bincount(found.labels.ravel())
    purity = np.maximum(shares, 1 - shares)
    assert purity.mean() > 0.93
    assert set(np.unique(found.labels)) == set(range(found.count))


def test_compactness_weighs_distance_against_the_features():
    rng = np.random.default_rng(0)
    maps = [gaussian_filter(rng.normal(size=(8, 32, 32)), (0, 2, 2))]
    spread = {}
    for compactness in (0.01, 10.0):
        config = ExtractSuperpixelsConfig(count=50, compactness=compactness)
        labels = extract_superpixels(maps, GRID, config).labels
        areas = np.bincount(labels.ravel())
        spread[compactness] = areas.std() / areas.mean()
    assert spread[0.01] > 2 * spread[10.0]


def random_segments(count: int, seed: int = 0) -> np.ndarray:
    """Discs of many sizes, largest first, that overlap and leave gaps."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(GRID)
    radii = np.sort(rng.uniform(3, 40, count))[::-1]
    centers = rng.uniform(0, GRID[0], (count, 2))
    return np.stack(
        [np.hypot(rows - y, cols - x) < r for (y, x), r in zip(centers, radii, strict=True)]
    )


@pytest.mark.parametrize("count", [1, 12, 120])
def test_touching_segments_differ_by_much_more_than_compactness(count):
    visible = paint_segments(random_segments(count))
    palette = segment_palette(visible)
    spread = palette.max() - palette.min()  # SLIC sees it scaled to [0, 1]
    across = [(visible[:, :-1], visible[:, 1:]), (visible[:-1], visible[1:])]
    for one, other in across:
        gaps = np.linalg.norm(palette[one] - palette[other], axis=-1)[one != other] / spread
        assert gaps.min() > 4 * ExtractSuperpixelsConfig().compactness


def test_smaller_segments_lie_over_larger_ones():
    large, small = np.zeros((2, 8, 8), bool)
    large[:6, :6], small[2:4, 2:4] = True, True
    visible = paint_segments(np.stack([large, small]))
    assert (visible[small] == 2).all()
    assert (visible[large & ~small] == 1).all()
    assert (visible[~large] == 0).all()


def test_no_superpixel_crosses_the_border_of_a_segment():
    segments = random_segments(6, seed=3)
    visible = paint_segments(segments)
    found = segment_superpixels(segments, ExtractSuperpixelsConfig(count=50))
    shared = np.zeros((found.count, len(segments) + 1))
    np.add.at(shared, (found.labels, visible), 1)
    assert shared.max(axis=1).sum() / visible.size > 0.97  # slivers join what is beside them


def test_without_segments_the_superpixels_are_a_plain_grid():
    found = segment_superpixels(np.zeros((0, *GRID), bool), ExtractSuperpixelsConfig(count=64))
    areas = np.bincount(found.labels.ravel())
    assert found.count == 64
    assert areas.std() < 0.1 * areas.mean()


def test_segments_come_to_the_grid_largest_first_and_by_majority():
    segments = np.zeros((3, 256, 256), bool)
    segments[0, :3, :3] = True  # one whole cell; three that it covers by half or less
    segments[1, 100:200, 100:200] = True
    segments[2, 7, 7] = True
    found = segments_on_grid(segments, GRID)
    assert found.shape == (2, *GRID)
    assert found[0].sum() == 50 * 50
    assert found[1].sum() == 3
    assert segments_on_grid(segments[:0], GRID).shape == (0, *GRID)


class CountingSegmenter:
    """Segments and features of a given picture of squares, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def segments(self, image: np.ndarray, at_once: int | None = None) -> np.ndarray:
        self.asked.append("segments")
        return random_segments(5).repeat(2, 1).repeat(2, 2)

    def image_features(self, image: np.ndarray) -> list[np.ndarray]:
        self.asked.append("features")
        return [random_segments(8).astype(np.float32)]


@pytest.mark.parametrize(
    ("source", "mode", "asked"),
    [
        ("features", "superpixel_line", ["features"]),
        ("features", "union", ["segments", "features"]),
        ("segments", "superpixel_line", ["segments"]),
        ("rgb", "swept", ["segments"]),
        ("rgb", "superpixel_line", []),
    ],
)
def test_sam2_is_asked_for_what_the_settings_need(source, mode, asked):
    config = EditConfig().merged(
        {"extract_superpixels": {"source": source, "count": 40}, "build_mask": {"mode": mode}}
    )
    segmenter = CountingSegmenter()
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    found, segments = divide_image(image, GRID, config, lambda: segmenter)
    assert segmenter.asked == asked
    assert found.labels.shape == GRID
    assert (segments is not None) == config.needs_segments


def test_distances_are_those_of_labels_counted_from_one_up_to_the_last():
    found = segment_superpixels(random_segments(9), ExtractSuperpixelsConfig(count=50))
    reference = np.array([region.centroid for region in regionprops(found.labels + 1)])
    gaps = np.linalg.norm(reference[:, None] - reference[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert len(reference) == found.count
    np.testing.assert_allclose(found.spacing, gaps.min(axis=1))


def test_spacing_is_the_distance_to_the_nearest_centroid():
    np.testing.assert_allclose(checkerboard(16).spacing, 16.0)
    assert np.isinf(Superpixels(np.zeros((8, 8), np.int32)).spacing).all()


DIRECTIONS = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 16, endpoint=False)]


@pytest.mark.parametrize(("dx", "dy"), DIRECTIONS)
@pytest.mark.parametrize("anchor", ["current", "transported"])
def test_a_region_holds_its_handle_and_nothing_behind_it(dx, dy, anchor):
    regions = RegionMap.of(checkerboard(16), torch.device("cpu"))
    handles = torch.tensor([[40, 40]])
    anchors = handles if anchor == "current" else torch.tensor([[42, 38]])
    targets = handles + 20.0 * torch.tensor([[dy, dx]])
    cells = torch.cartesian_prod(torch.arange(128), torch.arange(128))[None]
    inside = regions.contains(cells, handles, targets, torch.tensor([5]), anchors)[0]
    found = cells[0][inside]
    assert (found == handles).all(dim=1).any()
    assert (((found - handles) * torch.tensor([dy, dx])).sum(dim=1) >= -1e-4).all()


def test_a_used_up_superpixel_gives_way_to_a_half_disc():
    regions = RegionMap.of(checkerboard(16), torch.device("cpu"))
    handles, targets = torch.tensor([[40, 46]]), torch.tensor([[40.0, 90.0]])
    cells = torch.cartesian_prod(torch.arange(128), torch.arange(128))[None]
    inside = regions.contains(cells, handles, targets, torch.tensor([6]), handles)[0]
    found = cells[0][inside]
    assert found[:, 1].max() == 52
    assert found[:, 1].min() == 46


def test_radii_follow_the_spacing_within_their_bounds():
    regions = RegionMap.of(checkerboard(16), torch.device("cpu"))
    handles = torch.tensor([[0, 0], [127, 127]])
    assert regions.radius(handles, 2 / 7, (1, 8))[0].tolist() == [4, 4]
    assert regions.radius(handles, 2 / 7, (1, 3))[0].tolist() == [3, 3]
