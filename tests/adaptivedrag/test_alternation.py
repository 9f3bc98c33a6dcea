"""Alternation of drags and denoising: its loss, its levels, its switches, and how it goes on."""

import weakref

import numpy as np
import pytest
import torch

from adaptivedrag.config import EditConfig, InvertImageConfig
from adaptivedrag.drag import Hooks
from adaptivedrag.errors import NotFinite, Stopped
from adaptivedrag.methods import Alternation
from adaptivedrag.point_tracking import Track
from adaptivedrag.points import Drag, FeaturePoint, ImagePoint
from adaptivedrag.section import LatentScale

LEVEL = 4
QUICK = Alternation(
    levels=2, trackings=2, updates=1, learning_rate=0.1, supervision_radius=2, tracking_radius=3
)


def problem(scenario, **changes):
    """Pose the edit four levels up of ten, with latents of their own at every level."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(LEVEL, *scenario.latents.shape[1:], generator=generator)
    mask = np.zeros(scenario.frame.feature_size, bool)
    mask[: mask.shape[0] // 2] = True
    given = {
        "trajectory": torch.cat([scenario.latents, noise]),
        "inversion": InvertImageConfig(num_steps=10, inverted_steps=LEVEL),
        "mask": mask,
    }
    return scenario.problem(**{**given, **changes})


def run(tiny, scenario, hooks=None, drags=None, seed=0, **changes):
    posed = problem(scenario, drags=drags or scenario.drags, seed=seed)
    return QUICK.replaced(**changes).drag(tiny, posed, hooks or Hooks())


@pytest.fixture(scope="module")
def plain(tiny, scenario):
    return run(tiny, scenario)


@pytest.fixture(scope="module")
def renoised(tiny, scenario):
    return run(tiny, scenario, renoising=True)


def test_two_levels_equal_a_plain_derivation_of_them_in_float64(double, scenario):
    """Two updates at each level, and the denoising after each, against the formulas."""
    drag = Drag(ImagePoint(40.5, 50.5), ImagePoint(66.5, 50.5))  # along a row of the grid
    row, col = scenario.frame.to_cell(drag.handle)
    rate, weight, r = 1e-3, 1.6, 1
    mask = np.zeros(scenario.frame.feature_size, bool)
    mask[:8] = True
    keep = torch.ones(scenario.frame.latent_size)
    keep[:2] = 0
    posed = problem(scenario, drags=[drag], mask=mask)
    trajectory = posed.trajectory.double()
    square = (slice(None), slice(row - r, row + r + 1))

    def passed(latents, timestep):
        noise, (maps,) = double.predict_with_features(latents, timestep, scenario.conditioning)
        grid = torch.nn.functional.interpolate(maps[None], scale_factor=4, mode="bilinear")[0]
        return double.schedule.move(latents, noise, timestep, timestep - 100), grid

    z = trajectory[LEVEL:]
    for level, timestep in ((4, 301), (3, 201)):
        lower_0, grid_0 = (value.detach() for value in passed(trajectory[level, None], timestep))
        patch = grid_0[*square, col - r : col + r + 1]
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        for step in (1, 2):
            z = z.detach().requires_grad_(True)
            lower, grid = passed(z, timestep)
            shifted = grid[*square, col + 4 - r : col + 4 + r + 1]
            pull = (2 * r + 1) ** 2 * (patch - shifted).abs().mean()
            loss = pull + weight * ((lower - lower_0) * keep).abs().sum()
            (gradient,) = torch.autograd.grad(loss, z)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            slope = (second / (1 - 0.999**step)).sqrt() + 1e-8
            z = (z - rate * first / (1 - 0.9**step) / slope).detach()
        z = passed(z, timestep)[0].detach()

    settings = QUICK.replaced(
        trackings=1,
        updates=2,
        learning_rate=rate,
        background_weight=weight,
        supervision_radius=r,
        tracking_radius=1,
        regions_in_supervision=False,
    )
    standing = []

    def stay(_step, state):
        standing.append(state["tracks"][-1].tolist())

    result = settings.drag(double, posed, Hooks(on_state=stay, state_every=1))
    assert standing == [[[row, col]]]  # else the second level would pull from another cell
    assert (result.level, result.steps) == (LEVEL - 2, 2)
    assert (result.latents - z).abs().max() < 1e-9


def test_the_last_step_ends_at_the_target(double, scenario):
    """Where less than a step is left, the patch is pulled from the target itself."""
    handle, target = (scenario.frame.to_image(FeaturePoint(20, col)) for col in (20, 23))
    posed = problem(scenario, drags=[Drag(handle, target)])

    def after(length):
        settings = QUICK.replaced(levels=1, trackings=1, step_length=length)
        return settings.drag(double, posed, Hooks()).latents

    assert torch.equal(after(3.0), after(4.0))
    assert not torch.equal(after(3.0), after(2.0))


@pytest.mark.parametrize(
    "change",
    [
        {"first_patch": False},
        {"alternation": False},
        {"regions_in_supervision": False},
        {"regions_in_tracking": False},
        {"region_anchor": "transported"},
        {"background_weight": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_switch_changes_the_latents(tiny, scenario, plain, change):
    switched = run(tiny, scenario, **change)
    assert (plain.latents - switched.latents).abs().mean() > 1e-5


def test_tracking_sees_what_the_update_made(tiny, scenario):
    """In the features from before the first update every handle would be found where it was."""
    result = run(tiny, scenario, levels=1, trackings=1, learning_rate=1.0)
    assert (result.tracks[1] != result.tracks[0]).any()


def test_renoising_changes_the_latents_and_nothing_else_draws(tiny, scenario, plain, renoised):
    assert (plain.latents - renoised.latents).abs().mean() > 1e-5
    assert torch.equal(plain.latents, run(tiny, scenario, seed=1).latents)
    other = run(tiny, scenario, seed=1, renoising=True)
    assert (other.latents - renoised.latents).abs().mean() > 1e-2


def test_renoising_puts_back_what_may_not_change(tiny, scenario):
    result = run(tiny, scenario, levels=1, alternation=False, renoising=True)
    rows = scenario.frame.latent_size[0] // 2
    inverted = problem(scenario).inverted
    assert torch.equal(result.latents[..., rows:, :], inverted[..., rows:, :])
    assert (result.latents - inverted)[..., :rows, :].abs().mean() > 0.1


@pytest.fixture
def tracked(tiny, scenario, monkeypatch):
    """Run with a tracker that moves every handle by a number of columns each time."""
    handle, target = (scenario.frame.to_image(FeaturePoint(20, col)) for col in (10, 20))

    def run_with(columns, distance=0.0, **changes):
        def moved(_features, _initial, handles, *_rest):
            cells = handles + torch.tensor([0, columns])
            return Track(cells, torch.full((len(handles),), distance))

        monkeypatch.setattr("adaptivedrag.handle_motion.track_points", moved)
        before = tiny.passes.unet_forwards
        result = run(tiny, scenario, drags=[Drag(handle, target)], **changes)
        return result, tiny.passes.unet_forwards - before

    return run_with


def test_levels_are_visited_from_the_start_down(tracked):
    result, forwards = tracked(0)
    assert (result.level, result.steps, result.budget) == (LEVEL - 2, 4, 4)
    assert forwards == 2 * (1 + 1 + 2)  # at each: the picture's, the first, one after each update
    assert result.verdict == "stalled"
    together, forwards = tracked(0, alternation=False)
    assert (together.level, together.steps, together.budget) == (LEVEL, 4, 4)
    assert forwards == 1 + 1 + 4


def test_nothing_is_done_once_all_have_arrived(tracked):
    result, _ = tracked(5, trackings=3)
    assert (result.level, result.steps, result.verdict) == (LEVEL, 2, "reached")
    later, _ = tracked(3, trackings=2)
    assert (later.level, later.steps, later.verdict) == (LEVEL - 1, 3, "reached")


def test_a_handle_that_is_like_nothing_any_more_is_lost(tracked):
    assert tracked(0, distance=1e9, levels=1, trackings=1)[0].verdict == "lost"


def test_handles_that_stand_still_end_the_level(tracked):
    result, _ = tracked(0, trackings=9, patience=3)
    assert (result.level, result.steps) == (LEVEL - 2, 6)
    moving, _ = tracked(2, trackings=9, patience=3)
    assert (moving.level, moving.steps) == (LEVEL, 5)


def test_a_handle_at_its_target_takes_no_step(tiny, scenario):
    before = tiny.passes.unet_forwards
    result = run(tiny, scenario, drags=[Drag(ImagePoint(40, 40), ImagePoint(40, 40))])
    assert (result.verdict, result.level, result.steps) == ("no-op", LEVEL, 0)
    assert torch.equal(result.latents, problem(scenario).inverted)
    assert tiny.passes.unet_forwards == before


@pytest.mark.parametrize("cut", [2, 3], ids=["a level begins", "in the middle of one"])
def test_what_was_cut_off_ends_with_the_bytes_of_what_was_not(tiny, scenario, renoised, cut):
    kept = {}

    def keep(step, state):
        kept.update({name: value.clone() for name, value in state.items()})
        if step == cut:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(tiny, scenario, Hooks(on_state=keep, state_every=1), renoising=True)
    assert (int(kept["step"]), int(kept["round"]), int(kept["taken"])) == (cut, 1, cut - 2)
    resumed = run(tiny, scenario, Hooks(resume_from=kept), renoising=True)
    assert torch.equal(resumed.latents, renoised.latents)
    assert (resumed.tracks == renoised.tracks).all()
    assert (resumed.points, resumed.level) == (renoised.points, renoised.level)
    assert resumed.details == renoised.details
    assert len(renoised.details["losses"]) == renoised.steps * QUICK.updates


def test_states_are_handed_over_at_each_level_and_before_a_stop(tiny, scenario):
    steps = []

    def stop(step, _budget):
        if step == 3:
            raise Stopped

    hooks = Hooks(on_step=stop, on_state=lambda step, _state: steps.append(step), state_every=99)
    with pytest.raises(Stopped):
        run(tiny, scenario, hooks)
    assert steps == [2, 3]


def test_latents_that_diverge_are_reported_with_the_last_good_state(tiny, scenario):
    with pytest.raises(NotFinite, match=r"after 2 drag steps: lower optimize_latent") as failure:
        run(tiny, scenario, learning_rate=1e30)
    assert failure.value.state["latents"].isfinite().all()
    assert failure.value.step == 1


def test_one_pass_at_a_time_is_kept_for_the_way_back(tiny, scenario):
    alive, most = weakref.WeakSet(), [0]

    class Saved:
        def __init__(self, value):
            self.value = value.detach()  # a result that was saved would keep its own pass
            alive.add(self)
            most[0] = max(most[0], len(alive))

    def most_saved(**changes):
        most[0] = 0
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.value):
            run(tiny, scenario, **changes)
        return most[0]

    one = most_saved(levels=1, trackings=1, updates=1)
    assert one > 0
    assert most_saved() == most_saved(renoising=True) == one


def test_levels_that_the_inversion_lacks_are_refused():
    changes = {"optimize_latent": {"method": "alternation"}, "invert_image": {"inverted_steps": 6}}
    with pytest.raises(ValueError, match=r"levels 7 is more than invert_image.inverted_steps 6"):
        EditConfig().merged(changes)
    changes["optimize_latent"]["alternation"] = False
    assert EditConfig().merged(changes).optimize_latent.levels == 7


def test_lengths_and_the_summed_weight_are_fitted():
    fitted = Alternation().fitted_to(LatentScale.of(4, 32, 32))
    assert (fitted.supervision_radius, fitted.tracking_radius, fitted.step_length) == (2, 6, 2.0)
    assert fitted.background_weight == pytest.approx(0.4)
