"""docs/edits.md says what is true: its files are read by its commands."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli import app
from stages.jobs.edit import Job
from stages.jobs.reader import load_job

PAGE = (Path(__file__).parent.parent / "docs" / "edits.md").read_text("utf-8")
POINTS = {"peak": [[120, 80, 120, 40], [60, 90, 60, 70]], "lake": [[100, 100, 130, 100]]}


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    for name in ("peak.png", "in/lake.png", "pictures/a.png", "pictures/deep/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (140, 128)).save(folder / name)
    (folder / "table.csv").write_text(block("csv"), "utf-8")
    (folder / "list.json").write_text(block("json"), "utf-8")
    monkeypatch.chdir(folder)
    return folder


def imported(form: str, job: str) -> tuple[Job, str]:
    """Run the page's command for a form, and read the job that it writes."""
    lines = re.findall(
        rf"adaptivedrag (import {form} .*)",
        "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)),
    )
    result = CliRunner().invoke(app, shlex.split(lines[0]), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return load_job(Path(job)), result.output


@pytest.mark.parametrize(("form", "job"), [("csv", "job.toml"), ("json", "from-json/job.toml")])
def test_its_table_and_its_list_are_read(workplace, form, job):
    found, _ = imported(form, job)
    assert not found.bad
    assert {edit.id: edit.points for edit in found.edits} == POINTS


def test_its_parquet_is_read(workplace):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    rows = [
        {"id": name, "image": "peak.png", "points": [[*point] for point in ((1, 2), (3, 4))]}
        for name in POINTS
    ]
    write_table(pyarrow.Table.from_pylist(rows), "table.parquet")
    found, _ = imported("parquet", "from-parquet/job.toml")
    assert [edit.id for edit in found.edits] == [*POINTS]


def test_its_folder_becomes_a_skeleton(workplace):
    found, output = imported("folder", "pictures/job.toml")
    assert [bad.id for bad in found.bad] == ["a", "deep.b"]
    assert "2 of 2 edits have no drags yet" in output
    planned = CliRunner().invoke(app, ["plan", "pictures/job.toml"], catch_exceptions=False)
    assert (
        "2 edits (a, deep.b): drags is empty: give at least one handle and target" in planned.output
    )
