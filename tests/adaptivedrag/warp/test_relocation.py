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
from adaptivedrag.warp.motion import carried, sources
from adaptivedrag.warp.pasting import paste
from adaptivedrag.warp.relocation import relocated_latents

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


def moving(scenario, **changes):
    """The scenario's drags with the superpixels at their handles as contents."""
    no_segments = np.zeros((0, *scenario.frame.feature_size), bool)
    return scenario.problem(segments=no_segments, inversion=INVERSION, **changes)


def test_relocated_latents_are_those_of_the_moved_picture_inverted(tiny, scenario):
    image = picture((50, 40), size=scenario.frame.padded_height)
    cells = scenario.frame.feature_size
    region = np.zeros(cells, bool)
    region[cells[0] // 4 : cells[0] // 2, cells[1] // 4 : cells[1] // 2] = True
    content = Content(region, sources(carried(np.array([3.5, 5.25])), cells))
    made = relocated_latents(tiny, moving(scenario, image=image), [content], Hooks())
    moved = paste(image, [content], scenario.frame.padded).picture
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
