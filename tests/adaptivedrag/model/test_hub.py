"""Models of the hub: resolved to a commit once, fetched whole, and never changed after that."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.hub_server import FIRST, REPOSITORY, SECOND, Hub, files_of, serve_hub

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.weights import find_diffusion, find_segmenter

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(tiny_model_directory, tmp_path, monkeypatch):
    """A hub that holds the tiny model, and an empty cache."""
    found = Hub()
    found.commit(FIRST, files_of(tiny_model_directory))
    with serve_hub(found):
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            found.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield found


def go_offline(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def held(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }


def test_a_model_is_fetched_whole_and_nothing_else(hub, tiny_model_directory):
    directory = find_diffusion(REPOSITORY)
    assert directory.name == FIRST
    assert held(directory) == held(tiny_model_directory) - {"model_index.json"}


def test_a_branch_that_moves_changes_nothing_and_is_not_asked_for(hub):
    directory = find_diffusion(REPOSITORY)
    hub.commit(SECOND, {**hub.commits[FIRST], UNET: b"other weights"})
    hub.asked.clear()
    assert find_diffusion(REPOSITORY) == directory
    assert hub.asked == []


def test_another_program_that_follows_the_branch_changes_nothing(hub, tmp_path):
    directory = find_diffusion(REPOSITORY)
    refs = tmp_path / "hub" / "models--owner--sd" / "refs"
    refs.mkdir(exist_ok=True)
    shutil.copytree(directory, directory.with_name(SECOND), symlinks=True)
    (refs / "main").write_text(SECOND)
    assert find_diffusion(REPOSITORY) == directory


@pytest.mark.parametrize("revision", [SECOND, SECOND[:7], "next", "refs/pr/1"])
def test_a_revision_is_what_its_name_says(hub, revision):
    hub.commit(SECOND, hub.commits[FIRST], branch=revision)
    hub.branches["main"] = FIRST
    assert find_diffusion(REPOSITORY).name == FIRST
    assert find_diffusion(f"{REPOSITORY}@{revision}").name == SECOND


@pytest.mark.parametrize("lost", [UNET, "tokenizer/merges.txt", "scheduler/scheduler_config.json"])
def test_files_that_were_lost_are_fetched_of_the_same_commit(hub, lost):
    directory = find_diffusion(REPOSITORY)
    whole = held(directory)
    (directory / lost).unlink()
    hub.commit(SECOND, hub.commits[FIRST])
    assert find_diffusion(REPOSITORY) == directory
    assert held(directory) == whole


@pytest.mark.parametrize("lost", [UNET, "vae/config.json", "tokenizer/tokenizer_config.json"])
def test_a_cache_that_another_program_half_filled_is_completed(hub, tmp_path, lost):
    place = tmp_path / "hub" / "models--owner--sd"
    for name in hub.commits[FIRST].keys() - {lost}:
        path = place / "snapshots" / FIRST / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hub.commits[FIRST][name])
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(FIRST)
    hub.commit(SECOND, hub.commits[FIRST])
    assert (find_diffusion(REPOSITORY) / lost).is_file()
    assert find_diffusion(REPOSITORY).name == FIRST


def test_a_half_filled_cache_is_refused_without_the_hub(hub, monkeypatch):
    directory = find_diffusion(REPOSITORY)
    (directory / UNET).unlink()
    go_offline(monkeypatch)
    with pytest.raises(ModelUnavailable, match=f"{UNET} .*--revision {FIRST}"):
        find_diffusion(REPOSITORY)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (UNET, "unet has no diffusion_pytorch_model.safetensors"),
        ("vae/config.json", "vae has no config.json"),
        ("tokenizer/merges.txt", "tokenizer has no merges.txt"),
        ("unet/config.json", "unet has no config.json"),
    ],
)
def test_what_another_program_fetched_is_used_offline_if_it_is_whole(
    hub, tmp_path, monkeypatch, tiny_model_directory, lost, said
):
    go_offline(monkeypatch)
    place = tmp_path / "hub" / "models--owner--sd"
    snapshot = shutil.copytree(tiny_model_directory, place / "snapshots" / FIRST)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(FIRST)
    (snapshot / lost).rename(tmp_path / "away")
    with pytest.raises(ModelUnavailable, match=f"is not all here .{said}"):
        find_diffusion(REPOSITORY)
    (tmp_path / "away").rename(snapshot / lost)
    assert find_diffusion(REPOSITORY) == snapshot
    (place / "refs" / "main").write_text(SECOND)
    assert find_diffusion(REPOSITORY) == snapshot


def test_what_was_never_fetched_is_refused_offline(hub, monkeypatch):
    go_offline(monkeypatch)
    with pytest.raises(ModelUnavailable, match="was never fetched"):
        find_diffusion(REPOSITORY)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/other", "the hub has no owner/other"),
        (f"{REPOSITORY}@gone", "no revision 'gone'"),
        ("owner/sd@", "neither a path that exists nor a hub id"),
        ("a/b/c", "neither a path that exists nor a hub id"),
    ],
)
def test_what_the_hub_lacks_is_refused(hub, name, said):
    with pytest.raises(ModelUnavailable, match=said) as refused:
        find_diffusion(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.safetensors": b""}, "`hf download` its model.safetensors, and name that file"),
        ({"unet/config.json": b"", "unet/diffusion_pytorch_model.bin": b""}, "unet has no .*only"),
        ({"README.md": b""}, "not a folder of diffusers"),
    ],
)
def test_a_repository_of_something_else_is_refused_before_it_is_fetched(hub, files, said):
    hub.commit(SECOND, files)
    with pytest.raises(ModelUnavailable, match=said):
        find_diffusion(REPOSITORY)
    assert not [request for request in hub.asked if "/resolve/" in request]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"commit": "../..", "files": []}'])
def test_a_damaged_record_of_the_commit_is_made_again(hub, tmp_path, text):
    directory = find_diffusion(REPOSITORY)
    (kept,) = (tmp_path / "hub" / "models--owner--sd" / "adaptivedrag").iterdir()
    kept.write_text(text)
    assert find_diffusion(REPOSITORY) == directory
    assert json.loads(kept.read_text())["commit"] == FIRST


def test_a_segmenter_is_resolved_once_too(hub):
    hub.commit(FIRST, {"sd.pt": b"a checkpoint", "README.md": b""})
    checkpoint = find_segmenter(REPOSITORY)
    assert checkpoint.read_bytes() == b"a checkpoint"
    hub.commit(SECOND, {"sd.pt": b"another"})
    assert find_segmenter(REPOSITORY) == checkpoint
