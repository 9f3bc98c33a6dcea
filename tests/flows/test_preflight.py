"""A machine's fault is found before the first edit: exit code 2, and no attempt against an edit."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.finished_job import finish, write_job
from typer.testing import CliRunner

from adaptivedrag.devices import compiler_fault
from artifacts import ArtifactStore
from artifacts.places.backend import Backend
from cli import app
from flows.preflight import NotReady, check_device, check_memory
from stages.jobs.reader import load_job
from stages.planning.memory import Peak

EDIT = ("edit", "job/cat.png", "--drag", "30,30->50,32", "--preset", "paper")


@pytest.fixture
def job(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)
    return write_job(tmp_path / "job")


def refusal(*words: object) -> str:
    """Return the one line of a command that could not start."""
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert ended.exit_code == 2, ended.output
    kept = [file for file in Path(".adaptivedrag").glob("attempts/**/*") if file.is_file()]
    assert kept == []
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture
def lacking(tiny_model_directory, tmp_path) -> Path:
    """A model whose text encoder lacks a tensor."""
    model = shutil.copytree(tiny_model_directory, tmp_path / "lacking")
    file = model / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    del weights["final_layer_norm.bias"]
    save_file(weights, file)
    return model


@pytest.mark.parametrize("command", ["plan", "run", "edit"])
def test_a_model_that_lacks_a_tensor_is_refused_by_every_command(job, lacking, tmp_path, command):
    own = write_job(tmp_path / "own", model=lacking)
    words = (*EDIT, "--model", lacking) if command == "edit" else (command, own)
    assert "1 missing (final_layer_norm.bias)" in refusal(*words)


@pytest.mark.parametrize("device", ["cuda:99", "cuda:x", "meta", "abacus"])
def test_a_device_that_is_not_here_is_named_with_those_that_are(device):
    with pytest.raises(NotReady, match=rf"--device {device} cannot be used: .+ has cpu"):
        check_device(device)


def test_nothing_begins_on_a_device_that_is_not_here(job):
    assert "--device cuda:99 cannot be used" in refusal("eval", job, "--device", "cuda:99")
    assert "--device cuda:99 cannot be used" in refusal("run", job, "--device", "cuda:99")
    assert "--device cuda:99 cannot be used" in refusal(*EDIT, "--device", "cuda:99")


def test_nothing_is_compiled_without_a_compiler(job, monkeypatch):
    monkeypatch.setenv("CXX", "none-of-them")
    assert "--compile cannot be done: no compiler none-of-them is found" in refusal(
        "run", job, "--compile"
    )
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", "")
    assert "no compiler g++ is found" in refusal("run", job, "--compile")
    assert compiler_fault("cuda") == "no compiler gcc or clang is found"


def test_a_segmenter_that_is_none_is_refused_if_it_is_needed(job):
    assert "segmenter.pt cannot be read as a SAM 2" in refusal("run", job)


def test_a_disk_without_room_for_what_is_missing_is_refused(job, monkeypatch):
    monkeypatch.setattr(Backend, "free_space", 17)
    finish(load_job(job).edits[0], ArtifactStore.open(".adaptivedrag"))
    job.write_text(job.read_text() + '[extract_superpixels]\nsource = "rgb"\n')
    assert "its disk has 17 bytes free: make room" in refusal("run", job)


def test_memory_is_enough_or_saved_or_not_there():
    peak, gib = Peak(7 * 2**30, 4 * 2**30), 2**30
    assert check_memory(peak, None, "cpu") == "edits take about 7.0 GiB by calculation"
    assert check_memory(peak, 8 * gib, "cuda").endswith("and cuda has 8.0 GiB free")
    assert "stages will save memory" in check_memory(peak, 5 * gib, "cuda")
    with pytest.raises(NotReady, match=r"4.0 GiB where they save memory, and cuda has 3.0 GiB"):
        check_memory(peak, 3 * gib, "cuda")
