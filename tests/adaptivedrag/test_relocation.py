"""Content moved in inverted latents, and what the drag and the sampling make of it."""

import numpy as np
import pytest
import torch

from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.content import Content
from adaptivedrag.drag import drag_latents
from adaptivedrag.relocation import relocate, relocated_latents
from adaptivedrag.sampling import Background, sample

ALPHA = 0.1
CELLS = 16
INVERSION = InvertImageConfig(num_steps=8, inverted_steps=5)


def region(rows, cols):
    """Whole latent cells, on the feature grid; the rim stays within one cell around them."""
    grid = np.zeros((CELLS * 4, CELLS * 4), bool)
    grid[rows.start * 4 : rows.stop * 4, cols.start * 4 : cols.stop * 4] = True
    return grid


def shifted(cells_down, cells_right):
    """Four feature cells are a latent one."""
    return np.array([[1.0, 0, 4 * cells_down], [0, 1.0, 4 * cells_right]])


@pytest.fixture(scope="module")
def latents():
    draw = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, 1, 4, CELLS, CELLS, generator=draw)
    return clean, noise, ALPHA**0.5 * clean + (1 - ALPHA) ** 0.5 * noise


def test_content_arrives_with_its_own_noise_and_the_rest_stays(latents):
    clean, _, noised = latents
    content = Content(region(slice(2, 6), slice(2, 6)), shifted(6, 7))
    result = relocate(clean, noised, ALPHA, [content])
    assert torch.allclose(result[..., 8:12, 9:13], noised[..., 2:6, 2:6], atol=1e-5)
    assert torch.allclose(result[..., :, 15], noised[..., :, 15], atol=1e-5)
    assert torch.allclose(result[..., 14:, :], noised[..., 14:, :], atol=1e-5)
    assert (result[..., 2:6, 2:6] - noised[..., 2:6, 2:6]).abs().mean() > 0.5


def test_what_is_left_behind_is_filled_from_around_it():
    clean = torch.ones(1, 4, CELLS, CELLS)
    clean[..., 2:6, 2:6] = -5
    content = Content(region(slice(2, 6), slice(2, 6)), shifted(6, 7))
    result = relocate(clean, ALPHA**0.5 * clean, ALPHA, [content]) / ALPHA**0.5
    assert torch.allclose(result[..., 2:6, 2:6], torch.ones(()), atol=1e-4)
    assert torch.allclose(result[..., 8:12, 9:13], torch.tensor(-5.0), atol=1e-4)


def test_noise_is_moved_and_neither_lost_nor_doubled(latents):
    clean, noise, noised = latents
    content = Content(region(slice(2, 6), slice(2, 6)), shifted(6, 7))
    result = relocate(torch.zeros_like(clean), noised - ALPHA**0.5 * clean, ALPHA, [content])
    made = result / (1 - ALPHA) ** 0.5
    assert torch.allclose(made.flatten().sort().values, noise.flatten().sort().values, atol=1e-5)


def test_content_that_does_not_move_stays(latents):
    clean, _, noised = latents
    inside = region(slice(4, 9), slice(4, 9))
    result = relocate(clean, noised, ALPHA, [Content(inside, shifted(0, 0))])
    assert torch.allclose(result[..., 4:9, 4:9], noised[..., 4:9, 4:9], atol=1e-5)


def test_the_inversions_own_ends_are_relocated(tiny, latents):
    clean, _, noised = latents
    content = Content(region(slice(2, 6), slice(2, 6)), shifted(6, 7))
    alpha = tiny.schedule.alpha(tiny.schedule.start(8, 5))
    made = relocated_latents(tiny, torch.cat([clean, noised]), [content], INVERSION)
    assert torch.equal(made, relocate(clean, noised, alpha, [content]))
    assert relocated_latents(tiny, torch.cat([clean, noised]), [], INVERSION) is None


def dragged(tiny, scenario, relocated):
    config = scenario.config.merged({"optimize_latent": {"steps": 4, "max_steps": 4}})
    return drag_latents(
        tiny,
        scenario.latents,
        scenario.prompt,
        scenario.drags[:1],
        scenario.superpixels,
        np.ones(scenario.frame.feature_size, bool),
        scenario.frame,
        config.optimize_latent,
        INVERSION,
        relocated=relocated,
    )


def test_handles_of_relocated_latents_are_where_they_are_found(tiny, scenario):
    """Latents that were not really moved: the handle is not taken to be at its target."""
    target = np.array(scenario.frame.to_feature(scenario.drags[0].target))
    honest = dragged(tiny, scenario, scenario.latents)
    assert len(honest.tracks) > 1
    assert np.linalg.norm(honest.tracks[1][0] - target) > 0
    # Moved by whole latent cells, so that the features move along.
    way = (8, -12)
    rolled = torch.roll(scenario.latents, way, dims=(2, 3))
    assert not torch.equal(dragged(tiny, scenario, rolled).latents, honest.latents)


def test_the_background_is_held_at_the_inversions_own_latents(tiny, scenario):
    trajectory = torch.cat([scenario.latents + 0.1 * step for step in range(6)])
    editable = torch.zeros(scenario.latents.shape[-2:], dtype=torch.bool)
    editable[4:9, 4:9] = True
    results = {
        held: sample(
            tiny,
            trajectory[-1:],
            trajectory[-1:] + 0.2,
            scenario.prompt,
            scenario.drags,
            scenario.frame,
            SampleImageConfig(hold_background=held),
            INVERSION,
            background=Background(trajectory, editable),
        )[1]
        for held in (True, False)
    }
    assert torch.equal(results[True][..., ~editable], trajectory[:1][..., ~editable])
    assert (results[True] - results[False])[..., ~editable].abs().mean() > 0.01
    assert (results[True] - trajectory[:1])[..., editable].abs().mean() > 0.01


def test_an_empty_mask_holds_no_background_and_without_one_nothing_can_be_held(tiny, scenario):
    trajectory = torch.cat([scenario.latents + 0.1 * step for step in range(6)])
    nothing = torch.zeros(scenario.latents.shape[-2:], dtype=torch.bool)

    def sampled(held, background):
        config = SampleImageConfig(hold_background=held)
        start, edited = trajectory[-1:], trajectory[-1:] + 0.2
        return sample(
            tiny,
            start,
            edited,
            scenario.prompt,
            scenario.drags,
            scenario.frame,
            config,
            INVERSION,
            background=background,
        )[1]

    free = sampled(False, None)
    assert torch.equal(sampled(True, Background(trajectory, nothing)), free)
    with pytest.raises(ValueError, match="needs a background"):
        sampled(True, None)
