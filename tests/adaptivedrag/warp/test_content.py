"""Content under the handles: which segment it is, and how drags move it."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.superpixels import Superpixels
from adaptivedrag.warp.content import Content, content_mask, find_contents
from adaptivedrag.warp.motion import carried, folds, sources

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
    """Where a point of content goes, exactly where the motion is affine."""
    wanted = np.array(FRAME.to_feature(ImagePoint(*point)))
    away = np.linalg.norm(content.came_from - wanted, axis=-1)
    away[~content.arrival] = np.inf
    row, col = (int(side) for side in np.unravel_index(away.argmin(), away.shape))
    slopes = np.stack([each[row, col] for each in np.gradient(content.came_from, axis=(0, 1))])
    way = np.linalg.solve(slopes.T, wanted - content.came_from[row, col])
    place = np.add([row, col], way)
    return FRAME.to_image(tuple(place))


def slopes(content):
    """How the sources of what came from the content's middle change along rows and columns."""
    row, col = (int(side.mean()) for side in np.nonzero(content.arrival))
    return np.stack([each[row, col] for each in np.gradient(content.came_from, axis=(0, 1))])


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


def test_the_mirror_image_in_the_padding_is_no_content():
    """A post that stands on the lower border of an image of 200 rows, which is padded to 256."""
    frame = Frame.of_image(200, 256, factor=8, working_size=768)
    post = np.zeros(frame.feature_size, bool)
    post[60:128, 40:60] = True
    (content,) = find_contents(post[None], HALVES, [drag((99.5, 122), (99.5, 102))], frame)
    assert content.region.shape == frame.image_cells
    assert content.motion == "stretched"
    assert content.came_from[99, 50] == pytest.approx((99, 50), abs=0.2)  # its foot
    assert content.warnings == ()


def test_a_drag_inwards_that_would_leave_too_little_carries_content():
    (content,) = found([BOX], drag((99.5, 82), (99.5, 115)))
    assert content.motion == "stretched"
    (content,) = found([BOX], drag((99.5, 82), (99.5, 140)))
    assert content.motion == "carried"


def test_how_far_across_a_drag_goes_decides_between_stretching_and_turning():
    """At a cosine of `ALONG` to the line from the centroid."""
    for degrees, turns in ((45, False), (60, True), (120, True), (135, False)):
        way = 20 * np.array([np.sin(np.deg2rad(degrees)), -np.cos(np.deg2rad(degrees))])
        (content,) = found([BOX], drag((99.5, 82), np.array([99.5, 82]) + way))
        assert (not np.allclose(slopes(content), slopes(content).T)) == turns


def test_a_handle_at_an_end_turns_content_about_its_other_end():
    (content,) = found([BOX], drag((99.5, 82), (130, 90)))
    assert moved(content, (99.5, 82)) == pytest.approx((130, 90))
    assert moved(content, (99.5, 155.5)) == pytest.approx((99.5, 155.5), abs=2.5)
    assert abs(np.linalg.det(slopes(content))) == pytest.approx(1, abs=0.1)


def test_two_handles_on_one_content_both_arrive():
    first, second = drag((90, 120), (80, 130)), drag((110, 120), (130, 130))
    (content,) = found([BOX], first, second)
    for each in (first, second):
        assert moved(content, each.handle) == pytest.approx(tuple(each.target))


def test_three_handles_all_arrive():
    pairs = [((90, 90), (100, 95)), ((110, 90), (130, 99)), ((90, 150), (88, 160))]
    (content,) = found([BOX], *(drag(*pair) for pair in pairs))
    for handle, target in pairs:
        assert moved(content, handle) == pytest.approx(target, abs=0.2)
    assert content.warnings == ()


POINT = st.tuples(st.floats(82, 118), st.floats(82, 158))


