"""Tables: means, comparisons, and what a missing result does to them."""

import csv
import io
import json

import pytest

from stages.reports.score_tables import (
    AGREEMENT,
    NO_REGION,
    Evaluation,
    MissingResult,
    Row,
    ScoredEdit,
    arrived,
    as_csv,
    as_json,
    as_markdown,
    compare,
    from_csv,
)


def scored(name: str, md: list[float], *, image: str = "", kind: str = "move") -> ScoredEdit:
    at_stake = 3_000_001 if md[0] < 10 else 0
    measures = {
        "matched_distance": md,
        "arrival_recovery": [0.5 if at_stake else None],
        "arrival_at_stake": [at_stake],
    }
    return ScoredEdit(name, image or f"image of {name}", kind, len(md), measures)


OURS = Row(
    "ours",
    (scored("a", [2.0, 4.0]), scored("b", [9.0], kind="long"), scored("c", [1.0])),
    (MissingResult("d", "not made", "run the job"),),
    seeds=(0,),
)
THEIRS = Row("theirs", (scored("a", [5.0, 8.0]), scored("b", [12.0]), scored("d", [7.0])), ())
BOTH = Evaluation("cats", (OURS, THEIRS), "ours", "DIFT features of X", ("IF needs weights",))


def test_a_mean_is_over_all_pairs_pooled_and_lies_in_its_interval():
    mean = OURS.means["matched_distance"]
    assert mean.mean == pytest.approx((2 + 4 + 9 + 1) / 4)
    assert (mean.pairs, mean.images) == (4, 3)
    assert mean.low < mean.mean < mean.high
    assert OURS.counts == {"images": 3, "edits": 3, "pairs": 4, "missing": 1}


def test_a_value_that_is_undefined_is_counted_and_in_no_mean():
    mean = THEIRS.means["arrival_recovery"]
    assert (mean.mean, mean.pairs, mean.missing) == (0.5, 2, 1)


def test_the_agreement_with_the_truth_is_told_row_by_row_and_over_all():
    def row(name: str, witness: list[float], tracker: list[float]) -> Row:
        true = [0.0, 10.0, 20.0]
        told = {"true": true, "witness": witness, "tracked": tracker}
        measures = {f"{by}_distance": found for by, found in told.items()}
        measures |= {f"{by}_arrived": arrived(found, 160) for by, found in told.items()}
        return Row(name, (ScoredEdit("a", "image", "move", 3, measures),), ())

    rows = (
        row("ours", [1.0, 11.0, 21.0], [0.0, 0.0, 0.0]),
        row("theirs", [20.0, 10.0, 0.0], [5.0] * 3),
    )
    page = as_markdown(Evaluation("cats", rows, "ours", "", ()))
    assert "| ours | 67% | 33% | 100% | 1.00 | – |" in page
    assert "| theirs | 67% | 67% | 100% | -1.00 | – |" in page
    assert "| all rows | – | – | – | 0.00 | 0.00 |" in page
    assert AGREEMENT not in as_markdown(BOTH)


def recovered(name: str, error: int, at_stake: int, *, kind: str = "move") -> ScoredEdit:
    sums = {"departure_error": [error], "departure_at_stake": [at_stake]}
    share = 1 - error / at_stake if at_stake else None
    return ScoredEdit(name, name, kind, 1, {"departure_recovery": [share], **sums})


def test_recoveries_are_pooled_so_that_an_edit_with_little_at_stake_counts_little():
    ours = Row(
        "ours",
        (
            recovered("a", 200, 1000),
            recovered("b", 90, 10),
            recovered("c", 5, 0),
            recovered("d", 100, 300, kind="long"),
        ),
        (),
    )
    theirs = Row("theirs", (recovered("a", 500, 1000), recovered("b", 50, 10)), ())
    pooled = ours.means["departure_recovery"]
    assert pooled.mean == pytest.approx(1 - 390 / 1310)
    assert (pooled.pairs, pooled.missing) == (3, 1)
    by_kind = {kind: found["departure_recovery"].mean for kind, found in ours.means_by_kind.items()}
    assert by_kind == pytest.approx({"move": 1 - 290 / 1010, "long": 1 - 100 / 300})
    difference = compare(ours, theirs).differences["departure_recovery"]
    assert difference.mean == pytest.approx((550 - 290) / 1010)
    assert (difference.low, difference.high) == pytest.approx((-4, 0.3))
    again = from_csv(as_csv(ours), "ours")
    assert again.means["departure_recovery"].mean == pytest.approx(pooled.mean, rel=1e-5)


