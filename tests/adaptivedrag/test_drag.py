"""Motion supervision, point tracking, backtracking, and the loop that joins them."""

import numpy as np
import pytest
import torch

from adaptivedrag.backtracking import accept_forward_steps
from adaptivedrag.drag import DragTask, Hooks
from adaptivedrag.errors import NotFinite
from adaptivedrag.features import window
from adaptivedrag.motion_supervision import background_loss, motion_loss
from adaptivedrag.point_tracking import track_points
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.presets import PRESETS

SIZE = (64, 64)


def everywhere(handles, reach):
    return torch.ones(len(handles), (2 * reach + 1) ** 2, dtype=torch.bool)


def features(seed=0, channels=6):
    return torch.randn(channels, 16, 16, generator=torch.Generator().manual_seed(seed))


def loss_of(maps, handle, target, radius=1, region=None):
    handles, targets = torch.tensor([handle]), torch.tensor([target], dtype=torch.float32)
    region = everywhere(handles, radius) if region is None else region
    pending = torch.tensor([True])
    return motion_loss(
        maps, handles, targets, region, torch.tensor([radius]), radius, SIZE, pending
    )


def test_motion_loss_is_dragdiffusions_formula():
    maps = features()
    grid = torch.nn.functional.interpolate(maps[None], scale_factor=4, mode="bilinear")[0]
    row, col = 30, 20
    here = grid[:, row - 1 : row + 2, col - 1 : col + 2]
    ahead = grid[:, row - 1 : row + 2, col : col + 3]
    expected = 9 * (ahead - here).abs().mean()
    torch.testing.assert_close(loss_of(maps, [row, col], [row, col + 9]), expected)


def test_motion_gradient_flows_through_the_shifted_patch_only():
    maps = features().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss_of(maps, [32, 20], [32, 60]), maps)
    touched = gradient.abs().sum(dim=0).nonzero()
    assert touched[:, 1].min() >= 4
    assert touched[:, 1].max() <= 6
    assert len(touched) > 0


def test_a_drag_into_the_border_has_a_finite_loss():
    for handle, target in [([63, 63], [70, 63]), ([0, 0], [-5, -5]), ([63, 0], [63, -3])]:
        assert torch.isfinite(loss_of(features(), handle, target, radius=6))


def test_overlapping_points_add_and_leave_the_features_alone():
    maps = features()
    before = maps.clone()
    handles = torch.tensor([[30, 30], [31, 31]])
    targets = torch.tensor([[30.0, 50.0], [50.0, 31.0]])
    together = motion_loss(
        maps,
        handles,
        targets,
        everywhere(handles, 3),
        torch.tensor([3, 3]),
        3,
        SIZE,
        torch.tensor([True, True]),
    )
    apart = loss_of(maps, [30, 30], [30, 50], 3) + loss_of(maps, [31, 31], [50, 31], 3)
    torch.testing.assert_close(together, apart)
    assert torch.equal(maps, before)


def test_a_region_leaves_out_its_cells_without_rescaling():
    handles = torch.tensor([[30, 30]])
    half = window(handles, 2)[..., 1] >= 30
    whole = loss_of(features(), [30, 30], [30, 50], 2)
    part = loss_of(features(), [30, 30], [30, 50], 2, half)
    rest = loss_of(features(), [30, 30], [30, 50], 2, ~half)
    torch.testing.assert_close(part + rest, whole)


def track(maps, initial, handle, radius=6, region=None):
    handles = torch.tensor([handle])
    region = everywhere(handles, radius) if region is None else region
    found = track_points(maps, initial, handles, region, torch.tensor([radius]), radius, SIZE)
    return found.cells[0].tolist()


def test_tracking_recovers_a_shift_of_the_features():
    maps = features()
    initial = maps[:, 8, 8][None]
    moved = torch.roll(maps, (1, -1), dims=(1, 2))
    cell = track(moved, initial, [34, 34])
    assert abs(cell[0] - 37.5) <= 0.5
    assert abs(cell[1] - 29.5) <= 0.5


def test_without_candidates_a_handle_stays():
    nothing = torch.zeros(1, 13 * 13, dtype=torch.bool)
    assert track(features(), torch.zeros(1, 6), [30, 30], region=nothing) == [30, 30]


def test_ties_go_to_the_first_cell_and_the_grid_is_never_left():
    assert track(torch.zeros(6, 16, 16), torch.zeros(1, 6), [30, 30]) == [24, 24]
    assert track(torch.zeros(6, 16, 16), torch.zeros(1, 6), [0, 63]) == [0, 57]


def backtrack(candidate, handle, budget=10, ideal=1.0, returns=True):
    return accept_forward_steps(
        torch.tensor([candidate]),
        torch.tensor([handle]),
        torch.tensor([[5.0, 12.0]]),
        torch.tensor([[0.0, 10.0]]),
        torch.tensor([True]),
        torch.tensor([ideal]),
        torch.tensor(budget),
        12,
        returns=returns,
    )


