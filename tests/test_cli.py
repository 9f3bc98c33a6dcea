import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.finished_job import finish, write_job
from support.quick_segmenter import write_quick_segmenter
from typer.testing import CliRunner

from adaptivedrag.errors import NotFinite
from artifacts import ArtifactStore
from cli import app
from flows.outcomes import last_failed
from stages.jobs.reader import load_job
from stages.pipeline import STAGE_NAMES
from stages.planning.plan import plan_edits

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "prefect", "diffusers", "zarr")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def job(tmp_path) -> Path:
    return write_job(tmp_path / "cats", edits=3, model="pocket")


@pytest.fixture
def done(job) -> Path:
    """A job with all its results in the default store."""
    store = ArtifactStore.open(".adaptivedrag")
    for edit in load_job(job).edits:
        finish(edit, store)
    return job


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def add_bad_edit(job: Path) -> None:
    with job.with_name("edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "cat.png", "drags": []}\n')


def loaded_by(*arguments: object) -> list[str]:
    """Run a command in a fresh process; return the heavy modules that it loaded."""
    check = (
        "import sys, cli\n"
        "try:\n    cli.app(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code in (0, 1), end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", check, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(ended.stderr.strip().splitlines()[-1].replace("'", '"'))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("import", "--help"),
        ("eval", "--help"),
        ("store", "--help"),
        ("--version",),
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    assert loaded_by(*arguments) == []


def test_a_plan_of_a_thousand_edits_loads_neither_torch_nor_prefect(tmp_path):
    path = write_job(tmp_path / "many", edits=1000, model="pocket")
    assert loaded_by("plan", path) == []


def test_a_run_of_which_everything_is_there_loads_neither_torch_nor_prefect(done):
    assert not {"torch", "prefect"} & set(loaded_by("run", done))


def test_all_commands_are_named_in_the_help():
    shown = call("--help")
    assert shown.exit_code == 0
    names = [
        "demo",
        "edit",
        "run",
        "plan",
        "status",
        "show",
        "report",
        "annotate",
        "compare",
        "import",
        "eval",
        "store",
        "doctor",
        "train-pocket",
        "deploy",
        "worker",
        "submit",
        "cluster",
    ]
    assert all(f"  {name} " in shown.output for name in names)
    assert shown.output.count("...") == 1  # of the usage; no description is cut short


@pytest.mark.parametrize("group", ["", *(group.name for group in app.registered_groups)])
def test_a_group_without_a_command_shows_its_help(group):
    shown = call(*group.split())
    assert "Commands:" in shown.output
    assert "Missing" not in shown.output


def test_help_answers_at_once():
    command = [sys.executable, "-c", "import cli; cli.app(['--help'])"]

    def seconds() -> float:
        before = os.times()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # of the processor: others may be at work

    assert min(seconds() for _ in range(3)) < 0.3


def test_a_finished_job_ends_with_0_and_leaves_its_results(done):
    ended = call("run", done)
    assert ended.exit_code == 0, ended.output
    assert "3 done" in ended.output
    assert Path("results/cats/index.html").is_file()
    assert len(list(Path("results/cats/images").iterdir())) == 3


def test_a_bad_edit_makes_the_exit_code_1_and_is_listed(done):
    add_bad_edit(done)
    ended = call("run", done, "--out", "there")
    assert ended.exit_code == 1
    assert "worse (line 4): drags is empty" in ended.output
    assert "3 done, 1 failed" in ended.output
    assert Path("there/results.jsonl").is_file()


NOTHING_STARTS = {
    "no such job": (("run", "none.toml"), "none.toml does not exist"),
    "no such job to plan": (("plan", "none.toml"), "none.toml does not exist"),
    "no such stage": (("run", "cats/job.toml", "--only", "paint"), "no stage 'paint'"),
    "two limits": (
        ("run", "cats/job.toml", "--only", "build_mask", "--from", "build_mask"),
        "exclude each other",
    ),
    "bad time limit": (
        ("run", "cats/job.toml", "--stage-timeout", "long"),
        "--stage-timeout 'long'",
    ),
    "bad limit": (
        ("run", "cats/job.toml", "--max-failures", "many"),
        "--max-failures 'many': give a count",
    ),
    "deadline not readable": (
        ("run", "cats/job.toml", "--deadline", "25:00"),
        "--deadline '25:00' cannot be read: write it as 07:00",
    ),
    "budget not readable": (
        ("run", "cats/job.toml", "--budget", "a while"),
        "--budget 'a while' cannot be read: write it as 30d, 6h or 1h30m",
    ),
    "no such edit to explain": (("plan", "cats/job.toml", "--why", "edit-9"), "did you mean"),
    "no such stage to explain": (
        ("plan", "cats/job.toml", "paint", "--why", "edit-1"),
        "no stage 'paint'; stages: train_lora",
    ),
    "a stage of no edit": (
        ("plan", "cats/job.toml", "build_mask"),
        "name an edit with --why EDIT",
    ),
    "no such edit to trace": (("show", "cats/job.toml", "edit-9", "--json"), "did you mean"),
    "no such job to measure": (("eval", "none.toml"), "none.toml does not exist"),
    "no model for DIFT": (
        ("eval", "cats/job.toml", "--dift", "nowhere"),
        "'nowhere' is neither a path",
    ),
    "no such row": (("eval", "ablation", "cats", "--only", "papr"), "no row 'papr'"),
    "no such preset": (("eval", "ablation", "cats", "--preset", "papr"), "unknown preset 'papr'"),
    "more edits than scenes have": (
        ("import", "dragscenes", "x", "--edits", "90", "--scenes", "1"),
        "cannot give 90 edits on 1 scenes",
    ),
    "size of scenes": (
        ("import", "dragscenes", "x", "--edits", "1", "--scenes", "1", "--size", "7"),
        "size 7",
    ),
    "nothing selected": (("run", "cats/job.toml", "--select", "dog*"), "matches 'dog*'"),
    "store in the way": (("run", "cats/job.toml", "--store", "cats/cat.png"), "cats/cat.png"),
    "store of another kind": (("plan", "cats/job.toml", "--store", "foreign"), "format.json"),
    "edit not in the job": (("show", "cats/job.toml", "edit-9"), "did you mean"),
    "image missing": (("edit", "none.png", "--drag", "1,2->3,4"), "does not exist"),
    "drag not readable": (("edit", "cats/cat.png", "--drag", "1,2,3,4"), "120,80->180,80"),
    "drag not finite": (("edit", "cats/cat.png", "--drag", "nan,2->3,4"), "cannot be read"),
    "point outside": (
        ("edit", "cats/cat.png", "--drag", "1,2->300,4"),
        "drags[0].target (300, 4) lies outside the 96x64 image",
    ),
    "unknown preset": (
        ("edit", "cats/cat.png", "--drag", "1,2->3,4", "--preset", "papr"),
        "unknown preset 'papr'",
    ),
    "unknown setting": (
        ("edit", "cats/cat.png", "--drag", "1,2->3,4", "--set", "train_lora.stepz=1"),
        "did you mean 'steps'",
    ),
    "setting not readable": (
        ("edit", "cats/cat.png", "--drag", "1,2->3,4", "--set", "steps"),
        "--set 'steps' cannot be read",
    ),
    "result would replace the image": (
        ("edit", "cats/cat.png", "--drag", "1,2->3,4", "--out", "cats/cat.png"),
        "is the image itself",
    ),
    "result is no PNG": (
        ("edit", "cats/cat.png", "--drag", "1,2->3,4", "--out", "a.jpg"),
        "suffix .png",
    ),
    "model missing": (
        ("edit", "cats/cat.png", "--drag", "1,2->3,4", "--model", "/none"),
        "'/none'",
    ),
    "no samples": (("import", "dragbench", "cats"), "no sample that can be imported"),
}


@pytest.mark.parametrize(("arguments", "message"), NOTHING_STARTS.values(), ids=NOTHING_STARTS)
def test_what_cannot_start_ends_with_2_and_one_line(job, arguments, message):
    Path("foreign").mkdir()
    Path("foreign/format.json").write_text("{}")
    ended = call(*arguments)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("adaptivedrag: ")


def test_a_missing_model_of_a_job_ends_with_2(job):
    job.write_text('model = "nowhere"\nsegmenter = "segmenter.pt"\n')
    ended = call("run", job)
    assert ended.exit_code == 2
    assert "model 'nowhere'" in ended.stderr


def test_results_that_cannot_be_written_end_with_2_before_anything_is_done(done):
    Path("file").write_text("in the way")
    ended = call("run", done, "--out", "file/out")
    assert ended.exit_code == 2
    assert "results cannot be written to file/out" in ended.output


def test_ctrl_c_ends_with_130(job, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.terminal.jobs.load_job", interrupt)
    ended = call("plan", job)
    assert ended.exit_code == 130
    assert "interrupted" in ended.stderr


def test_a_plan_says_what_is_missing_and_why(job):
    first = call("plan", job)
    assert first.exit_code == 0
    assert "train_lora miss: never made (edit-0, edit-1, edit-2)" in first.output
    assert "optimize_latent follows: needs" in first.output
    store = ArtifactStore.open(".adaptivedrag")
    for edit in load_job(job).edits:
        finish(edit, store)
    with job.open("a") as file:
        file.write("[optimize_latent]\nlearning_rate = 0.02\n")
    second = call("plan", job, "--edits")
    assert "optimize_latent.learning_rate 0.01 → 0.02" in second.output
    assert "edit-1: train_lora hit" in second.output


def test_a_plan_tells_what_is_missing_for_other_programs_too(done):
    with done.open("a") as file:
        file.write("[optimize_latent]\nlearning_rate = 0.02\n")
    told = call("plan", done)
    assert "To make: 9 artifacts: about 14 s on cpu" in told.output
    document = json.loads(call("plan", done, "--json").output)
    assert document["schema"] == 1
    assert (document["edits"], document["done"], document["device"]) == (3, 0, "cpu")
    drag = document["stages"]["optimize_latent"]
    assert drag["edits"]["miss"] == 3
    assert drag["to_make"] == {
        "artifacts": 3,
        "unknown": 0,
        "seconds": 4.5,
        "bytes": document["to_make"]["bytes"]
        - sum(
            document["stages"][name]["to_make"]["bytes"]
            for name in ("sample_image", "locate_handles")
        ),
        "records": 3,
    }
    page = (ROOT / "docs" / "plan.md").read_text("utf-8")
    assert all(f"`{name}" in page for name in (*document, *document["to_make"]))
    first = document["plans"][0]
    assert first["to_make"] == ["optimize_latent", "sample_image", "locate_handles"]
    why = "optimize_latent.learning_rate 0.01 → 0.02"
    assert first["stages"]["optimize_latent"]["why"] == why
    assert set(first["stages"]["train_lora"]) == {"status", "key", "why"}


def test_a_plan_explains_one_edit_down_to_the_roots(done):
    with done.open("a") as file:
        file.write("[optimize_latent]\nlearning_rate = 0.02\n")
    told = call("plan", done, "--why", "edit-1")
    assert told.exit_code == 0, told.output
    assert "edit-1 train_lora hit: made 2024-01-01" in told.output
    why = "optimize_latent.learning_rate 0.01 → 0.02"
    assert f"edit-1 optimize_latent miss: {why}\n  compared with " in told.output
    waiting = f"edit-1 sample_image follows: needs optimize_latent; optimize_latent miss: {why}"
    assert waiting in told.output
    one = call("plan", done, "optimize_latent", "--why", "edit-1")
    assert one.output.splitlines()[0] == f"edit-1 optimize_latent miss: {why}"
    assert "train_lora" not in one.output
    document = json.loads(call("plan", done, "--why", "edit-1", "--json").output)
    (difference,) = document["stages"]["optimize_latent"]["differences"]
    assert difference == {
        "kind": "setting",
        "name": "optimize_latent.learning_rate",
        "old": 0.01,
        "new": 0.02,
        "said": None,
        "cause": None,
    }


IMPATIENT = """
import itertools, sys, time
seconds = itertools.count()
time.monotonic = lambda: float(next(seconds))
from cli import app
app(["plan", sys.argv[1]])
"""


def test_a_terminal_shows_how_many_images_were_read(job):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", IMPATIENT, job]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for place, shown in ((theirs, True), (subprocess.PIPE, False)):
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=place, check=True, env=environment
        )
        output = os.read(ours, 10_000) if place is theirs else ended.stderr
        assert (b"Reading images" in output and b"3/3" in output) is shown
        assert b"Reading" not in ended.stdout


def test_a_plan_with_a_bad_edit_says_so(job):
    add_bad_edit(job)
    ended = call("plan", job)
    assert ended.exit_code == 1
    assert "worse (line 4): drags is empty" in ended.output


def test_the_status_tells_what_is_done_and_what_failed_last(job):
    store = ArtifactStore.open(".adaptivedrag")
    edits = load_job(job).edits
    finish(edits[0], store)
    finish(edits[1], store, until="optimize_latent")
    (planned,) = plan_edits([edits[1]], store)
    key = planned.stages["sample_image"].key
    failure = {
        "edit": "edit-1",
        "kind": "NotFinite",
        "policy": "quarantine",
        "time": "2024-01-01",
    }
    failure |= {"message": "not so\nat all", "traceback": "Traceback: in sample"}
    store.add_attempt("sample_image", key, failure)
    # No run says anything of it, as after a worker that was killed.
    ended = call("status", job)
    assert ended.exit_code == 0
    assert "cats: 1 of 3 edits done, 1 failed" in ended.output
    assert "edit-1: sample_image: NotFinite: not so\n    correct that and run" in ended.output
    assert f"Tracebacks: adaptivedrag status {job} EDIT" in ended.output
    shown = call("status", job, "edit-1")
    assert "NotFinite: not so\nat all\nTraceback: in sample" in shown.output
    assert "no failure is recorded" in call("status", job, "edit-2").output
    assert "quarantined" in call("plan", job).output
    assert last_failed(store, load_job(job), plan_edits(edits, store)) == {"edit-1"}
    ended = call("run", job, "--select", "edit-1")
    assert ended.exit_code == 1
    assert "edit-1: sample_image: NotFinite: not so" in ended.output
    finish(edits[1], store)
    assert "2 of 3 edits done, 0 failed" in call("status", job).output


def test_an_edit_is_shown_as_a_table_and_a_panel(done):
    ended = call("show", done, "edit-1")
    assert ended.exit_code == 0, ended.output
    assert "verdict reached" in ended.output
    assert Image.open("results/cats/panels/edit-1.png").width > 1000


def test_the_provenance_of_an_edit_names_all_that_its_artifacts_are_made_of(done):
    told = call("show", done, "edit-1", "--provenance")
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(STAGE_NAMES)
    drag = lines[lines.index("optimize_latent hit") :]
    assert any(line.startswith("  input     train_lora ") for line in drag)
    assert any(line.endswith(": (30, 30) → (51, 30)") for line in drag)
    assert any("learning_rate 0.01" in line for line in drag if "config" in line)
    assert "  device    cpu, 1 thread" in drag
    assert not Path("results/cats/panels").exists()


def test_a_provenance_is_a_chain_from_the_image_to_the_result(done):
    document = json.loads(call("show", done, "edit-1", "--json").output)
    stages = document["stages"]
    assert list(stages) == list(STAGE_NAMES)
    page = (ROOT / "docs" / "reproducing.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in stages["train_lora"])
    (image,) = {stages[name]["inputs"]["image"]["digest"] for name in STAGE_NAMES[:3]}
    assert image == load_job(done).edits[1].image.digest
    for made in stages.values():
        for name, source in made["inputs"].items():
            if name in stages:
                assert source["digest"] == stages[name]["logical"]
                assert stages[name]["key"] in source["is"]
    store = ArtifactStore.open(".adaptivedrag")
    last = stages["sample_image"]
    found = store.lookup("sample_image", last["key"])
    assert found.record.object == last["object"]
    assert last["bytes"] == found.record.size
    assert last["code"] == "1"  # as the record says, whatever makes it now
    assert last["code_now"].startswith("0.1.0+")
    assert stages["train_lora"]["seed"] == 0


def test_the_commands_of_the_docs_answer(done):
    pages = [(ROOT / "docs" / name).read_text("utf-8") for name in ("plan.md", "reproducing.md")]
    lines = re.findall(r"^    adaptivedrag ((?:plan|show) .*)$", "\n".join(pages), re.MULTILINE)
    assert len(lines) == 8
    for line in lines:
        words = line.replace("job.toml", str(done)).replace("EDIT", "edit-1")
        ended = call(*shlex.split(words, comments=True))
        assert ended.exit_code == 0, (line, ended.output)


def test_what_is_not_made_has_no_provenance(job):
    told = call("show", job, "edit-1", "--provenance")
    assert told.exit_code == 0
    assert "train_lora miss\n" in told.output
    document = json.loads(call("show", job, "edit-1", "--json").output)
    assert set(document["stages"]["sample_image"]) == {"status", "key"}


def test_several_selections_are_all_taken(done):
    """The file is as the page gives it; the last pattern once won in silence."""
    Path("votes.jsonl").write_text('{"id": "edit-1", "vote": "up"}\n{"id": "edit-0"}\n')
    for patterns in (["edit-0", "edit-1"], ["@votes.jsonl:up", "edit-0"], ["@votes.jsonl"]):
        words = [word for pattern in patterns for word in ("--select", pattern)]
        assert "2 of 2 edits done" in call("status", done, *words).output
    assert "1 of 1 edit done" in call("status", done, "--select", "@votes.jsonl:up").output


def test_a_provenance_and_a_reason_load_neither_torch_nor_prefect(done):
    assert loaded_by("show", done, "edit-1", "--provenance") == []
    assert loaded_by("plan", done, "--why", "edit-1") == []


def test_converted_images_are_said_to_be(done):
    Image.open("cats/cat.png").convert("RGBA").save("cats/cat.png")
    ended = call("run", done, "--select", "edit-0")
    assert "cat.png: RGBA: laid over white" in ended.output
    others = (done.parent / "edits.jsonl").read_text().replace("cat.png", "other.png")
    Image.new("RGBA", (96, 64), (9, 9, 9, 99)).save("cats/other.png")
    with (done.parent / "edits.jsonl").open("a") as file:
        file.write(others.replace('"edit-', '"other-'))
    assert "other.png" not in call("run", done, "--select", "edit-0").output


def test_an_import_prints_what_it_found(tmp_path):
    folder = tmp_path / "drag100" / "cat_0"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(folder / "original.jpg")
    (folder / "points.json").write_text('{"points": [[1, 2], [3, 4], [5, 6], [7, 8]]}')
    ended = call("import", "drag100", tmp_path / "drag100")
    assert ended.exit_code == 0
    assert "1 image, 2 drags: " in ended.output


def test_scenes_are_imported_as_many_as_are_asked_for():
    ended = call("import", "dragscenes", "scenes", "--edits", 3, "--scenes", 2, "--size", 64)
    assert ended.exit_code == 0, ended.output
    assert "2 images" in ended.output
    edits = load_job(Path("scenes/job.toml")).edits
    assert len(edits) == 3
    assert {edit.image.width for edit in edits} == {64}


def test_results_are_measured_and_what_is_missing_is_named(done):
    add_bad_edit(done)
    ended = call("eval", done)
    assert ended.exit_code == 1, ended.output
    assert "cats: 3 judged, 1 missing" in ended.output
    assert "worse: cannot be done: drags is empty" in ended.output
    assert "edit-0: no region" in ended.output
    assert "IF needs" in ended.output
    assert re.search(r"paste: segmenter\s+\S+\s+cannot be read as a SAM 2", ended.output)
    assert "MD and m-MD of photographs need Stable Diffusion 2.1" in ended.output
    folder = Path("results/cats/evaluation")
    assert str(folder / "results.md") in ended.output
    assert (folder / "results.json").is_file()
    assert len(list((folder / "rows").iterdir())) == 6


NARROW = {
    "means": ("eval", "cats/job.toml"),
    "plan": ("plan", "cats/job.toml", "--edits"),
    "reasons": ("plan", "cats/job.toml", "--why", "edit-1"),
    "status": ("status", "cats/job.toml"),
    "stages": ("show", "cats/job.toml", "edit-1"),
    "provenance": ("show", "cats/job.toml", "edit-1", "--provenance"),
    "usage": ("store", "du", "cats/job.toml"),
}


@pytest.mark.parametrize("arguments", NARROW.values(), ids=NARROW)
def test_nothing_is_cut_in_40_columns(done, arguments, monkeypatch):
    wide = call(*arguments).output
    monkeypatch.setenv("COLUMNS", "40")
    narrow = call(*arguments).output
    assert "…" not in narrow
    assert (
        not {word.strip(":") for word in wide.split()}
        - {word.strip(":") for word in narrow.split()}
        - {"·"}
    )


def test_two_jobs_are_measured_side_by_side(done):
    other = done.with_name("other.toml")
    other.write_text(done.read_text() + "[optimize_latent]\npatience = 7\n")
    ended = call("eval", done, "--against", other, "--out", "there")
    assert ended.exit_code == 1
    assert "other settings: optimize_latent was made with others" in ended.output
    assert "patience 40 → 7" in ended.output
    assert Path("there/rows/other.csv").is_file()


def test_the_doctor_names_what_is_missing(job):
    (job.parent / "model").mkdir()
    found = call("doctor", "--model", "cats/model", "--segmenter", "nowhere.pt", "--device", "tpu")
    assert found.exit_code == 2
    assert "torch" in found.output
    assert "cpu (" in found.output
    assert "model:     missing: model 'cats/model'" in found.output
    assert "device:    missing: --device tpu cannot be used" in found.output
    assert "Missing: device, model, segmenter" in found.output


def test_the_doctor_judges_two_models_by_default():
    found = call("doctor")
    assert found.exit_code == 0, found.output
    assert "model:     pocket at " in found.output
    assert "Stable Diffusion 1.x" in found.output
    assert "memory:    edits take about 0." in found.output
    assert "room:" not in found.output


def test_the_doctor_judges_a_job(job):
    found = call("doctor", job)
    assert found.exit_code == 2
    assert "segmenter: missing: segmenter" in found.output  # it is no SAM 2
    job.write_text('model = "pocket"\nsegmenter = "pocket"\npreset = "paper"\n')
    found = call("doctor", job)
    assert found.exit_code == 0, found.output
    assert "room:      cats needs 0 bytes and 15 artifacts of unknown size; " in found.output


def test_the_report_is_written_at_any_time(job):
    store = ArtifactStore.open(".adaptivedrag")
    finish(load_job(job).edits[0], store)
    ended = call("report", job, "--out", "there")
    assert ended.exit_code == 0, ended.output
    assert ended.output == "Report: there/index.html\n"
    assert [path.name for path in Path("there/images").iterdir()] == ["edit-0.png"]
    assert len(Path("there/results.jsonl").read_text().splitlines()) == 3
    assert len([*Path("there/edits").glob("*.html")]) == 3
    beside = ("--set", "name=warm", "--set", "seed=3")
    call("report", job, *beside, "--out", "there")
    assert len(Path("there/results.jsonl").read_text().splitlines()) == 6
    told = "No longer on the page, since the job has no such edit:\n  edit-0.warm\n"
    assert told in call("report", job, "--out", "there").output


def test_masks_that_are_left_aside_and_odd_ones_are_noted(done):
    lines = [json.loads(line) for line in Path("cats/edits.jsonl").read_text().splitlines()]
    Image.new("L", (96, 64), 255).save("cats/mask.png")
    text = "".join(json.dumps(line | {"mask": "mask.png"}) + "\n" for line in lines)
    Path("cats/edits.jsonl").write_text(text)
    whole = "the mask is the whole image: it holds nothing"
    assert f"edit-0, edit-1, edit-2: {whole}" in call("plan", done).output
    document = json.loads(call("plan", done, "--json").output)
    assert document["plans"][0]["notes"] == [whole]
    done.write_text("use_mask = false\n" + done.read_text())
    note = "edit-0, edit-1, edit-2: its mask is left aside, because use_mask is false"
    assert note in call("run", done).output
    assert note in call("plan", done).output
    assert "its mask is left aside" in Path("results/cats/data/0001.js").read_text()


@pytest.fixture
def edit_cat(tmp_path, tiny_model_directory):
    """Call `edit` on an image with few steps."""
    write_job(tmp_path / "cats", edits=1)
    few = {
        "train_lora.steps": 1,
        "train_lora.batch_size": 1,
        "invert_image.num_steps": 4,
        "invert_image.inverted_steps": 2,
        "extract_superpixels.source": "rgb",
    }
    drag_steps = {"optimize_latent.steps": 2, "optimize_latent.max_steps": 2}
    models = ("--model", tiny_model_directory, "--segmenter", "cats/segmenter.pt")

    def edit(image: object, *options: object, preset: str = "paper"):
        given = few | (drag_steps if preset == "paper" else {})
        settings = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        drag = ("--drag", "30,30->50,32", "--prompt", "a cat", "--preset", preset)
        return call("edit", image, *drag, *models, *settings, *options)

    return edit


def test_one_image_is_edited_and_a_second_time_everything_is_there(edit_cat):
    ended = edit_cat("cats/cat.png")
    assert ended.exit_code == 0, ended.output + ended.stderr
    assert "optimize_latent" in ended.output
    picture = np.asarray(Image.open("results/cat.png"))
    assert picture.shape == (64, 96, 3)
    assert Path("results/cat-panel.png").is_file()
    again = edit_cat("cats/cat.png", "--out", "other.png")
    assert again.exit_code == 0
    assert "optimize_latent" not in again.output
    assert np.array_equal(np.asarray(Image.open("other.png")), picture)


def test_what_a_stage_warns_of_is_said_below_it(edit_cat):
    write_quick_segmenter(Path("segmenter"))
    segmenter = ("--segmenter", "segmenter")
    said = edit_cat("cats/cat.png", *segmenter, preset="paste").output.splitlines()
    (place,) = (number for number, line in enumerate(said) if line.startswith("build_mask "))
    assert said[place + 1] == "  handle 1 at (30, 30) lies in no segment"


def test_a_witness_that_fails_takes_no_picture_away(edit_cat, monkeypatch):
    def fails(*_arguments: object) -> None:
        raise NotFinite("too wide")

    with monkeypatch.context() as patch:
        patch.setattr("adaptivedrag.witness.seen_by_witness", fails)
        ended = edit_cat("cats/cat.png")
    assert (ended.exit_code, "locate_handles: too wide" in ended.stderr) == (1, True)
    assert "cat.png: not witnessed" in ended.output
    picture = Path("results/cat.png").read_bytes()
    again = edit_cat("cats/cat.png")
    assert again.exit_code == 0
    assert "sample_image" not in again.output
    assert "not witnessed" not in again.output
    assert Path("results/cat.png").read_bytes() == picture


def test_an_edit_replaces_no_picture_of_another_image(edit_cat):
    Path("dogs").mkdir()
    Image.open("cats/cat.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("dogs/cat.png")
    assert edit_cat("cats/cat.png").exit_code == 0
    first = Path("results/cat.png").read_bytes()
    refused = edit_cat("dogs/cat.png")
    assert refused.exit_code == 2
    assert "results/cat.png exists and was not made from dogs/cat.png" in refused.stderr
    assert "name another file with --out" in refused.stderr
    assert Path("results/cat.png").read_bytes() == first
    assert edit_cat("cats/cat.png", "--set", "seed=1").exit_code == 0
    assert Path("results/cat.png").read_bytes() != first
    assert edit_cat("dogs/cat.png", "--out", "results/dog.png").exit_code == 0
    panel = edit_cat("dogs/cat.png", "--out", "results/cat-panel.png")
    assert "results/cat-panel.png exists" in panel.stderr


def test_the_mask_of_an_edit_says_what_may_change(edit_cat):
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 16:64] = 255
    write_quick_segmenter(Path("segmenter"))
    options = ("--mask", "mask.png", "--segmenter", "segmenter", "--lora", "off")
    pictures = []
    for chosen in (mask, 255 - mask):
        Image.fromarray(chosen).save("mask.png")
        ended = edit_cat(
            "cats/cat.png", *options, "--set", "build_mask.mode=segment", preset="plus"
        )
        assert ended.exit_code == 0, ended.output + ended.stderr
        assert 'cat: build_mask.mode = "segment" is not used' in ended.output
        pictures.append(np.asarray(Image.open("results/cat.png")))
    assert not np.array_equal(*pictures)
    left = edit_cat("cats/cat.png", *options, "--set", "use_mask=false", preset="paste")
    assert "cat: its mask is left aside, because use_mask is false" in left.output
