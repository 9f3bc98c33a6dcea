"""The tables of the documents are those of the CSVs beside them, and a command makes them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from results_page import read_rows

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_tables_of_results_and_modules_are_what_the_csvs_say(tmp_path):
    pages = ("results.md", "fidelity.md")
    for page in pages:
        shutil.copy(DOCS / page, tmp_path)
    shutil.copytree(DOCS / "results", tmp_path / "results")
    script = ROOT / "tests" / "benchmarks" / "results_page.py"
    subprocess.run([sys.executable, script, tmp_path], cwd=ROOT, check=True)
    for page in pages:
        assert (tmp_path / page).read_text("utf-8") == (DOCS / page).read_text("utf-8")


@pytest.mark.parametrize(("folder", "edits"), [("hundred", 100), ("ablation", 40)])
def test_rows_of_a_dataset_are_of_the_same_edits_and_nothing_is_missing(folder, edits):
    rows = read_rows(DOCS / "results" / folder)
    assert {len(row.scored) for row in rows} == {edits}
    assert len({tuple(sorted(edit.id for edit in row.scored)) for row in rows}) == 1
    assert rows[0].name == "dragdiffusion-80"
    assert not any(row.missing for row in rows)


def test_a_csv_of_no_row_is_named(tmp_path):
    shutil.copy(DOCS / "results" / "hundred" / "plus.csv", tmp_path / "plus-old.csv")
    with pytest.raises(ValueError, match=r"of no row that .* has: plus-old"):
        read_rows(tmp_path)