@settings(max_examples=40, deadline=None)
@given(st.lists(POINT, min_size=3, max_size=5, unique=True), st.data())
def test_many_handles_never_fold_or_lose_content(handles, data):
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
        assert content.arrival.any()
        assert content.motion == "fitted" or not folds(content.came_from, content.region)


def test_handles_on_two_contents_move_each_by_itself():
    other = box(180, 80, 220, 120)
    contents = found([BOX, other], drag((99, 121), (109, 121)), drag((99, 199), (89, 199)))
    grid = np.moveaxis(np.indices(FRAME.feature_size), 0, -1)
    shifts = {tuple((grid - content.came_from)[0, 0]) for content in contents}
    assert shifts == {(0.0, 5.0), (0.0, -5.0)}


def test_content_is_the_smallest_segment_that_is_no_pattern_on_another():
    carries = drag((99, 121), (109, 121))
    part, group = box(100, 90, 150, 110), box(40, 40, 200, 200)
    (content,) = found([part, BOX, group], carries)
    assert np.array_equal(content.region, part)  # BOX is more than three times as large
    pattern = box(90, 86, 150, 114)
    (content,) = found([pattern, BOX, group], carries)
    assert np.array_equal(content.region, BOX)  # twice as large, and surrounds it
    end = box(110, 80, 160, 120) & ~box(150, 80, 160, 100)
    (content,) = found([end, BOX, group], carries)
    assert np.array_equal(content.region, end)  # most of its border is BOX's own


def test_what_lies_along_the_border_is_background():
    table = box(160, 0, 256, 256)
    (content,) = found([table], drag((99, 201), (109, 201)))
    assert np.array_equal(content.region, HALVES.labels == 1)
    (content,) = found([box(160, 80, 256, 120)], drag((99, 201), (109, 201)))
    assert content.region.sum() == box(160, 80, 256, 120).sum()


def test_segments_that_are_alike_vote_on_the_cells_of_content():
    dented, wider = BOX & ~box(80, 90, 100, 110), box(80, 80, 164, 120)
    (content,) = found([dented, BOX, wider], drag((99, 141), (109, 141)))
    assert np.array_equal(content.region, BOX)


SHIRT, SLEEVE = box(80, 80, 180, 160), box(90, 160, 110, 220)


@pytest.mark.parametrize("target", [(209, 119), (229, 99), (189, 99)])
def test_a_part_that_sticks_out_is_content_attached_to_the_rest(target):
    pulled = drag((209, 99), target)
    (content,) = found([SHIRT | SLEEVE], pulled)
    assert (content.region & SLEEVE).sum() > 0.9 * SLEEVE.sum()
    assert (content.region & SHIRT).sum() < 0.02 * SHIRT.sum()
    assert moved(content, pulled.handle) == pytest.approx(target, abs=0.5)
    assert moved(content, (162, 99)) == pytest.approx((162, 99), abs=3)


def test_a_sleeve_that_bends_stays_where_it_is_attached():
    (content,) = found([SHIRT | SLEEVE], drag((209, 99), (207, 113)))
    assert content.motion == "bent"
    for seam in ((161, 93), (161, 99), (161, 107)):
        assert moved(content, seam) == pytest.approx(seam, abs=1)


def test_a_lobe_behind_a_neck_is_content_by_itself():
    other, neck, lobe = box(80, 20, 130, 80), box(100, 80, 110, 110), box(80, 110, 130, 160)
    (content,) = found([other | neck | lobe], drag((135, 105), (155, 105)))
    assert (content.region & lobe).sum() > 0.95 * lobe.sum()
    assert not (content.region & other).any()
    assert content.motion == "carried"
    wide = box(88, 80, 122, 110)
    (content,) = found([other | wide | lobe], drag((135, 105), (155, 105)))
    assert np.array_equal(content.region, other | wide | lobe)


