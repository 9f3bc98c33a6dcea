"""Content moved in the picture, its inversion, and what the drag and the sampling make of it."""

import numpy as np
import pytest
import torch

from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.drag import Hooks
from adaptivedrag.errors import NotFinite
from adaptivedrag.inversion import invert
from adaptivedrag.methods import Warp
from adaptivedrag.points import Drag, FeaturePoint, ImagePoint
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.warp.content import Content, find_contents
from adaptivedrag.warp.relocation import move_contents, relocated_latents

STEP = 2
"""Pixels per feature cell."""

SIZE = 128
INVERSION = InvertImageConfig(num_steps=8, inverted_steps=5)
SKY, GROUND, BALL = (90, 140, 220), (60, 120, 40), (230, 60, 30)


def picture(center, radius=14.0, size=SIZE):
    """A ball before a sky and a ground, with smooth edges; its center is (x, y) in pixels."""
    y, x = np.mgrid[:size, :size]
    reach = np.hypot(x - center[0], y - center[1])
    inside = np.clip(radius + 0.5 - reach, 0, 1)[..., None]
    behind = np.where(y[..., None] < size // 2, SKY, GROUND)
    return (behind * (1 - inside) + np.array(BALL) * inside).round().astype(np.uint8)


def ball_region(center, radius=14.0, size=SIZE):
    """Where the ball is, on the feature grid."""
    y, x = (np.mgrid[: size // STEP, : size // STEP] + 0.5) * STEP - 0.5
    return np.hypot(x - center[0], y - center[1]) <= radius


def carried(right, down):
    """A motion by pixels, in feature cells."""
    return np.array([[1.0, 0, down / STEP], [0, 1.0, right / STEP]])


def error(made, wanted, region=...):
    return np.abs(made.astype(float) - wanted)[region].mean()


@pytest.mark.parametrize("way", [(40.0, 10.0), (33.5, 7.25), (-9.3, 20.6)])
def test_content_is_moved_by_fractions_of_a_pixel(way):
    before, after = picture((50, 40)), picture((50 + way[0], 40 + way[1]))
    moved = move_contents(before, [Content(ball_region((50, 40)), carried(*way))])
    changed = (before != after).any(axis=2)
    assert error(moved, after, changed) < 0.1 * error(before, after, changed)
    rounded = picture((50 + round(way[0] / 8) * 8, 40 + round(way[1] / 8) * 8))
    assert error(moved, after) < error(rounded, after)  # what whole latent cells could do


def test_content_is_stretched_about_its_far_end():
    """A bar that stands on the ground of its picture and becomes half as long again."""
    image = np.full((SIZE, SIZE, 3), SKY, np.uint8)
    image[60:100, 60:68] = BALL
    wanted = np.full((SIZE, SIZE, 3), SKY, np.uint8)
    wanted[40:100, 60:68] = BALL
    region = np.zeros((SIZE // STEP, SIZE // STEP), bool)
    region[30:50, 30:34] = True
    foot = 49.5  # the lower edge of its last cell
    longer = np.array([[1.5, 0, foot - 1.5 * foot], [0, 1.0, 0]])
    moved = move_contents(image, [Content(region, longer)])
    around = (slice(36, 104), slice(56, 72))
    assert error(moved, wanted, around) < 0.3 * error(image, wanted, around)


def test_what_is_left_behind_is_filled_from_around_it():
    before, empty = picture((50, 40)), picture((500, 40))
    moved = move_contents(before, [Content(ball_region((50, 40)), carried(40, 0))])
    left = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([40, 50])[:, None, None])) < 17
    assert error(moved, empty, left) < 1
    assert error(before, empty, left) > 50


def test_what_is_neither_content_nor_near_it_keeps_its_bytes():
    before = picture((50, 40))
    moved = move_contents(before, [Content(ball_region((50, 40)), carried(40, 10))])
    far = np.ones((SIZE, SIZE), bool)
    far[15:75, 25:115] = False
    assert np.array_equal(moved[far], before[far])


def test_the_later_content_lies_in_front():
    image = np.full((SIZE, SIZE, 3), SKY, np.uint8)
    image[20:40, 20:40], image[20:40, 80:100] = BALL, GROUND
    cells = np.zeros((2, SIZE // STEP, SIZE // STEP), bool)
    cells[0, 10:20, 10:20], cells[1, 10:20, 40:50] = True, True
    ball, block = Content(cells[0], carried(30, 40)), Content(cells[1], carried(-30, 40))
    assert tuple(move_contents(image, [ball, block])[70, 60]) == GROUND
    assert tuple(move_contents(image, [block, ball])[70, 60]) == BALL


def test_without_contents_and_without_motion_nothing_is_moved():
    before = picture((50, 40))
    assert np.array_equal(move_contents(before, []), before)
    stayed = move_contents(before, [Content(ball_region((50, 40)), carried(0, 0))])
    assert error(stayed, before) < 1


def test_content_that_fills_its_picture_is_moved_over_itself():
    before = picture((50, 40))
    everywhere = np.ones((SIZE // STEP, SIZE // STEP), bool)
    moved = move_contents(before, [Content(everywhere, carried(10, 0))])
    assert error(moved[20:60, 30:100], picture((60, 40))[20:60, 30:100]) < 3


def moving(scenario, **changes):
    """The scenario's drags with the superpixels at their handles as contents."""
    no_segments = np.zeros((0, *scenario.frame.feature_size), bool)
    return scenario.problem(segments=no_segments, inversion=INVERSION, **changes)


def test_relocated_latents_are_those_of_the_moved_picture_inverted(tiny, scenario):
    image = picture((50, 40), size=scenario.frame.padded_height)
    cells = scenario.frame.feature_size
    region = np.zeros(cells, bool)
    region[cells[0] // 4 : cells[0] // 2, cells[1] // 4 : cells[1] // 2] = True
    content = Content(region, np.array([[1.0, 0, 3.5], [0, 1.0, 5.25]]))
    made = relocated_latents(tiny, moving(scenario, image=image), [content], Hooks())
    moved = move_contents(image, [content])
    clean = tiny.posterior(moved)[0]
    assert torch.equal(made, invert(tiny, clean, scenario.conditioning, INVERSION)[:, -1])
    stayed = invert(tiny, tiny.posterior(image)[0], scenario.conditioning, INVERSION)[:, -1]
    assert (made - stayed).abs().mean() > 0.01


def test_the_warp_takes_the_relocated_latents_and_looks_for_the_handles_once(tiny, scenario):
    problem, steps = moving(scenario), []
    start = problem.inverted.clone()
    contents = find_contents(problem.segments, problem.superpixels, problem.drags, problem.frame)
    passes = tiny.passes.unet_forwards
    result = Warp(tracking_radius=3).drag(
        tiny, problem, Hooks(on_step=lambda *at: steps.append(at))
    )
    assert tiny.passes.unet_forwards - passes == INVERSION.inverted_steps + 2
    assert steps == [(step, 5) for step in range(1, 6)]
    assert torch.equal(problem.inverted, start)
    assert torch.equal(result.latents, relocated_latents(tiny, problem, contents, Hooks()))
    assert (result.level, result.steps, len(result.tracks)) == (5, 1, 2)
    assert [content["share"] for content in result.details["contents"]] == [
        content.region.mean() for content in contents
    ]
    for report, end in zip(result.points, result.tracks[1], strict=True):
        target = problem.frame.to_cell(report.target)
        assert np.abs(end - target).max() <= 3
        assert report.end == problem.frame.to_image(FeaturePoint(*end))
        assert report.distance == pytest.approx(np.hypot(*np.subtract(report.end, report.target)))
        assert report.verdict == "reached" or report.distance >= 2


def test_a_warp_that_moves_nothing_leaves_the_inverted_latents(tiny, scenario):
    still = [Drag(ImagePoint(40, 40), ImagePoint(40, 40))]
    passes = tiny.passes.unet_forwards
    result = Warp().drag(tiny, moving(scenario, drags=still), Hooks())
    assert torch.equal(result.latents, scenario.latents)
    assert (result.verdict, result.steps, len(result.tracks)) == ("no-op", 0, 1)
    assert tiny.passes.unet_forwards - passes == 1


def test_a_moved_picture_whose_inversion_is_not_finite_is_named(tiny, scenario, monkeypatch):
    nowhere = torch.full_like(scenario.latents, torch.nan)
    monkeypatch.setattr(tiny, "posterior", lambda _image: (nowhere, nowhere))
    with pytest.raises(NotFinite, match="content that was moved: latents are not finite after 0"):
        Warp().drag(tiny, moving(scenario), Hooks())


def sampled(tiny, scenario, trajectory, editable, **settings):
    edit = DraggedEdit(trajectory[-1:] + 0.2, 0, scenario.drags, scenario.frame, editable)
    reference = Reference(trajectory, scenario.conditioning)
    config = SampleImageConfig(**settings)
    return sample(tiny, [reference], [edit], config, INVERSION.num_steps)[1]


def test_the_background_is_held_at_the_inversions_own_latents(tiny, scenario):
    trajectory = torch.cat([scenario.latents + 0.1 * step for step in range(6)])
    editable = torch.zeros(scenario.latents.shape[-2:], dtype=torch.bool)
    editable[4:9, 4:9] = True
    results = {
        held: sampled(tiny, scenario, trajectory, editable, hold_background=held)
        for held in (True, False)
    }
    assert torch.equal(results[True][..., ~editable], trajectory[:1][..., ~editable])
    assert (results[True] - results[False])[..., ~editable].abs().mean() > 0.01
    assert (results[True] - trajectory[:1])[..., editable].abs().mean() > 0.01


def test_an_empty_mask_holds_no_background(tiny, scenario):
    trajectory = torch.cat([scenario.latents + 0.1 * step for step in range(6)])
    nothing = torch.zeros(scenario.latents.shape[-2:], dtype=torch.bool)
    held, free = (
        sampled(tiny, scenario, trajectory, nothing, hold_background=hold) for hold in (True, False)
    )
    assert torch.equal(held, free)
