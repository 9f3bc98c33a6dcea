"""docs/export.md says what is true: its commands run, and its columns are those of the rows."""

import json
import re
import shlex
from pathlib import Path

import pytest
from support.finished_job import finish, write_job
from typer.testing import CliRunner

from artifacts import ArtifactStore
from cli import app
from stages.browsing import STORE
from stages.exporters import FORMATS
from stages.jobs.reader import load_job

PAGE = (Path(__file__).parent.parent / "docs" / "export.md").read_text("utf-8")


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with a job of three edits, two of them finished, and votes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    job = load_job(write_job(tmp_path, edits=3))
    for edit in job.edits[:2]:
        finish(edit, ArtifactStore.open(STORE))
    Path("votes.jsonl").write_text('{"id": "edit-1", "vote": "up", "note": "sharp"}\n')
    return tmp_path


def call(line: str, code: int) -> str:
    result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_its_commands_run_and_what_they_write_is_what_it_says(workplace):
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (*whole, chosen), (back,) = (block.splitlines() for block in blocks)
    for line in whole:
        assert "2 of 3 edits in 1 shard" in (said := call(line, 1))
        assert "edit-2: not done yet" in said
    assert "1 of 1 edit in 1 shard" in call(chosen, 0)
    assert "nothing to write, every byte checked" in call(chosen, 0)
    call(back, 0)
    first, second = load_job(Path("again/job.toml")).edits
    assert (first.id, second.id) == ("edit-0", "edit-1")
    (row,) = FORMATS["parquet"].rows(Path("good/train/00001.parquet"))
    assert (row["vote"], row["note"]) == ("up", "sharp")
    table = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert {name for cell in table for name in re.findall(r"`(\w+)`", cell)} == row.keys()
    line = json.loads(Path("folder/train/00001/metadata.jsonl").read_text().splitlines()[0])
    assert [key for key in line if "file" in key] == re.findall(r"`(\w*file_name)`", PAGE)


REFUSED = {
    "--to csv out": "--to 'csv' is no format: name one of imagefolder, parquet, webdataset",
    "--to parquet s3://bucket/out": "s3://bucket/out is a URL: export to a folder",
    "--to parquet out --shard-size 0": "--shard-size '0' is nothing",
    "--to parquet out --shard-size 5parrots": "--shard-size '5parrots' cannot be read",
    "--to parquet out --votes none.jsonl": "none.jsonl",
    "--to parquet out --store nowhere": "nowhere",
}


def test_what_cannot_be_asked_is_one_line(workplace):
    for line, complaint in REFUSED.items():
        said = call(f"adaptivedrag export job.toml {line}", 2)
        assert complaint in said
        assert len(said.splitlines()) == 1
