"""Content under the handles: which segment it is, and how drags move it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.superpixels import Superpixels
from adaptivedrag.warp.content import Content, content_mask, find_contents

FRAME = Frame.of_image(256, 256, factor=8, working_size=768)
SIDE = FRAME.feature_size[0]
HALVES = Superpixels(np.repeat(np.arange(2, dtype=np.int32), SIDE // 2)[:, None].repeat(SIDE, 1))


def box(top, left, bottom, right):
    """A rectangle of the feature grid, given in pixels of the image."""
    region = np.zeros(FRAME.feature_size, bool)
    region[top // 2 : bottom // 2, left // 2 : right // 2] = True
    return region


def drag(handle, target):
    return Drag(ImagePoint(*handle), ImagePoint(*target))


def found(segments, *drags):
    ordered = sorted(segments, key=lambda segment: -segment.sum())
    stacked = np.array(ordered, bool).reshape(-1, *FRAME.feature_size)
    return find_contents(stacked, HALVES, drags, FRAME)


def moved(content, point):
    """Where a point of the image goes."""
    place = content.motion @ np.array([*FRAME.to_feature(ImagePoint(*point)), 1])
    return FRAME.to_image(tuple(place))


BOX = box(80, 80, 160, 120)


def test_a_handle_inside_its_content_carries_it():
    (content,) = found([BOX], drag((99, 121), (139, 101)))
    assert np.array_equal(content.region, BOX)
    assert np.array_equal(content.arrival, box(60, 120, 140, 160))
    assert moved(content, (90, 90)) == pytest.approx((130, 70))


RANGE = box(80, 110, 160, 150) | box(130, 0, 160, 150)
"""With a peak at one side of it: its far end lies rather beside the peak than below."""


@pytest.mark.parametrize("rise", [40, -30])
def test_a_drag_along_content_stretches_it_and_leaves_its_far_side(rise):
    (content,) = found([RANGE], drag((129.5, 82), (129.5, 82 - rise)))
    assert moved(content, (129.5, 82)) == pytest.approx((129.5, 82 - rise))
    for foot in ((2, 158.5), (80, 158.5), (148, 158.5)):
        assert moved(content, foot) == pytest.approx(foot)
    across = moved(content, (115, 82))[0] - moved(content, (145, 82))[0]
    assert across == pytest.approx(-30)


def test_a_drag_inwards_leaves_no_less_than_a_quarter():
    (content,) = found([BOX], drag((99.5, 82), (99.5, 155)))
    assert moved(content, (99.5, 82))[1] == pytest.approx(158.5 - (158.5 - 82) / 4)


def test_how_far_across_a_drag_goes_decides_between_stretching_and_turning():
    """At a cosine of `ALONG` to the line from the centroid."""
    for degrees, turns in ((45, False), (60, True), (120, True), (135, False)):
        way = 20 * np.array([np.sin(np.deg2rad(degrees)), -np.cos(np.deg2rad(degrees))])
        (content,) = found([BOX], drag((99.5, 82), np.array([99.5, 82]) + way))
        linear = content.motion[:, :2]
        assert (not np.allclose(linear, linear.T)) == turns


def test_a_handle_at_an_end_turns_content_about_its_other_end():
    (content,) = found([BOX], drag((99.5, 82), (130, 90)))
    assert moved(content, (99.5, 82)) == pytest.approx((130, 90))
    assert moved(content, (99.5, 155.5)) == pytest.approx((99.5, 155.5), abs=2.5)
    assert abs(np.linalg.det(content.motion[:, :2])) == pytest.approx(1, abs=0.1)


def test_two_handles_on_one_content_both_arrive():
    first, second = drag((90, 120), (80, 130)), drag((110, 120), (130, 130))
    (content,) = found([BOX], first, second)
    for each in (first, second):
        assert moved(content, each.handle) == pytest.approx(tuple(each.target))


def test_three_handles_that_an_affine_map_fits_all_arrive():
    pairs = [((90, 90), (100, 95)), ((110, 90), (130, 99)), ((90, 150), (88, 160))]
    (content,) = found([BOX], *(drag(*pair) for pair in pairs))
    for handle, target in pairs:
        assert moved(content, handle) == pytest.approx(target, abs=1e-6)


POINT = st.tuples(st.floats(82, 118), st.floats(82, 158))


@settings(max_examples=60, deadline=None)
@given(st.lists(POINT, min_size=3, max_size=5, unique=True), st.data())
def test_many_handles_never_stretch_mirror_or_lose_content(handles, data):
    """Targets in one place, on a line, or mirrored: an affine map alone would follow them."""
    place = st.tuples(st.floats(90, 160), st.floats(90, 160))
    targets = data.draw(
        st.one_of(
            place.map(lambda one: [one] * len(handles)),
            st.lists(place, min_size=len(handles), max_size=len(handles)),
            st.just([(200 - x, y) for x, y in handles]),
        )
    )
    for content in found([BOX], *map(drag, handles, targets)):
        linear = content.motion[:, :2]
        stretches = np.linalg.svd(linear, compute_uv=False)
        assert 0.25 - 1e-9 <= stretches.min() <= stretches.max() <= 4 + 1e-9
        assert np.linalg.det(linear) > 0
        assert content.arrival.any()


def test_handles_on_two_contents_move_each_by_itself():
    other = box(180, 80, 220, 120)
    contents = found([BOX, other], drag((99, 121), (109, 121)), drag((99, 199), (89, 199)))
    shifts = {tuple(content.motion[:, 2]) for content in contents}
    assert shifts == {(0.0, 5.0), (0.0, -5.0)}


def test_of_several_segments_at_a_handle_the_middle_one_by_size_is_its_content():
    part, group = box(100, 90, 140, 110), box(60, 60, 200, 200)
    (content,) = found([BOX, part, group], drag((99, 121), (109, 121)))
    assert np.array_equal(content.region, BOX)
    (content,) = found([part, BOX], drag((99, 121), (109, 121)))
    assert np.array_equal(content.region, BOX)


def test_segments_that_are_alike_vote_on_the_cells_of_content():
    unlike = [box(120, 80, 160, 120), box(130, 80, 160, 120)]
    dented, wider = BOX & ~box(80, 90, 100, 110), box(80, 80, 164, 120)
    # The dented one is of middle size.
    (content,) = found([*unlike, dented, BOX, wider], drag((99, 141), (109, 141)))
    assert np.array_equal(content.region, BOX)


def test_content_has_no_holes_and_no_pieces_elsewhere():
    ring = BOX & ~box(100, 90, 120, 110)
    (content,) = found([ring | box(200, 200, 210, 210)], drag((84, 121), (94, 121)))
    assert np.array_equal(content.region, BOX)


def test_without_a_segment_of_at_most_half_the_image_a_superpixel_is_the_content():
    for segments in ([], [np.ones(FRAME.feature_size, bool)]):
        (content,) = found(segments, drag((99, 61), (109, 61)))
        assert np.array_equal(content.region, HALVES.labels == 0)


def test_a_drag_of_no_length_has_no_content():
    assert found([BOX], drag((99, 121), (99, 121))) == ()


def test_the_mask_holds_content_before_and_after_and_its_margin():
    contents = found([BOX], drag((99, 121), (139, 121)))
    bare, wide = (content_mask(contents, FRAME.feature_size, margin) for margin in (0, 3))
    assert np.array_equal(bare, box(80, 80, 160, 160))
    assert wide.sum() > bare.sum()
    assert wide[bare].all()


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(20, 235)] * 4), st.tuples(*[st.floats(20, 235)] * 4))
def test_the_way_back_undoes_the_motion(handles, targets):
    pairs = [drag(handles[i : i + 2], targets[i : i + 2]) for i in (0, 2)]
    for content in found([], *pairs):
        there = content.motion @ [10.0, 20.0, 1.0]
        assert content.back @ [*there, 1] == pytest.approx([10, 20], abs=1e-5)


def test_a_region_that_leaves_the_grid_loses_what_is_outside():
    content = Content(BOX, np.array([[1.0, 0, -60], [0, 1.0, 0]]))
    assert 0 < content.arrival.sum() < BOX.sum()