def test_a_full_step_forward_is_kept_and_costs_no_budget():
    progress = backtrack([5, 7], [5, 5])
    assert progress.handles.tolist() == [[5, 7]]
    assert (progress.budget, progress.advanced) == (10, True)


def test_a_step_backward_is_refused_and_lengthens_the_budget():
    progress = backtrack([5, 3], [5, 5])
    assert progress.handles.tolist() == [[5, 5]]
    assert (progress.budget, progress.advanced) == (11, False)


def test_a_short_step_is_kept_and_the_budget_stops_at_its_maximum():
    progress = backtrack([5, 6], [5, 5], budget=12, ideal=2.0)
    assert progress.handles.tolist() == [[5, 6]]
    assert progress.budget == 12


def test_a_handle_that_overshot_may_come_back_and_go_no_further():
    assert backtrack([5, 13], [5, 15]).handles.tolist() == [[5, 13]]
    assert backtrack([5, 17], [5, 15]).handles.tolist() == [[5, 15]]


def test_by_the_papers_words_a_handle_that_overshot_stays():
    assert backtrack([5, 13], [5, 15], returns=False).handles.tolist() == [[5, 15]]
    assert backtrack([5, 11], [5, 10], returns=False).handles.tolist() == [[5, 11]]


def run(tiny, scenario, changes=(), drags=None, preset="paper"):
    changes = dict(changes)
    config = PRESETS[preset].scaled_to(4, *scenario.frame.latent_size)
    config = config.merged(
        {"optimize_latent": {"steps": 8, "max_steps": 12, "learning_rate": 0.1, **changes}}
    )
    mask = np.zeros(scenario.frame.feature_size, bool)
    mask[: mask.shape[0] // 2] = True
    problem = scenario.problem(drags=drags or scenario.drags, mask=mask)
    return config.optimize_latent.drag(tiny, problem, Hooks())


def test_dragging_moves_the_latents_and_nothing_else(tiny, scenario):
    start, drags = scenario.latents.clone(), tuple(scenario.drags)
    result = run(tiny, scenario)
    assert torch.equal(scenario.latents, start)
    assert scenario.drags == drags
    assert result.latents.isfinite().all()
    assert len(result.tracks) == result.steps + 1
    assert (result.latents - start).abs().max() > 1e-3


def test_dragging_is_repeatable(tiny, scenario):
    assert torch.equal(run(tiny, scenario).latents, run(tiny, scenario).latents)


def test_the_budget_grows_to_its_maximum_only_with_backtracking(tiny, scenario):
    far = (Drag(ImagePoint(10, 10), ImagePoint(90, 120)),)
    grown = run(tiny, scenario, {"stop_distance": 0.01, "patience": 99}, far)
    fixed = run(tiny, scenario, {"stop_distance": 0.01, "backtracking": False}, far)
    assert (grown.steps, grown.budget) == (12, 12)
    assert (fixed.steps, fixed.budget) == (8, 8)


def test_a_drag_that_never_advances_ends_by_the_stuck_guard(tiny, scenario):
    changes = {"patience": 3, "max_steps": 200, "tracking_radius": 1, "learning_rate": 1e-12}
    result = run(tiny, scenario, changes)
    assert result.steps < 20
    assert result.verdict in ("stalled", "lost")


def test_latents_that_diverge_are_reported_with_the_step_and_the_remedy(tiny, scenario):
    with pytest.raises(NotFinite, match=r"after \d+ drag steps: lower optimize_latent"):
        run(tiny, scenario, {"learning_rate": 1e30})


def test_drags_that_are_optimized_together_go_as_they_do_alone_and_end_when_they_do(
    tiny, scenario, monkeypatch
):
    mask = np.zeros(scenario.frame.feature_size, bool)
    mask[: mask.shape[0] // 2] = True
    method = scenario.config.optimize_latent.replaced(learning_rate=0.1, stop_distance=0.01)
    wishes = [(5, scenario.drags[:1]), (2, scenario.drags[1:]), (3, scenario.drags)]
    tasks = [
        DragTask(
            method.replaced(steps=steps, max_steps=steps),
            scenario.problem(
                drags=drags, mask=mask, conditioning=tiny.encode_prompt(f"{steps} faces")
            ),
            Hooks(),
        )
        for steps, drags in wishes
    ]
    alone = [task.method.drag(tiny, task.problem, task.hooks) for task in tasks]
    sizes = []
    predict = tiny.predict_with_features
    monkeypatch.setattr(
        tiny,
        "predict_with_features",
        lambda latents, *others: sizes.append(len(latents)) or predict(latents, *others),
    )
    together = method.drag_together(tiny, tasks)
    for one, kept in zip(together, alone, strict=True):
        assert (one.steps, one.budget, one.verdict) == (kept.steps, kept.budget, kept.verdict)
        assert np.array_equal(one.tracks, kept.tracks)
        assert (one.latents - kept.latents).abs().max() < 1e-4 * np.ptp(kept.latents.numpy())
    assert [one.steps for one in together] == [5, 2, 3]
    assert sizes == [3, 3, 3, 2, 1, 1]


def test_a_zero_length_drag_is_a_no_op_that_leaves_the_latents(tiny, scenario):
    still = (Drag(ImagePoint(40, 40), ImagePoint(40, 40)),)
    result = run(tiny, scenario, drags=still)
    assert result.verdict == "no-op"
    assert result.steps == 0
    assert torch.equal(result.latents, scenario.latents)


@pytest.mark.parametrize(
    "change",
    [
        {"regions_in_supervision": False},
        {"regions_in_tracking": False},
        {"backtracking": False},
        {"background_weight": 0.0},
        {"region_anchor": "transported"},
        {"supervision_radius": 1},
        {"skip_distance": 500.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_switch_of_the_optimization_changes_the_latents(tiny, scenario, change):
    plain, switched = run(tiny, scenario), run(tiny, scenario, change)
    assert (plain.latents - switched.latents).abs().mean() > 1e-5


def test_the_background_loss_sees_only_what_is_not_editable():
    initial = torch.zeros(1, 4, 8, 8)
    editable = torch.zeros(8, 8, dtype=torch.bool)
    editable[:4] = True
    lower = torch.ones(1, 4, 8, 8, requires_grad=True)
    loss = background_loss(lower, initial, editable)
    (gradient,) = torch.autograd.grad(loss, lower)
    assert loss == 4 * 4 * 8
    assert gradient[..., :4, :].abs().sum() == 0
    assert background_loss(lower, initial, torch.ones(8, 8, dtype=torch.bool)) == 0


def test_an_empty_mask_holds_nothing(tiny, scenario):
    def result(mask, weight):
        settings = scenario.config.optimize_latent.replaced(
            steps=4, max_steps=4, background_weight=weight
        )
        return settings.drag(tiny, scenario.problem(mask=mask), Hooks()).latents

    nowhere = np.zeros(scenario.frame.feature_size, bool)
    assert torch.equal(result(nowhere, 1.6), result(nowhere, 0.0))
    assert torch.equal(result(~nowhere, 1.6), result(nowhere, 0.0))


def test_iterations_of_the_baseline_equal_a_plain_derivation_of_them_in_float64(double, scenario):
    """Two steps of preset `dragdiffusion` and their tracking against the formulas written out."""
    drag = Drag(ImagePoint(40.5, 50.5), ImagePoint(66.5, 50.5))  # along a row of the grid
    row, col = scenario.frame.to_cell(drag.handle)
    rate, weight = 1e-3, 1.6
    mask = np.zeros(scenario.frame.feature_size, bool)
    mask[:8] = True
    keep = torch.ones(scenario.frame.latent_size)
    keep[:2] = 0

    def passed(latents):
        noise, (maps,) = double.predict_with_features(latents, 681, scenario.conditioning)
        grid = torch.nn.functional.interpolate(maps[None], scale_factor=4, mode="bilinear")[0]
        return double.schedule.move(latents, noise, 681, 661), grid

    z = scenario.latents.double()
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    lower_0, grid_0 = (value.detach() for value in passed(z))
    for step in (1, 2):
        z = z.detach().requires_grad_(True)
        lower, grid = passed(z)
        patch = grid[:, row - 1 : row + 2, col - 1 : col + 2].detach()
        shifted = grid[:, row - 1 : row + 2, col : col + 3]
        loss = 9 * (shifted - patch).abs().mean() + weight * ((lower - lower_0) * keep).abs().sum()
        (gradient,) = torch.autograd.grad(loss, z)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        slope = (second / (1 - 0.999**step)).sqrt() + 1e-8
        z = (z - rate * first / (1 - 0.9**step) / slope).detach()
        moved = passed(z)[1].detach()[:, row - 3 : row + 4, col - 3 : col + 4]
        distances = (moved - grid_0[:, row, col][:, None, None]).abs().sum(dim=0)
        # So small a step leaves the handle where it is, and the direction that of the row.
        assert distances.argmin() == 3 * 7 + 3

    config = PRESETS["dragdiffusion"].merged(
        {
            "optimize_latent": {
                "steps": 2,
                "max_steps": 2,
                "background_weight": weight,
                "learning_rate": rate,
            }
        }
    )
    problem = scenario.problem(drags=[drag], mask=mask)
    result = config.optimize_latent.drag(double, problem, Hooks())
    assert result.steps == 2
    assert result.latents.dtype == torch.float64
    assert (result.latents - z).abs().max() < 1e-9
    np.testing.assert_array_equal(result.tracks[:, 0], [[row, col]] * 3)
