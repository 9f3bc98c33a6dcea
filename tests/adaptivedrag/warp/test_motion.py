"""Motions as maps from where things are found to where they came from."""

import numpy as np
import pytest

from adaptivedrag.warp.motion import (
    carried,
    field,
    folds,
    grown,
    looked_up,
    moved,
    nearest_affine,
    sources,
    swung,
)

SHAPE = 24, 32


def points(*pairs):
    return np.array(pairs, float)


@pytest.mark.parametrize(
    "motion",
    [
        carried(np.array([3.5, -2.0])),
        swung(points((2, 2), (10, 4)), points((3, 2), (6, 9))),
        grown(*points((8, 8), (12, 8), (14, 9))),
        nearest_affine(points((2, 2), (9, 3), (4, 8)), points((3, 1), (12, 4), (4, 9))),
    ],
)
def test_sources_undo_an_affine_motion(motion):
    places = np.argwhere(np.ones(SHAPE)).astype(float)
    assert moved(motion, sources(motion, SHAPE).reshape(-1, 2)) == pytest.approx(places)


def test_a_field_brings_every_handle_to_its_target():
    handles = points((4, 4), (18, 5), (10, 25))
    targets = points((6, 5), (17, 9), (11, 22))
    came_from = field(handles, targets, SHAPE)
    for handle, target in zip(handles, targets, strict=True):
        assert came_from[tuple(target.astype(int))] == pytest.approx(handle, abs=1e-4)


def test_a_field_of_a_similarity_is_that_similarity():
    motion = grown(*points((8, 8), (12, 8), (14, 9)))
    handles = points((4, 4), (18, 5), (10, 25))
    assert field(handles, moved(motion, handles), SHAPE) == pytest.approx(sources(motion, SHAPE))


def test_a_field_that_turns_something_over_folds():
    everything = np.ones(SHAPE, bool)
    handles = points((4, 4), (4, 20), (20, 12))
    assert not folds(field(handles, handles + 1, SHAPE), everything)
    crossed = points((4, 20), (4, 4), (20, 12))
    assert folds(field(handles, crossed, SHAPE), everything)
    together = points((10, 10), (10, 11), (10.5, 10))
    assert folds(field(handles, together, SHAPE), everything)


def test_nothing_comes_from_outside_the_grid():
    region = np.ones(SHAPE, bool)
    found = looked_up(region, sources(carried(np.array([0.0, 10.0])), SHAPE))
    assert np.array_equal(found, np.arange(SHAPE[1])[None] >= np.full((SHAPE[0], 1), 10))
