"""Scenes: the same from the same seed, and drags whose truth is true."""

import numpy as np
import pytest

from adaptivedrag.scenes import (
    DRAG_KINDS,
    KINDS,
    benchmark_scene,
    demo_edits,
    drags,
    render,
    training_scene,
)

ALL_KINDS = range(len(KINDS))


@pytest.mark.parametrize("number", ALL_KINDS)
def test_a_number_always_gives_the_same_picture(number):
    first, second = (render(training_scene(number), 64).image for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_training_and_benchmark_scenes_differ_at_every_number():
    for number in range(60):
        assert training_scene(number) != benchmark_scene(number)
    textures = {training_scene(i).texture for i in range(600)}
    assert textures.isdisjoint(benchmark_scene(i).texture for i in range(600))


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="start at 0"):
        training_scene(-1)


@pytest.mark.parametrize("number", ALL_KINDS)
def test_a_scene_looks_the_same_at_every_resolution(number):
    scene = benchmark_scene(number)
    small, large = (render(scene, size).image.astype(float) for size in (64, 256))
    averaged = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(averaged - small).mean() < 6


@pytest.mark.parametrize("number", ALL_KINDS)
def test_parts_do_not_overlap_and_groups_are_their_union(number):
    scene = benchmark_scene(number)
    masks = render(scene, 128).masks
    leaves = [name for name in masks if name not in scene.groups]
    assert np.stack([masks[name] for name in leaves]).sum(0).max() == 1
    for group in scene.groups:
        inside = [masks[name] for name in leaves if name.startswith(group + "/")]
        np.testing.assert_array_equal(np.logical_or.reduce(inside), masks[group])


@pytest.mark.parametrize("number", [*ALL_KINDS, 6, 13, 20])
def test_handles_lie_in_the_part_and_targets_in_the_part_after_the_drag(number):
    scene, size = benchmark_scene(number), 192
    before = render(scene, size)
    for drag in drags(scene):
        after = render(drag.after, size).mask(drag.part)
        for handle, target in drag.pixels(size):
            assert before.mask(drag.part)[round(handle[1]), round(handle[0])], drag.kind
            assert after[round(target[1]), round(target[0])], drag.kind
            assert np.hypot(target[0] - handle[0], target[1] - handle[1]) > 0.02 * size


@pytest.mark.parametrize("number", ALL_KINDS)
def test_a_drag_changes_the_picture_only_near_its_part(number):
    scene = benchmark_scene(number)
    before = render(scene, 128)
    for drag in drags(scene):
        after = render(drag.after, 128)
        changed = np.abs(before.image.astype(int) - after.image).max(2) > 40
        touched = before.mask(drag.part) | after.mask(drag.part)
        assert changed.any()
        assert (changed & touched).sum() > 0.35 * changed.sum(), drag.kind


def test_a_moved_part_moves_as_far_as_its_handle():
    scene = benchmark_scene(KINDS.index(type(benchmark_scene(0))))
    drag = next(d for d in drags(scene) if (d.kind, d.part) == ("move", "sun"))
    places = [np.argwhere(render(s, 256).masks["sun"]).mean(0)[::-1] for s in (scene, drag.after)]
    ((handle, target),) = drag.pixels(256)
    np.testing.assert_allclose(places[1] - places[0], np.subtract(target, handle), atol=0.5)


def test_a_moved_part_takes_its_texture_along():
    scene = next(s for s in map(benchmark_scene, range(12)) if type(s).__name__ == "StillLife")
    drag = next(d for d in drags(scene) if d.kind == "move" and d.part == "fruit")
    ((handle, target),) = drag.pixels(256)
    patches = []
    for picture, (x, y) in ((render(scene), handle), (render(drag.after), target)):
        row, column = round(y), round(x)
        patches.append(picture.image[row - 6 : row + 7, column - 6 : column + 7].astype(float))
    assert np.abs(patches[0] - patches[1]).mean() < 6


def test_every_kind_of_drag_occurs():
    seen = {drag.kind for number in ALL_KINDS for drag in drags(benchmark_scene(number))}
    assert seen == set(DRAG_KINDS)


def test_the_demo_has_six_edits_two_on_each_of_three_scenes_with_one_prompt():
    edits = demo_edits()
    assert [drag.kind for *_, drag in edits] == [
        "move",
        "stretch",
        "resize",
        "points",
        "long",
        "off-centre",
    ]
    assert len({name for name, *_ in edits}) == 6
    pairs = [edits[i : i + 2] for i in (0, 2, 4)]
    assert all(a[1] == b[1] and a[2] == b[2] for a, b in pairs)
    assert len({caption for _, _, caption, _ in edits}) == 3


def test_captions_are_true_of_the_mirror_image():
    captions = {training_scene(number).caption() for number in range(600)}
    assert not {"left", "right"} & {word for text in captions for word in text.split()}
