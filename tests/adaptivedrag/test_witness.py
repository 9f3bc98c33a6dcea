"""The independent witness: it finds handles in finished pictures, and says so where they are gone.

On one drag of a training scene, with the pocket model.
"""

import math
from functools import cache

import numpy as np
import pytest

from adaptivedrag.config import LocateHandlesConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.metrics import render_without
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.scenes import drags, render, training_scene
from adaptivedrag.witness import WitnessResult, compare, locate_handles, seen_by_witness

SIZE = 128
SCENE = training_scene(1)
SCENE_DRAG = next(drag for drag in drags(SCENE) if drag.kind == "move")
(DRAG,) = (
    Drag(ImagePoint(*handle), ImagePoint(*target)) for handle, target in SCENE_DRAG.pixels(SIZE)
)
LENGTH = math.dist(*DRAG)
SETTINGS = LocateHandlesConfig()


@cache
def pocket() -> DiffusionModel:
    return DiffusionModel.load(find_diffusion("pocket"))


def picture(share: float) -> np.ndarray:
    return render(SCENE_DRAG.scene_at(share), SIZE).image


@cache
def seen(share: float | None, settings: LocateHandlesConfig = SETTINGS) -> np.ndarray:
    """The features of the scene at a share of the drag, or without the dragged part."""
    absent = share is None
    image = render_without(SCENE, SCENE_DRAG.part, SIZE) if absent else picture(share)
    return seen_by_witness(pocket(), image, SCENE.caption(), settings)


def told(share: float | None, drag: Drag = DRAG) -> WitnessResult:
    return compare(seen(0.0), seen(share), [drag], pocket().frame(SIZE, SIZE))


def test_a_picture_compared_with_itself_has_its_handles_where_they_are():
    (point,) = told(0.0).points
    assert point.end == pytest.approx(DRAG.handle)
    assert (point.verdict, point.distance) == ("stalled", pytest.approx(LENGTH))


def test_in_the_true_result_the_handle_has_reached_its_target():
    assert told(1.0).verdict == "reached"
    assert told(1.0).points[0].distance < 2


def test_half_way_is_between_and_not_reached():
    (point,) = told(0.5).points
    assert point.verdict == "stalled"
    assert 0.3 < point.distance / LENGTH < 0.7


def test_a_part_that_is_erased_is_lost_and_counts_as_unmoved():
    (point,) = told(None).points
    assert (point.verdict, point.end, point.distance) == ("lost", DRAG.handle, LENGTH)


def test_a_drag_without_length_is_no_drag():
    assert told(1.0, Drag(DRAG.handle, DRAG.handle)).verdict == "no-op"


def test_a_short_drag_that_moved_nothing_has_not_reached_its_target():
    """Though its target is near enough."""
    x, y = DRAG.handle
    (point,) = told(0.0, Drag(DRAG.handle, ImagePoint(x + 6, y))).points
    assert (point.verdict, point.distance) == ("stalled", pytest.approx(6))


@pytest.mark.parametrize("other", [{"timestep": 600}, {"draws": 1}], ids=str)
def test_each_setting_changes_what_the_witness_sees(other):
    assert not np.array_equal(seen(0.0), seen(0.0, SETTINGS.model_copy(update=other)))


def test_a_witness_whose_features_are_not_finite_says_so():
    model = pocket()
    weight = model.unet.conv_in.weight
    kept = weight[0, 0, 0, 0].item()
    weight[0, 0, 0, 0] = math.nan
    frame, image = model.frame(64, 64), np.zeros((64, 64, 3), np.uint8)
    try:
        with pytest.raises(NotFinite, match="the witness's features are not finite"):
            locate_handles(model, image, image, "", [DRAG], frame, SETTINGS)
    finally:
        weight[0, 0, 0, 0] = kept
