"""The pages in `docs/results` hold what the CSVs beside them say."""

import shutil
from pathlib import Path

import pytest
from results_page import SHORT_ROWS, pages, read_rows, short_table

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_the_pages_of_tables_are_what_the_csvs_say():
    found = dict(pages(RESULTS))
    assert found == {path.stem: path.read_text("utf-8") for path in RESULTS.glob("*.md")}


@pytest.mark.parametrize(("folder", "edits"), [("hundred", 100), ("ablation", 40)])
def test_rows_of_a_dataset_are_of_the_same_edits_and_nothing_is_missing(folder, edits):
    rows = read_rows(RESULTS / folder)
    assert {len(row.scored) for row in rows} == {edits}
    assert len({tuple(sorted(edit.id for edit in row.scored)) for row in rows}) == 1
    assert rows[0].name == "dragdiffusion-80"
    assert not any(row.missing for row in rows)


def test_a_csv_that_belongs_to_no_row_is_refused_by_name(tmp_path):
    shutil.copy(RESULTS / "hundred" / "plus.csv", tmp_path / "plus-old.csv")
    with pytest.raises(ValueError, match=r"no rows of these names: plus-old"):
        read_rows(tmp_path)


def test_the_short_table_has_the_means_of_the_full_one():
    rows = read_rows(RESULTS / "hundred")
    table = "\n".join(short_table(rows))
    assert f"\n\n{table}\n\n" in (RESULTS.parent / "results.md").read_text("utf-8")
    short, full = (_table(f"\n{page}") for page in (table, dict(pages(RESULTS))["hundred"]))
    assert list(short) == [name for name in SHORT_ROWS if name in full]
    for row, cells in short.items():
        for column, value in cells.items():
            assert full[row][column].split()[0] == value, (row, column)


def _table(page: str) -> dict[str, dict[str, str]]:
    """Return the first table of a page: row name → column → cell."""
    first = page[page.index("\n| row |") :].strip().partition("\n\n")[0]
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()
    )
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
