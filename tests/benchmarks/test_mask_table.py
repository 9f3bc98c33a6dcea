"""The tables of `docs/masks.md` in small: what they measure, and that the command makes them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_tables import MARKS, written
from mask_table import (
    PAPER,
    BorderScore,
    MaskScore,
    border_rows,
    mask_rows,
    score_borders,
    score_photographs,
)

from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.segmenter.kinds import load_segmenter
from adaptivedrag.superpixels import Superpixels

DATA = os.environ.get("ADAPTIVEDRAG_DATA", Path(__file__).parents[3] / "shared" / "data")
PHOTOGRAPHS = Path(DATA) / "dragbench-subset"


@pytest.fixture(scope="module")
def segmenter():
    torch.set_num_threads(1)
    return load_segmenter("pocket")


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"the photographs are not in {PHOTOGRAPHS}")
def test_masks_of_photographs_are_compared_with_those_that_people_drew(segmenter):
    scores = score_photographs(PHOTOGRAPHS, segmenter, every=40)
    assert {len(found) for found in scores.values()} == {1}
    assert all(score.overlap == 1 for score in scores["drawn by a person"])
    assert all((s.handles, s.targets, s.share) == (1, 1, 1) for s in scores["whole image"])
    for source in ("features", "segments", "rgb"):
        line, union = scores[f"superpixel_line, {source}"], scores[f"union, {source}"]
        assert all((score.handles, score.targets) == (1, 1) for score in line)
        assert all(a.share <= b.share for a, b in zip(line, union, strict=True))
    assert all(a.share <= b.share for a, b in zip(scores["segment"], scores["swept"], strict=True))
    assert len(mask_rows(scores)) == 2 + len(scores)


@pytest.mark.slow
def test_superpixels_of_features_and_of_colors_are_compared_at_like_counts(segmenter):
    scores = score_borders(segmenter, scenes=2)
    ours = scores["features", PAPER]
    for (source, _), found in scores.items():
        if source == "rgb":
            counts = [(a.count, b.count) for a, b in zip(ours, found, strict=True)]
            assert all(abs(a - b) <= 0.15 * a for a, b in counts)
    table = border_rows(scores)
    assert sum(row.startswith(("| features", "| rgb")) for row in table) == len(scores)
    assert sum(row.startswith("- `rgb`") for row in table) == 2


def test_scores_of_a_mask_are_counts_of_its_pixels():
    drawn, mask = np.zeros((2, 10, 10), bool)
    drawn[:, :5], mask[:5] = True, True
    drags = [
        Drag(ImagePoint(1, 1), ImagePoint(8, 2)),
        Drag(ImagePoint(9, 9), ImagePoint(0, 8)),
    ]
    assert MaskScore.of(mask, drawn, drags) == MaskScore(25 / 75, 0.5, 0.5, 0.5)


def test_borders_that_are_right_are_all_found_and_leak_nothing():
    parts = np.repeat(np.repeat(np.array([[0, 1], [2, 3]]), 40, 0), 40, 1)
    cells = np.repeat(np.repeat(np.arange(16).reshape(4, 4), 10, 0), 10, 1)
    exact = BorderScore.of(Superpixels(cells), parts)
    assert (exact.recall, exact.leak, exact.contour, exact.count) == (1, 0, 6 * 80, 16)


def test_a_superpixel_across_a_border_misses_it_and_leaks_its_smaller_side():
    parts = np.zeros((80, 80), int)
    parts[:, 30:] = 1
    one = BorderScore.of(Superpixels(np.zeros((40, 40), int)), parts)
    assert (one.recall, one.contour) == (0, 0)
    assert one.leak == 2 * 30 / 80  # the smaller side, seen from each of the two parts


def test_rows_replace_what_was_between_the_marks():
    document = f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n"
    once = written(document, ["new"])
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert written(once, ["new"]) == once
