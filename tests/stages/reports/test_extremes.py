"""The picture of a row's best, middle and worst results."""

import numpy as np
import pytest
from PIL import Image

from stages.jobs.importers import import_dragscenes
from stages.jobs.reader import load_job
from stages.reports.extremes import extremes, write_extremes
from stages.reports.score_tables import Row, ScoredEdit


def row(measure, values):
    scored = (
        ScoredEdit(str(number), f"image-{number}", "move", 1, {measure: [value]})
        for number, value in enumerate(values)
    )
    return Row("mine", tuple(scored), ())


@pytest.mark.parametrize(
    ("values", "best", "middle", "worst"),
    [
        ([1.0, 5.0, 3.0, None, 2.0, 4.0, 0.0, 6.0], "71", "52", "06"),
        ([1.0, 2.0, 3.0], "21", "", "0"),
        ([1.0], "0", "", ""),
    ],
)
def test_results_are_ranked_by_what_was_measured(values, best, middle, worst):
    measure, found = extremes(row("arrival_recovery", values))
    assert measure == "arrival_recovery"
    ids = {place: "".join(each.id for each in members) for place, members in found.items()}
    assert ids == {"best": best, "middle": middle, "worst": worst}


def test_without_a_truth_preservation_ranks_and_without_that_nothing():
    assert extremes(row("preservation", [30.0, 20.0]))[0] == "preservation"
    assert extremes(row("dai_1", [30.0, 20.0])) == ("", {})


def test_the_picture_shows_the_truth_beside_the_result(tmp_path):
    import_dragscenes(tmp_path, [(0, 0)], size=96)
    (edit,) = load_job(tmp_path / "job.toml").edits
    result = np.full((96, 96, 3), (255, 0, 0), np.uint8)
    ranked = Row("mine", (ScoredEdit(edit.id, "i", "move", 1, {"preservation": [20.0]}),), ())
    path = write_extremes(ranked, lambda _: (edit, result), tmp_path / "pictures" / "mine.png")
    pixels = np.asarray(Image.open(path))
    red = (pixels == (255, 0, 0)).all(axis=2)
    assert red.sum() == 192 * 192
    assert np.nonzero(red)[1].min() > 2 * 192  # after the image and the truth
    assert write_extremes(ranked, lambda _: (edit, None), tmp_path / "none.png") is None
