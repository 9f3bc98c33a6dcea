"""Verdicts that help: distances by the witness, what is unusual, and what to do."""

import pytest

from stages.reports.verdicts import figures, sentence, with_outliers


def point(verdict: str, distance: float, length: float = 40.0) -> dict:
    places = {"handle": [10.0, 20.0], "target": [10.0, 20.0 + length]}
    return {"verdict": verdict, "distance": distance, **places}


def row(*points: dict, verdict: str | None = None, **changed) -> dict:
    verdict = verdict or (points[0]["verdict"] if points else None)
    said = {"status": "done", "verdict": verdict, "points": points, **figures(points)}
    return {**said, "outside": 0.5, "mask_share": 0.2, "seconds": 20.0, **changed}


def judged(*rows: dict) -> list[dict]:
    return [*with_outliers(rows)]


@pytest.mark.parametrize(
    ("points", "distance", "relative"),
    [
        ([], None, None),
        ([point("reached", 4)], 4, 0.1),
        ([point("reached", 4), point("stalled", 20)], 12, 0.3),
        ([point("no-op", 0.5, 0.5)], 0.5, None),
        ([point("reached", 4), point("no-op", 0.5, 0.5)], 2.25, 0.1),
    ],
)
def test_distances_are_relative_to_the_drag(points, distance, relative):
    assert figures(points) == {"distance": distance, "relative": relative}


ARRIVED = point("reached", 4)
OF_ONE = (
    "4.0 px from its target, 10% of the drag's length: it arrived. Outside the mask, which is 20%"
)
OF_SEVERAL = (
    "1 of 2 handles at their targets; 12.0 px are left on average, 30% of the drag's length"
)
UNSEEN = "No witness has seen where the handles are: not made."
NOT_FINITE = "train_lora: NotFinite: x"


@pytest.mark.parametrize(
    ("found", "advice", "said"),
    [
        (row(ARRIVED), "keep", OF_ONE),
        (row(ARRIVED, outside=None), "keep", "it arrived."),
        (row(point("stalled", 12)), "look", "30% of the drag's length: it did not arrive."),
        (row(point("stalled", 36)), "drop", "90% of the drag's length"),
        (row(point("lost", 40)), "drop", "nothing like the handle"),
        (row(point("no-op", 0.5, 0.5)), "look", "nothing to do"),
        (row(ARRIVED, point("stalled", 20), verdict="partial"), "look", OF_SEVERAL),
        (row(not_witnessed="not made"), "look", UNSEEN),
        (row(status="failed", reason=NOT_FINITE), "again", NOT_FINITE),
        (row(status="bad", reason="drags is empty"), "fix", "drags is empty"),
        (row(status="unfinished"), "wait", "Not done yet."),
        (row(status="unfinished", earlier=True), "wait", "made with earlier settings"),
    ],
)
def test_each_verdict_is_explained_and_says_what_to_do(found, advice, said):
    (shown,) = judged(found)
    assert shown["advice"] == advice
    assert said in shown["sentence"] == sentence(found)
    assert shown["outliers"] == []


def test_what_is_unusual_beside_the_others_is_flagged_and_to_be_looked_at():
    usual = [row(ARRIVED, outside=0.5 + n / 20, seconds=20 + n) for n in range(10)]
    odd = row(ARRIVED, outside=14.2, mask_share=0.9, seconds=400.0)
    *others, found = judged(*usual, odd)
    assert found["outliers"] == [
        "14.2 levels of change outside the mask; 0.8 are usual",
        "the mask is 90% of the picture; 20% are usual",
        "400 s of work; 25 s are usual",
    ]
    assert found["advice"] == "look"
    assert {each["advice"] for each in others} == {"keep"}


def test_a_few_edits_or_equal_ones_make_nothing_unusual():
    for others, outside in ((5, 99.0), (20, 0.9)):
        found = [*[row(ARRIVED, outside=0.0)] * others, row(ARRIVED, outside=outside)]
        assert not any(each["outliers"] for each in judged(*found))
