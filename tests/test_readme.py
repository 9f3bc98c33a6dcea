"""The README says what is true: its commands run, and its job is a job."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from support.finished_job import finish
from support.quick_segmenter import write_quick_segmenter
from typer.testing import CliRunner

from adaptivedrag import presets
from adaptivedrag.config import EditConfig
from adaptivedrag.presets import preset
from artifacts import ArtifactStore
from cli import app
from stages.browsing import STORE
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

JOB_OF_PAGE = ("peak", "dog")
QUICK = """
[train_lora]
steps = 1
batch_size = 1
[invert_image]
num_steps = 6
inverted_steps = 3
[extract_superpixels]
source = "rgb"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, edit: Edit) -> Path:
    """A folder with the README's own job, on the tiny model, a quick segmenter and a photograph."""
    folder = tmp_path_factory.mktemp("readme")
    segmenter = write_quick_segmenter(folder / "segmenter")
    job, _ = blocks("toml")
    job = job[: job.index("[sample_image]")].replace('"pocket"', f'"{edit.model}"', 1)
    job = job.replace('"pocket"', f'"{segmenter}"', 1)
    (folder / "job.toml").write_text(job + QUICK, "utf-8")
    (folder / "edits.jsonl").write_text(blocks("json")[0], "utf-8")
    (folder / "images").mkdir()
    Image.open(edit.image_path).resize((200, 160)).save(folder / "images" / "peak.png")
    shutil.copy(folder / "images" / "peak.png", folder / "photo.png")
    return folder


def in_readme(name: str) -> list[str]:
    (found,) = [words for words in commands() if words[:2] == ["adaptivedrag", name]][:1]
    return found[1:]


def invoke(words: list[str]) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_the_commands_of_the_job_run_as_they_are_written(workplace, monkeypatch, edit):
    monkeypatch.chdir(workplace)
    assert "train_lora" in invoke(in_readme("plan"))
    assert invoke(in_readme("run"))
    assert (workplace / "results" / workplace.name / "images" / "peak.png").is_file()
    assert (workplace / "results" / workplace.name / "index.html").is_file()
    assert (workplace / "results" / workplace.name / "edits" / "peak.html").is_file()
    assert "index.html" in invoke(in_readme("report"))
    show = [word.replace("EDIT", "peak") for word in in_readme("show")]
    assert "Panel" in invoke(show)


def test_what_is_done_in_the_morning_runs_as_it_is_written(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    own = {words[1]: words[1:] for words in commands() if words[1] in ("export", "status")}
    varied, voted = [words[1:] for words in commands() if {"--set", "@votes.jsonl:down"} & {*words}]
    assert "Comparison" in invoke(varied)
    Path("votes.jsonl").write_text('{"id": "peak", "vote": "down", "note": ""}\n', "utf-8")
    assert "1 done" in invoke(voted)
    assert "1 edit" in invoke(own["export"])
    assert (workplace / "dataset" / "export.json").is_file()
    assert "1 of 1 edit done" in invoke(own["status"])


def test_the_single_edit_runs_as_it_is_written(workplace, monkeypatch, edit):
    monkeypatch.chdir(workplace)
    quick = [
        "train_lora.steps=1",
        "train_lora.batch_size=1",
        "invert_image.num_steps=6",
        "invert_image.inverted_steps=3",
        "extract_superpixels.source=rgb",
    ]
    settings = [word for setting in quick for word in ("--set", setting)]
    invoke([*in_readme("edit"), "--model", edit.model, "--segmenter", "segmenter", *settings])
    assert (workplace / "results" / "photo.png").is_file()


def quick_preset(_name: str, model: str) -> EditConfig:
    """Return settings with few steps in place of any preset."""
    drag = {"optimize_latent": {"steps": 2, "max_steps": 2}}
    return preset("paper", model).merged({**tomllib.loads(QUICK), **drag})


def test_the_page_on_python_runs_as_it_is_written(tmp_path, monkeypatch, edit, capsys):
    """On the tiny model, with few steps; the job's results are made up."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(edit.image_path, "a.png")
    Image.open(edit.image_path).resize((176, 96)).save("photo.png")
    drags = [{"handle": [20, 20], "target": [40, 20]}]
    edits = [{"id": name, "image": "a.png", "prompt": name, "drags": drags} for name in JOB_OF_PAGE]
    Path("edits.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in edits))
    Path("job.toml").write_text('preset = "paper"\n')
    finish(load_job(Path("job.toml")).edits[0], ArtifactStore.open(STORE))
    monkeypatch.setattr(presets, "preset", quick_preset)
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    found = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = "\n".join(found).replace("preset=", f"model={edit.model!r}, preset=")
    code = code.replace("prompt=", f"model={edit.model!r}, prompt=")
    exec(compile(code, "docs/python.md", "exec"), {})
    assert len(found) == 4
    assert Image.open("edited.png").size == (176, 96)
    assert f"    {capsys.readouterr().out.splitlines()[-1]}\n" in page


def test_every_command_of_the_readme_exists():
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    for words in commands():
        if words[0] == "adaptivedrag":
            assert words[1] in known, words
        else:
            assert words[0] == "make", words


def test_the_make_targets_call_what_they_promise():
    for target, call in (("demo", "adaptivedrag demo"), ("test", "-m pytest")):
        printed = subprocess.run(
            ["make", "--dry-run", target], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert call in printed.stdout


def test_every_test_that_the_docs_name_is_there():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    page = (ROOT / "docs" / "reproducing.md").read_text("utf-8")
    names = re.findall(r"`(test_\w+)`", page)
    assert len(names) > 5
    assert not [name for name in names if f"def {name}(" not in sources]


def test_every_file_and_picture_that_the_docs_name_is_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in link:
                assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_the_commands_of_a_cluster_are_those_of_its_page():
    """They run there, in tests/flows/test_cluster.py."""
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8").splitlines()
    run = [shlex.split(line, comments=True) for line in page if line.startswith("    adaptivedrag")]
    own = [words for words in commands() if words[1] in ("cluster", "submit")]
    assert len(own) == 3
    assert all(words in run for words in own)