def test_a_long_lobe_turns_about_its_neck():
    other, neck, leaf = box(80, 20, 130, 80), box(100, 80, 106, 110), box(90, 110, 116, 190)
    (content,) = found([other | neck | leaf], drag((165, 103), (160, 120)))
    assert moved(content, (165, 103)) == pytest.approx((160, 120), abs=0.5)
    assert moved(content, (113, 103)) == pytest.approx((113, 103), abs=5)


def test_two_sleeves_are_two_contents():
    other = box(90, 20, 110, 80)
    pulled = drag((209, 99), (209, 119)), drag((31, 99), (31, 79))
    contents = found([SHIRT | SLEEVE | other], *pulled)
    assert [content.region.sum() < 0.2 * SHIRT.sum() for content in contents] == [True, True]


def test_handles_that_go_the_same_way_move_what_holds_both():
    upper, lower = box(80, 80, 120, 120), box(120, 80, 160, 120)
    handles = (99, 99), (99, 139)
    same = [drag(handle, (handle[0] + 20, handle[1])) for handle in handles]
    (content,) = found([upper, lower, BOX], *same)
    assert np.array_equal(content.region, BOX)
    assert len(found([upper, lower], *same)) == 2
    pieces = BOX & ~box(118, 80, 122, 120)
    assert len(found([upper, lower, pieces], *same)) == 2
    apart = same[0], drag(handles[1], (79, 139))
    assert len(found([upper, lower, BOX], *apart)) == 2


def test_a_drag_outwards_at_the_rim_of_a_disc_grows_it():
    rows, cols = np.indices(FRAME.feature_size)
    disc = np.hypot(rows - 60, cols - 60) <= 20
    (content,) = found([disc], drag((120.5, 156.5), (120.5, 174.5)))
    assert content.motion == "grown"
    assert moved(content, (120.5, 156.5)) == pytest.approx((120.5, 174.5))
    assert moved(content, (84.5, 120.5)) == pytest.approx((66.5, 120.5))
    (content,) = found([BOX], drag((99.5, 82), (99.5, 60)))
    assert content.motion == "stretched"


@pytest.mark.parametrize(
    ("segments", "drags", "words"),
    [
        ([BOX], [drag((99, 121), (109, 121))], None),
        ([BOX], [drag((99, 121), (245, 121))], "content of drag 1: 2.% of it leaves the image"),
        (
            [BOX],
            [drag((99, 90), (99, 10)), drag((99, 100), (99, 240))],
            "content of drags 1 and 2: it cannot follow its drags all the way: .* pixels are left",
        ),
        (
            [BOX],
            [drag((90, 90), (110, 90)), drag((110, 90), (90, 90)), drag((100, 150), (100, 150.5))],
            "content of drags 1 and 2 and 3: it would fold over itself",
        ),
    ],
)
def test_what_is_odd_about_content_is_said(segments, drags, words):
    warnings = [line for content in found(segments, *drags) for line in content.warnings]
    if words is None:
        assert warnings == []
    else:
        assert any(re.search(words, line) for line in warnings), warnings


def test_content_that_is_nearly_everything_is_named():
    whole = Superpixels(np.zeros(FRAME.feature_size, np.int32))
    no_segments = np.zeros((0, *FRAME.feature_size), bool)
    (content,) = find_contents(no_segments, whole, [drag((99, 121), (109, 121))], FRAME)
    assert "it is 100% of the image" in content.warnings[0]


def test_segments_that_are_outvoted_at_the_handle_still_make_content():
    around = [BOX & ~box(116, 96, 126, 106), BOX & ~box(114, 94, 128, 108)]
    (content,) = found([*around, box(100, 84, 160, 120)], drag((99, 121), (109, 121)))
    assert content.region.sum() > 0.5 * BOX.sum()


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


def test_a_region_that_leaves_the_grid_loses_what_is_outside():
    content = Content(BOX, sources(carried(np.array([-60.0, 0.0])), BOX.shape))
    assert 0 < content.arrival.sum() < BOX.sum()
