"""Mean distance: matching by features, cheap and exact; DIFT's features of a real small UNet."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from adaptivedrag.metrics import (
    POCKET_PROTOCOL,
    DiftProtocol,
    dift_features,
    distances,
    find_handles,
)
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.points import ImagePoint
from adaptivedrag.scenes import drags, render, training_scene

PROTOCOL = DiftProtocol(timestep=261, up_block=1, ensemble=2)


def random_map(seed: int, shape: tuple[int, ...] = (12, 7, 9)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def similarity_of_whole_maps(source, edited, pixel, size):
    """Upsample both maps in full and take the cosine with every pixel."""
    first, second = (
        functional.interpolate(torch.tensor(m)[None].double(), size, mode="bilinear")
        for m in (source, edited)
    )
    wanted = first[:, :, pixel[0], pixel[1], None, None]
    return functional.cosine_similarity(wanted, second, dim=1)[0].numpy()


@given(
    seed=st.integers(0, 2**16),
    size=st.tuples(st.integers(9, 70), st.integers(9, 70)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=40, deadline=None)
def test_matches_are_those_of_the_whole_upsampled_maps(seed, size, place):
    source, edited = random_map(seed), random_map(seed + 1)
    row, col = (round(share * (side - 1)) for share, side in zip(place, size, strict=True))
    (match,) = find_handles(source, edited, [ImagePoint(col, row)], size)
    similarity = similarity_of_whole_maps(source, edited, (row, col), size)
    assert similarity[int(match.y), int(match.x)] == pytest.approx(similarity.max(), abs=1e-5)


@given(seed=st.integers(0, 2**16), x=st.floats(8, 60), y=st.floats(8, 48))
@settings(max_examples=40, deadline=None)
def test_a_picture_compared_with_itself_returns_the_handles(seed, x, y):
    features = random_map(seed)
    handle = ImagePoint(x, y)
    (match,) = find_handles(features, features, [handle], (56, 72))
    assert math.dist(match, handle) < 1e-9


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_matches_follow_the_order_of_handles(order):
    source, edited = random_map(0), random_map(1)
    handles = [ImagePoint(5 + 11 * i, 50 - 8 * i) for i in range(5)]
    found = find_handles(source, edited, handles, (56, 72))
    assert find_handles(source, edited, [handles[i] for i in order], (56, 72)) == [
        found[i] for i in order
    ]


@given(rows=st.integers(-2, 2), cols=st.integers(-2, 2))
@settings(max_examples=15, deadline=None)
def test_moved_content_is_found_as_far_as_it_moved(rows, cols):
    source = random_map(3, (12, 12, 12))
    moved = np.roll(source, (rows, cols), (1, 2))
    handle = ImagePoint(44, 52)
    (match,) = find_handles(source, moved, [handle], (96, 96))
    assert match == (44 + 8 * cols, 52 + 8 * rows)
    assert distances([match], [handle]) == [pytest.approx(8 * math.hypot(rows, cols))]


def test_inside_a_mask_the_best_pixel_of_the_mask_is_found():
    source, edited, size = random_map(0), random_map(1), (56, 72)
    within = np.zeros(size, bool)
    within[30:50, 10:30] = True
    (match,) = find_handles(source, edited, [ImagePoint(20, 20)], size, within)
    similarity = similarity_of_whole_maps(source, edited, (20, 20), size)
    best = np.where(within, similarity, -1).max()
    assert within[int(match.y), int(match.x)]
    assert similarity[int(match.y), int(match.x)] == pytest.approx(best, abs=1e-9)
    with pytest.raises(ValueError, match="empty"):
        find_handles(source, edited, [ImagePoint(20, 20)], size, ~np.ones(size, bool))


def test_handles_on_the_rim_of_the_picture_have_a_match():
    features = random_map(0)
    for handle in (ImagePoint(-0.4, -0.4), ImagePoint(71.4, 55.4)):
        (match,) = find_handles(features, features, [handle], (56, 72))
        assert -0.5 <= match.x <= 71.5
        assert -0.5 <= match.y <= 55.5


def test_features_are_the_block_s_output_of_the_noised_latents(tiny, scenario):
    seen = []
    block = tiny.unet.up_blocks[PROTOCOL.up_block]
    hook = block.register_forward_hook(lambda _m, _i, out: seen.append(out))
    features = dift_features(tiny, scenario.image, "a face", PROTOCOL, seed=5)
    hook.remove()
    mean, std = tiny.posterior(scenario.image)
    draws = torch.randn((2, 2, *mean.shape[1:]), generator=torch.Generator().manual_seed(5))
    alpha = tiny.schedule.alpha(261)
    noised = alpha**0.5 * (mean + std * draws[0]) + (1 - alpha) ** 0.5 * draws[1]
    tapped = []
    hook = block.register_forward_hook(lambda _m, _i, out: tapped.append(out))
    with torch.no_grad():
        tiny.predict_noise(noised, 261, tiny.encode_prompt("a face"))
    hook.remove()
    np.testing.assert_allclose(features, tapped[0].mean(0).numpy(), atol=1e-5)
    np.testing.assert_array_equal(features, seen[0].mean(0).numpy())


def test_reading_features_leaves_the_model_whole(tiny, scenario):
    conditioning = tiny.encode_prompt("a face")
    with torch.no_grad():
        first = tiny.predict_noise(scenario.latents, 261, conditioning)
        dift_features(tiny, scenario.image, "a face", PROTOCOL, seed=0)
        second = tiny.predict_noise(scenario.latents, 261, conditioning)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_features_depend_on_the_seed_alone_and_on_the_prompt(tiny, scenario):
    def read(seed=0, prompt="a face"):
        torch.rand(3)
        return dift_features(tiny, scenario.image, prompt, PROTOCOL, seed)

    np.testing.assert_array_equal(read(), read())
    assert np.abs(read() - read(seed=1)).max() > 1e-4
    assert np.abs(read() - read(prompt="hat, red")).max() > 1e-7


def test_doing_nothing_has_the_mean_length_of_the_drags_as_mean_distance(tiny, scenario):
    handles = [drag.handle for drag in scenario.drags]
    targets = [drag.target for drag in scenario.drags]
    features = dift_features(tiny, scenario.image, "a face", PROTOCOL, seed=0)
    found = find_handles(features, features, handles, scenario.image.shape[:2])
    lengths = [math.dist(*drag) for drag in scenario.drags]
    assert np.mean(distances(found, targets)) == pytest.approx(np.mean(lengths), abs=1e-9)


@pytest.mark.slow
def test_the_pocket_model_finds_true_results_of_drags():
    model = DiffusionModel.load(find_diffusion("pocket"))
    errors, lengths = [], []
    for number in range(6):
        scene = training_scene(number)
        drag = drags(scene)[0]
        before, truth = render(scene, 256).image, render(drag.after, 256).image
        maps = [
            dift_features(model, image, scene.caption(), POCKET_PROTOCOL, number)
            for image in (before, truth)
        ]
        handles = [ImagePoint(*handle) for handle, _ in drag.pixels(256)]
        targets = [ImagePoint(*target) for _, target in drag.pixels(256)]
        errors += distances(find_handles(*maps, handles, (256, 256)), targets)
        lengths += distances(handles, targets)
    assert np.median(errors) < 0.5 * np.median(lengths)
