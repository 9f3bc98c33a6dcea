"""Metrics that need no model: what they say of pictures whose quality is known."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptivedrag.metrics as metrics
from adaptivedrag.errors import MetricUnavailable
from adaptivedrag.metrics import (
    TrueResult,
    blurred,
    drag_accuracy_index,
    erased,
    find_true_end,
    flattened,
    legacy_drag_accuracy_index,
    mean_interval,
    paired_difference,
    preservation,
    recovery,
    render_without,
)
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.scenes import benchmark_scene, drags, render

SIZE = 96
SCENES = range(6)


def pictures(seed: int, count: int, size: int = 24) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def first_drag(number: int):
    return drags(benchmark_scene(number))[0]


def test_every_exported_name_is_there_and_documented():
    assert sorted(metrics.__all__) == sorted(set(metrics.__all__))
    for name in metrics.__all__:
        assert getattr(metrics, name).__doc__ or name.isupper(), name


def test_importing_the_metrics_and_all_that_needs_no_model_loads_no_torch():
    check = (
        "import sys; from adaptivedrag.metrics import recovery, find_true_end, find_handles, "
        "erased, mean_interval, TrueResult; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# Truth


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_truth_is_recovered_whole_and_the_picture_itself_not_at_all(seed):
    before, truth, edited = pictures(seed, 3)
    region = np.random.default_rng(seed).random(before.shape[:2]) < 0.3
    region[0, 0] = True
    assert recovery(before, truth, truth, region).share == 1
    assert recovery(before, truth, before, region).share == 0
    assert recovery(before, truth, edited, region).share < 1


def test_recovery_falls_in_step_with_the_error_and_below_zero():
    before, truth = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 200, np.uint8)
    region = np.ones((4, 4), bool)
    for level, expected in ((150, 0.5), (175, 0.75), (225, 0.75), (50, -0.5)):
        found = recovery(before, truth, np.full_like(before, level), region)
        assert found == (abs(200 - level) * 4 * 4 * 3, 100 * 4 * 4 * 3)
        assert found.share == expected


def test_recovery_looks_at_its_region_only():
    before, truth, edited = pictures(0, 3)
    region = np.zeros(before.shape[:2], bool)
    region[3:9, 2:7] = True
    elsewhere = np.where(region[..., None], edited, 255 - edited)
    assert recovery(before, truth, edited, region) == recovery(before, truth, elsewhere, region)


def test_recovery_is_undefined_where_nothing_is_to_be_recovered():
    before, edited = pictures(0, 2)
    everywhere = np.ones(before.shape[:2], bool)
    assert recovery(before, before, edited, everywhere).share is None
    assert recovery(before, edited, edited, ~everywhere) == (0, 0)


def test_preservation_is_the_psnr_outside_capped_where_nothing_changed():
    before = np.full((8, 8, 3), 100, np.uint8)
    edited, outside = before.copy(), np.ones((8, 8), bool)
    edited[0, 0] = 0
    outside[0, 0] = False
    assert preservation(before, edited, outside) == 99
    assert preservation(before, before + np.uint8(10), outside) == pytest.approx(
        20 * math.log10(25.5)
    )
    assert preservation(before, edited, np.zeros((8, 8), bool)) is None


@pytest.mark.parametrize("number", SCENES)
def test_the_regions_of_a_drag_are_apart_and_hold_all_that_may_change(number):
    for drag in drags(benchmark_scene(number)):
        true = TrueResult.of(drag, SIZE)
        assert not (true.arrival & true.departure).any()
        assert not (true.outside & (true.arrival | true.departure)).any()
        assert preservation(true.before, true.truth, true.outside) == 99
        np.testing.assert_array_equal(true.arrival, render(drag.after, SIZE).mask(drag.part))


# True end


@pytest.mark.parametrize("number", SCENES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_end_of_a_rendered_drag_is_found_where_it_was_rendered(number, share):
    drag = first_drag(number)
    end = find_true_end(drag, render(drag.scene_at(share), SIZE).image)
    length = np.mean([math.dist(*pair) for pair in drag.pixels(SIZE)])
    assert end.found
    assert abs(end.share - share) < 0.03
    assert np.mean(end.distances) == pytest.approx((1 - share) * length, abs=0.04 * length)


def test_doing_nothing_ends_exactly_the_drag_s_length_away_at_half_size_too():
    drag = first_drag(5)
    for size in (SIZE, 256):
        end = find_true_end(drag, render(drag.before, size).image)
        lengths = [math.dist(*pair) for pair in drag.pixels(size)]
        assert end.distances == pytest.approx(lengths, abs=0.02 * max(lengths))


def test_a_smeared_and_noisy_result_is_still_found_near_its_place():
    from scipy.ndimage import gaussian_filter

    drag = first_drag(5)
    truth = render(drag.after, SIZE).image.astype(float)
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    rough = (gaussian_filter(truth, (1, 1, 0)) + noise).clip(0, 255).astype(np.uint8)
    end = find_true_end(drag, rough)
    assert end.found
    assert abs(end.share - 1) < 0.1


@pytest.mark.parametrize("number", SCENES)
def test_erased_content_is_not_found_and_scores_as_if_it_had_not_moved(number):
    drag = first_drag(number)
    end = find_true_end(drag, render_without(drag.before, drag.part, SIZE))
    assert not end.found
    lengths = [math.dist(*pair) for pair in drag.pixels(SIZE)]
    assert end.distances == pytest.approx(lengths)


def test_what_was_compared_before_does_not_change_where_a_drag_ended():
    drag, other = drags(benchmark_scene(5))[:2]
    rough = render(drag.scene_at(0.4), SIZE).image
    # A part named twice is the same part, and another drag to what keeps renders.
    alone = find_true_end(replace(drag, part=f"{drag.part}+{drag.part}"), rough)
    for each, share in ((drag, 0.9), (other, 0.4), (drag, 0.1)):
        find_true_end(each, render(each.scene_at(share), SIZE).image)
    assert find_true_end(drag, rough) == alone != find_true_end(other, rough)


def test_an_edit_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="square"):
        find_true_end(first_drag(0), np.zeros((64, 32, 3), np.uint8))


# Controls


@pytest.mark.parametrize("number", SCENES)
def test_rendering_without_a_part_changes_the_part_and_little_else(number):
    drag = first_drag(number)
    true = TrueResult.of(drag, SIZE)
    here = render(drag.before, SIZE).mask(drag.part)
    without = render_without(drag.before, drag.part, SIZE)
    changed = (without != true.before).any(axis=2)
    assert changed[here].mean() > 0.8
    assert changed[~here].mean() < 0.15


@pytest.mark.parametrize("control", [erased, flattened, blurred])
def test_a_control_replaces_a_bright_disc_on_gray_by_something_duller(control):
    rows, cols = np.mgrid[:48, :48]
    disc = np.hypot(rows - 24, cols - 24) < 8
    image = np.full((48, 48, 3), 90, np.uint8)
    image[disc] = (250, 200, 10)
    result = control(image, disc)
    assert result.dtype == np.uint8
    contrast, before = (
        np.abs(picture[disc].astype(int) - 90).mean() for picture in (result, image)
    )
    assert contrast < 0.9 * before
    np.testing.assert_array_equal(result[:10], image[:10])


@pytest.mark.parametrize("control", [erased, flattened])
def test_a_fill_from_an_even_surrounding_is_that_surrounding(control):
    image = np.full((32, 32, 3), 90, np.uint8)
    region = np.zeros((32, 32), bool)
    region[10:20, 12:22] = True
    image[region] = 255
    assert np.abs(control(image, region).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("control", [erased, flattened, blurred])
def test_a_control_of_no_region_is_the_picture(control):
    (image,) = pictures(0, 1)
    np.testing.assert_array_equal(control(image, np.zeros(image.shape[:2], bool)), image)


# Drag accuracy index


def test_dai_is_zero_where_the_patch_was_moved_and_the_formula_elsewhere():
    (before,) = pictures(0, 1, 40)
    moved = np.roll(before, (3, 5), (0, 1))
    drag = Drag(ImagePoint(14, 20), ImagePoint(19, 23))
    assert drag_accuracy_index(before, moved, [drag], 5) == 0
    expected = np.sum((before[15:26, 9:20] / 255 - before[18:29, 14:25] / 255) ** 2) / 121
    assert drag_accuracy_index(before, before, [drag], 5) == pytest.approx(expected)


@pytest.mark.parametrize("handle", [(0, 0), (39, 0), (0, 39), (39, 39), (20, 1)])
def test_dai_at_a_border_compares_what_both_patches_have(handle):
    (before,) = pictures(1, 1, 40)
    inward = [4 if value < 20 else -4 for value in handle]
    moved = np.roll(before, (inward[1], inward[0]), (0, 1))
    x, y = handle
    drag = Drag(ImagePoint(x, y), ImagePoint(x + inward[0], y + inward[1]))
    assert drag_accuracy_index(before, moved, [drag], 20) == 0
    assert drag_accuracy_index(before, before, [drag], 20) > 0.1


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_dai_does_not_depend_on_the_order_of_points(order):
    before, edited = pictures(2, 2, 40)
    pairs = [Drag(ImagePoint(3 + 8 * i, 5), ImagePoint(30 - 7 * i, 31)) for i in range(4)]
    mixed = [pairs[i] for i in order]
    assert drag_accuracy_index(before, edited, mixed, 3) == pytest.approx(
        drag_accuracy_index(before, edited, pairs, 3)
    )
    assert legacy_drag_accuracy_index(before, edited, pairs, 3) == pytest.approx(
        drag_accuracy_index(before, edited, pairs, 3) / 4
    )


# Bootstrap


def test_an_interval_counts_images_pairs_and_what_is_missing():
    interval = mean_interval([1.0, 2.0, None, 6.0], ["a", "a", "b", "c"])
    assert (interval.mean, interval.pairs, interval.images, interval.missing) == (3, 3, 2, 1)
    assert interval.low <= interval.mean <= interval.high
    assert mean_interval([None], ["a"]) is None


def test_a_weighted_interval_is_that_of_pooled_sums():
    random = np.random.default_rng(0)
    at_stake, errors = random.integers(1, 5000, (2, 24))
    images = [number // 3 for number in range(24)]
    shares = (1 - errors / at_stake).tolist()
    found = mean_interval([*shares, None], [*images, 8], [*at_stake.tolist(), 0], resamples=400)
    assert found.mean == pytest.approx(1 - errors.sum() / at_stake.sum())
    assert (found.pairs, found.images, found.missing) == (24, 8, 1)
    drawn = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), 400)
    pooled = 1 - (drawn @ errors.reshape(8, 3).sum(1)) / (drawn @ at_stake.reshape(8, 3).sum(1))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(pooled, [0.025, 0.975])))
    assert found.mean != pytest.approx(mean_interval(shares, images).mean)
    with pytest.raises(ValueError, match="weight"):
        mean_interval(shares, images, [0, *at_stake.tolist()[1:]])


def test_an_interval_is_the_same_from_the_same_seed_and_whatever_the_order():
    values, images = list(np.random.default_rng(0).normal(size=40)), [i // 2 for i in range(40)]
    assert mean_interval(values, images, seed=3) == mean_interval(values, images, seed=3)
    assert mean_interval(values, images, seed=3) != mean_interval(values, images, seed=4)


def test_edits_of_one_image_count_as_one_draw():
    values = np.random.default_rng(0).normal(size=30)
    repeated = np.repeat(values, 10)
    together = mean_interval(repeated, np.repeat(np.arange(30), 10).tolist())
    apart = mean_interval(repeated, list(range(300)))
    alone = mean_interval(values, list(range(30)))
    assert together.high - together.low == pytest.approx(alone.high - alone.low)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        values = random.normal(0.7, 1, 60)
        interval = mean_interval(values, list(range(60)), resamples=1000, seed=trial)
        held += interval.low <= 0.7 <= interval.high
    assert 180 <= held <= 198


def test_a_paired_difference_sees_what_the_spread_of_images_hides():
    random = np.random.default_rng(0)
    first = random.normal(0, 10, 40)
    second = first - 1 + random.normal(0, 0.1, 40)
    images = list(range(40))
    difference = paired_difference([*first[:-1], None], second, images)
    assert difference.low > 0.9
    assert difference.missing == 1
    one, other = mean_interval(first, images), mean_interval(second, images)
    assert one.low < other.high


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, math.nan], ["a", "b"])


# Fidelity


@pytest.mark.parametrize(
    ("load", "way"),
    [
        (lambda: metrics.ImageFidelity.load(), "torchvision.models.alexnet"),
        (lambda: metrics.ClipImages.load("nobody/no-clip"), "hf download"),
    ],
    ids=["IF", "CLIP"],
)
def test_without_its_weights_a_metric_is_unavailable_and_says_how_to_get_them(
    load, way, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MetricUnavailable, match=way):
        load()


@pytest.mark.slow
def test_image_fidelity_is_one_minus_lpips_at_224(tmp_path, monkeypatch):
    import torch
    import torchvision
    from lpips import LPIPS

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    # Random weights of the right shape: the wiring is what is tested here.
    weights = torchvision.models.alexnet(weights=None).state_dict()
    torch.save(weights, tmp_path / "hub" / "checkpoints" / name)
    fidelity = metrics.ImageFidelity.load()
    before, edited = pictures(0, 2, 64)
    assert fidelity(before, before) == 1
    small = [
        torch.nn.functional.interpolate(
            torch.tensor(picture.transpose(2, 0, 1)[None] / 127.5 - 1).float(),
            (224, 224),
            mode="bilinear",
        )
        for picture in (before, edited)
    ]
    expected = 1 - float(LPIPS(net="alex", verbose=False)(*small))
    assert fidelity(before, edited) == pytest.approx(expected, abs=1e-6)
    assert expected < 1


def test_clip_similarity_is_one_for_a_picture_and_itself_and_less_for_another(tmp_path):
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 8,
    }
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(
        tmp_path
    )
    sides = {"shortest_edge": 32}, {"height": 32, "width": 32}
    CLIPImageProcessor(size=sides[0], crop_size=sides[1]).save_pretrained(tmp_path)
    clip = metrics.ClipImages.load(str(tmp_path))
    before, edited = pictures(0, 2, 48)
    assert clip(before, before) == pytest.approx(1, abs=1e-5)
    assert clip(before, edited) < 0.99999
    assert clip(before, edited) == pytest.approx(clip(edited, before), abs=1e-5)
