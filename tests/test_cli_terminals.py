"""On any terminal, all that commands say is there: narrow, plain letters, a reader that goes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.finished_job import finish, write_job
from typer.testing import CliRunner

from artifacts import ArtifactStore
from cli import app
from flows.terminal.process import PLAIN
from stages.failures import Attempt
from stages.jobs.reader import load_job
from stages.planning.plan import plan_edits

ROOT = Path(__file__).parent.parent
COMMANDS = [
    ("plan", "cats/job.toml", "--edits"),
    ("run", "cats/job.toml", "--select", "edit-0"),
    ("status", "cats/job.toml"),
    ("report", "cats/job.toml"),
    ("show", "cats/job.toml", "edit-0"),
    ("store", "du", "cats/job.toml"),
    ("store", "verify"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A job of which one edit is done, one has failed, and one cannot be read, with its store."""
    folder = tmp_path_factory.mktemp("terminals")
    job = write_job(folder / "cats", edits=2, model="pocket")  # known: nobody has to load torch
    store = ArtifactStore.open(folder / ".adaptivedrag")
    first, second = load_job(job).edits
    finish(first, store)
    finish(second, store, until="optimize_latent")
    (plan,) = plan_edits([second], store)
    document = Attempt.of(second.id, ValueError(f"{'→×' * 30} is a long reason")).document()
    store.add_attempt("sample_image", plan.stages["sample_image"].key, document)
    with (folder / "cats" / "edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "cat.png", "drags": []}\n')
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.chdir(folder)


def told(*arguments, charset="utf-8", **environment):
    """Return what a command prints, without how long it took."""
    runner = CliRunner(charset=charset, env={"COLUMNS": "200", **environment})
    ended = runner.invoke(app, arguments)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.output
    return re.sub(r"in \d+\.\d s", "", ended.output)


def words(text):
    return {word.rstrip(":") for word in text.split()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "terminal", [{"COLUMNS": "40"}, {"COLUMNS": "20"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str
)
def test_nothing_is_cut_on_any_terminal(command, terminal):
    wide = told(*command)
    assert len(words(wide)) >= 2
    assert words(wide) <= words(told(*command, **terminal))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_signs_that_an_encoding_lacks_are_said_in_plain_letters(command):
    plain = told(*command)
    for sign, letters in PLAIN.items():
        plain = plain.replace(sign, letters)
    assert words(told(*command, charset="ascii")) == words(plain)


def program(*arguments, **environment):
    """Start the program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_reader_that_goes_away_changes_nothing():
    process = program("plan", "cats/job.toml", "--edits")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1  # since an edit cannot be read


def test_colors_that_are_asked_for_draw_no_bars_into_a_pipe():
    process = program("run", "cats/job.toml", "--select", "edit-0", FORCE_COLOR="1")
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "\x1b[?25l" not in output  # no cursor is hidden
    assert "cats: 1 done" in output


def test_names_and_signs_survive_a_c_locale():
    process = program(
        "status", "cats/job.toml", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", TZ=":none"
    )
    output, errors = process.communicate()
    assert errors == ""
    assert "->x->x" in output
