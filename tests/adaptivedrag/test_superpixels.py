"""Superpixels, masks and semantic regions."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, gaussian_filter

from adaptivedrag.config import ExtractSuperpixelsConfig
from adaptivedrag.masks import (
    image_mask,
    latent_mask,
    mask_warnings,
    superpixel_line_mask,
    user_mask,
)
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.semantic_region import RegionMap
from adaptivedrag.superpixels import Superpixels, extract_superpixels

FRAME = Frame.of_image(256, 256, factor=8, working_size=768)
GRID = FRAME.feature_size


def checkerboard(cell: int = 16) -> Superpixels:
    """Square superpixels of `cell` cells a side on the grid of a 256 px image."""
    rows, cols = np.indices(GRID) // cell
    return Superpixels((rows * (GRID[1] // cell) + cols).astype(np.int32))


def drag(handle, target):
    return Drag(ImagePoint(*handle), ImagePoint(*target))


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


def test_spacing_is_the_distance_to_the_nearest_centroid():
    np.testing.assert_allclose(checkerboard(16).spacing, 16.0)
    assert np.isinf(Superpixels(np.zeros((8, 8), np.int32)).spacing).all()


DIRECTIONS = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 16, endpoint=False)]


@pytest.mark.parametrize(("dx", "dy"), DIRECTIONS)
def test_the_mask_covers_the_true_line_and_not_its_mirror_image(dx, dy):
    superpixels = checkerboard(8)
    handle, target = (128, 128), (128 + 90 * dx, 128 + 90 * dy)
    mask = superpixel_line_mask(superpixels, [drag(handle, target)], FRAME)
    near = binary_dilation(mask)  # the rasterised line passes within one cell of the true one
    for share in np.linspace(0, 1, 40):
        point = ImagePoint(128 + 90 * dx * share, 128 + 90 * dy * share)
        assert near[FRAME.to_cell(point)]
    if min(abs(dx), abs(dy)) > 0.3:
        assert not mask[FRAME.to_cell(ImagePoint(128 - 80 * dx, 128 + 80 * dy))]
    assert mask.mean() < 0.1


def test_a_single_point_masks_its_superpixel():
    mask = superpixel_line_mask(checkerboard(16), [drag((5, 5), (5, 5))], FRAME)
    assert mask.sum() == 256
    assert mask[:16, :16].all()


def test_the_latent_mask_keeps_thin_parts():
    mask = np.zeros(GRID, bool)
    mask[:, 17] = True
    assert latent_mask(mask).sum() == GRID[0] // 4


def test_a_users_mask_survives_the_way_through_the_grid():
    frame = Frame.of_image(341, 500, factor=8, working_size=768)
    mask = np.zeros((341, 500), bool)
    mask[100:200, 50:300] = True
    shown = image_mask(user_mask(mask, frame), frame)
    assert shown[mask].all()
    assert (shown & ~mask).sum() < 2 * (100 + 250) * 2


def test_points_outside_the_mask_and_an_empty_mask_are_said():
    mask = np.zeros(GRID, bool)
    assert mask_warnings(mask, [drag((5, 5), (9, 9))], FRAME)[0].startswith("the mask is empty")
    mask[:10, :10] = True
    assert mask_warnings(mask, [drag((5, 5), (200, 9))], FRAME) == [
        "target 1 at (200, 9) lies outside the mask"
    ]


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
    assert regions.radius(handles, 2 / 7, (1, 8)).tolist() == [4, 4]
    assert regions.radius(handles, 2 / 7, (1, 3)).tolist() == [3, 3]
