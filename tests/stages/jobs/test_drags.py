"""Drags that cannot be meant as they are written."""

import pytest

from adaptivedrag.drag_notes import drag_notes
from adaptivedrag.points import Drag, ImagePoint, outside


def drags(*rows: tuple[float, float, float, float]) -> list[Drag]:
    return [Drag(ImagePoint(a, b), ImagePoint(c, d)) for a, b, c, d in rows]


NOTES = {
    # name: (drags, the one note)
    "fractions": ([(0.2, 0.3, 0.6, 0.3), (0, 1, 0.5, 0.5)], "like fractions"),
    "two targets": ([(9, 9, 20, 9), (9, 9, 9, 20)], "handle (9, 9) has 2 targets"),
    "twice the same": ([(9, 9, 20, 9), (9, 9, 20, 9)], "the drag from (9, 9) is there 2 times"),
    "no movement": ([(9.5, 9, 9.5, 9)], "the drag from (9.5, 9) does not move"),
}


@pytest.mark.parametrize(("rows", "said"), NOTES.values(), ids=NOTES)
def test_an_odd_drag_has_one_note(rows, said):
    (note,) = drag_notes(drags(*rows))
    assert said in note


@pytest.mark.parametrize("rows", [[(1, 1, 2, 1)], [(9, 9, 20, 9), (20, 9, 9, 9)]])
def test_a_usual_drag_has_none(rows):
    assert not [*drag_notes(drags(*rows))]


def test_swapped_coordinates_are_said_to_fit():
    where, said = outside(drags((5, 80, 30, 60)), 96, 64)
    assert where == "drags[0].handle"
    assert "fit if x and y are swapped" in said
    assert "swapped" not in outside(drags((5, 80, 30, 600)), 96, 64)[1]
