"""The commands that compare: what they take, print and write."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from support.compared import finish_compared, write_compared
from typer.testing import CliRunner

from artifacts import ArtifactStore
from cli import app
from flows.request import RunRequest
from flows.run import Run
from flows.terminal.run import request_of
from stages.jobs.spec import parse_spec

DOCS = (Path(__file__).parents[3] / "docs" / "compare.md").read_text("utf-8")
COOLER = "sample_image.correspondence_temperature=0.5"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Iterator[Path]:
    """A folder with three jobs on the same edits: one with variants, and two without."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        job = write_compared(folder)
        finish_compared(job, ArtifactStore.open(folder / ".adaptivedrag"))
        plain = job.read_text("utf-8").partition("[[variants]]")[0]
        Path("plain.toml").write_text(plain)
        other = f"{plain}[sample_image]\ncorrespondence_temperature = 0.5\n"
        Path("other.toml").write_text(other)
        Path("taken").mkdir()
        Path("taken/job.json").write_text('{"path": "gone.toml", "name": "another"}')
        yield folder


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words], catch_exceptions=False)


def test_variants_two_jobs_and_what_was_before_end_in_a_page(work):
    told = call("job.toml")
    assert told.exit_code == 0, told.output
    assert "left to the target (px) ↓" in told.output
    assert "slower lacks 1 edit: failed in sample_image" in told.output
    page = Path(told.output.splitlines()[-1].removeprefix("Comparison: "))
    assert page == Path("results") / work.name / "compare.html"
    assert "cooler against baseline" in page.read_text("utf-8")

    told = call("plain.toml", "other.toml")
    assert "Of 3 edits that both have: other is nearer in 1, plain is nearer in 1" in told.output
    assert Path("results/compare-plain-other/images/edit-0.other.png").is_file()

    told = call("other.toml", "--before")
    assert "now against before" in told.output
    assert Path("results/other-before/images/edit-0.before.png").is_file()

    told = call("plain.toml", "--set", COOLER)
    assert "correspondence_temperature-0-5 is nearer in 1" in told.output
    assert Path("results/plain-correspondence_temperature-0-5/compare.html").is_file()


@pytest.mark.parametrize(
    ("words", "name"),
    [(["job.toml"], "slower"), (["plain.toml", "--set", COOLER], "correspondence_temperature-0-5")],
)
def test_a_run_of_variants_ends_in_the_page(work, words, name):
    told = CliRunner().invoke(app, ["run", *words, "--select", "edit-0"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert f"{name} is nearer in 1." in told.output
    page = Path(told.output.splitlines()[-1].removeprefix("Comparison: "))
    assert f"{name} is nearer in 1." in page.read_text("utf-8")


def test_a_worker_makes_the_same_variant_of_what_a_request_says(work):
    asked = request_of(settings=[COOLER])
    sent = RunRequest.model_validate_json(asked.model_dump_json())
    ids = ["edit-1.correspondence_temperature-0-5"]
    run = Run.open(Path("plain.toml"), ".adaptivedrag", sent, edit_ids=ids)
    assert [edit.id for edit in run.job.edits] == ids
    assert run.todo == frozenset()  # it is what the job's own variant is


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plain.toml"], "has no variants: name another job, --before, or a setting"),
        (["plain.toml", "other.toml", "--before"], "exclude each other"),
        (["plain.toml", "plain.toml"], "is named twice"),
        (["plain.toml", "--set", "sample_image.hole_round=1"], "did you mean 'hole_rounds'?"),
        (["plain.toml", "other.toml", "--out", "taken"], "has the results of another: name"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(work, words, said):
    told = call(*words)
    assert told.exit_code == 2
    assert said in told.output
    assert len(told.output.splitlines()) == 1


def test_the_commands_of_the_docs_are_commands_and_its_job_is_a_job(work):
    (job,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    assert [variant.name for variant in parse_spec(tomllib.loads(job)).variants] == [
        "one-round",
        "smooth",
    ]
    (block,) = re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    commands = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    for words in commands:
        if words[0] == "compare":
            told = CliRunner().invoke(app, words, catch_exceptions=False)
            assert told.exit_code == 0, told.output
    setting = next(words[-1] for words in commands if "--set" in words)
    told = CliRunner().invoke(app, ["plan", "plain.toml", "--set", setting])
    assert "Variants, beside the job as it is:\n  hole_rounds-2 (3 edits) shares" in told.output
