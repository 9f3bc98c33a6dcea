"""Scenes: the same from the same seed, and drags whose truth is true."""

import warnings
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from adaptivedrag.scenes import (
    DRAG_KINDS,
    KINDS,
    ablation_drags,
    benchmark_drags,
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


@pytest.mark.parametrize("number", [*ALL_KINDS, 7, 13, 15, 20])
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
    scene = next(s for s in map(benchmark_scene, ALL_KINDS) if type(s).__name__ == "StillLife")
    drag = next(d for d in drags(scene) if d.kind == "move" and d.part == "fruit")
    ((handle, target),) = drag.pixels(256)
    patches = []
    for picture, (x, y) in ((render(scene), handle), (render(drag.after), target)):
        row, column = round(y), round(x)
        patches.append(picture.image[row - 6 : row + 7, column - 6 : column + 7].astype(float))
    assert np.abs(patches[0] - patches[1]).mean() < 6


def test_every_kind_of_drag_occurs_on_at_least_two_kinds_of_scene():
    seen = {
        (drag.kind, drag.before.kind)
        for number in ALL_KINDS
        for drag in drags(benchmark_scene(number))
    }
    spread = Counter(kind for kind, _ in seen)
    assert set(spread) == set(DRAG_KINDS)
    assert min(spread.values()) >= 2


ALL_DRAGS = [
    pytest.param(drag, id=f"{drag.before.kind}-{drag.kind}-{drag.part}")
    for number in ALL_KINDS
    for drag in benchmark_scene(number).candidates()
]


@pytest.mark.parametrize("drag", ALL_DRAGS)
def test_a_drag_begins_at_its_handles_and_ends_at_its_targets_exactly(drag):
    assert drag.scene_at(0) == drag.before
    assert drag.scene_at(1) == drag.after
    assert drag.handles_at(0) == tuple(handle for handle, _ in drag.pairs)
    assert drag.handles_at(1) == tuple(target for _, target in drag.pairs)


@pytest.mark.parametrize("drag", ALL_DRAGS)
def test_handles_go_steadily_away_from_their_start_and_towards_their_target(drag):
    way = np.array([drag.handles_at(share) for share in np.linspace(-0.25, 1.25, 13)])
    start, end = np.array(drag.pairs).transpose(1, 0, 2)
    along = ((way - start) * (end - start)).sum(-1)
    assert all(np.all(b > a) for a, b in pairwise(along))


@pytest.mark.parametrize("drag", ALL_DRAGS)
def test_scenes_short_of_and_beyond_a_drag_can_be_rendered(drag):
    ends = [render(drag.scene_at(share), 48).image.astype(int) for share in (0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outside = [render(drag.scene_at(share), 48).image.astype(int) for share in (-0.25, 1.25)]
    for end, picture in zip(ends, outside, strict=True):
        assert 0 < np.abs(picture - end).mean() < 40


@pytest.mark.parametrize(
    ("name", "value"), [("texture", 5), ("cloth", "blue"), ("sleeve_lengths", (0.2,))]
)
def test_a_drag_between_values_with_nothing_between_them_is_refused(name, value):
    scene = next(s for s in map(benchmark_scene, ALL_KINDS) if s.kind == "clothing")
    assert name in {parameter.name for parameter in fields(scene)}
    drag = replace(next(scene.candidates()), after=replace(scene, **{name: value}))
    with pytest.raises(TypeError, match=name):
        drag.scene_at(0.5)


@pytest.fixture(scope="module")
def benchmark_kinds():
    """The kind of every drag of the benchmark's scenes."""
    listed = {number: drags(benchmark_scene(number)) for number in range(25)}
    return {(n, i): drag.kind for n, found in listed.items() for i, drag in enumerate(found)}


def test_the_benchmark_is_a_hundred_drags_even_over_kinds_and_scenes(benchmark_kinds):
    edits = benchmark_drags()
    kinds = Counter(benchmark_kinds[edit] for edit in edits)
    scenes = Counter(number for number, _ in edits)
    assert len(set(edits)) == 100
    assert set(kinds) == set(DRAG_KINDS)
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert set(scenes) == set(range(25))
    assert max(scenes.values()) - min(scenes.values()) <= 1


def test_benchmark_drags_are_neither_too_short_to_measure_nor_long_unless_they_say_so():
    for number, index in benchmark_drags(7, 30):
        drag = drags(benchmark_scene(number))[index]
        for handle, target in drag.pairs:
            way = np.hypot(*np.subtract(target, handle))
            assert way >= 1 / 32
            assert way <= 1 / 4 or drag.kind == "long"


def test_the_ablation_is_forty_of_the_benchmark_even_over_kinds_and_scenes(benchmark_kinds):
    edits = ablation_drags()
    kinds = Counter(benchmark_kinds[edit] for edit in edits)
    scenes = Counter(number for number, _ in edits)
    assert len(set(edits)) == 40
    assert set(edits) < set(benchmark_drags())
    assert set(kinds) == set(DRAG_KINDS)
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert set(scenes) == set(range(25))
    assert max(scenes.values()) - min(scenes.values()) <= 1


def test_more_benchmark_drags_than_the_scenes_have_are_refused():
    with pytest.raises(ValueError, match="30 drags are wanted"):
        benchmark_drags(1, 30)


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