def test_a_recovery_without_what_was_at_stake_is_in_no_table():
    bare = ScoredEdit("a", "a", "move", 1, {"arrival_recovery": [0.5]})
    assert not Row("ours", (bare,), ()).means
    assert not compare(Row("ours", (bare,), ()), THEIRS).differences


def test_kinds_of_drags_have_their_own_means():
    assert {
        kind: means["matched_distance"].pairs for kind, means in OURS.means_by_kind.items()
    } == {
        "long": 1,
        "move": 3,
    }


def test_rows_are_compared_over_the_pairs_that_both_have():
    compared = compare(OURS, THEIRS)
    assert compared.edits == 2
    difference = compared.differences["matched_distance"]
    assert difference.mean == pytest.approx(((2 - 5) + (4 - 8) + (9 - 12)) / 3)
    assert difference.high < 0
    assert compared.differences["arrival_recovery"].missing == 1


def test_an_evaluation_is_complete_unless_a_result_is_missing():
    assert not BOTH.complete
    control = Row("erase", (), (MissingResult("a", NO_REGION, "no mask"),), control=True)
    assert Evaluation("x", (THEIRS, control), "theirs", "", ()).complete


def test_a_point_has_arrived_within_a_sixteenth_of_the_shorter_side():
    assert arrived([0.0, 4.0, 4.1, None], 64) == [1, 1, 0, None]


def test_the_csv_has_a_line_for_every_edit_also_where_it_is_missing():
    lines = list(csv.DictReader(io.StringIO(as_csv(OURS))))
    assert [line["edit"] for line in lines] == ["a", "b", "c", "d"]
    assert [line["matched_distance"] for line in lines] == ["3", "9", "1", ""]
    assert lines[0]["pairs"] == "2"
    assert lines[0]["arrival_at_stake"] == "3000001"
    assert (lines[3]["status"], lines[3]["reason"]) == ("not made", "run the job")


def test_a_row_read_from_its_csv_has_the_same_means():
    again = from_csv(as_csv(OURS), "ours")
    assert again.counts == OURS.counts
    assert again.missing == OURS.missing
    for metric, interval in OURS.means.items():
        read = again.means[metric]
        assert (read.mean, read.pairs, read.missing) == (
            pytest.approx(interval.mean),
            interval.pairs,
            interval.missing,
        )
    undefined = from_csv(as_csv(THEIRS), "theirs").means["arrival_recovery"]
    assert (undefined.mean, undefined.pairs, undefined.missing) == (0.5, 2, 1)


def test_the_json_has_every_value_and_every_interval():
    document = json.loads(as_json(BOTH))
    ours, theirs = document["rows"]
    assert ours["edits"][0]["measures"]["matched_distance"] == [2, 4]
    assert theirs["means"]["matched_distance"].keys() >= {"mean", "low", "high", "pairs", "images"}
    assert document["comparisons"][0]["second"] == "theirs"
    assert document["protocols"]["matched_distance"].startswith("DIFT features of X")
    assert document["unavailable"] == ["IF needs weights"]


def test_the_page_shows_means_comparison_missing_results_and_protocols():
    page = as_markdown(BOTH)
    assert "| ours | 3 | 3 | 4 | 1 | 0 |" in page
    assert "4.0 [" in page
    assert "| theirs | 2 | " in page
    assert "**-3.3 [" in page
    assert "- ours: d: not made: run the job" in page
    assert "DIFT features of X; match over the whole image" in page
    assert "- IF needs weights" in page
