"""Single files and VAEs of one's own in jobs: what keys depend on, and what is noted."""

import json

import pytest
from support.finished_job import write_job
from support.single_files import original_weights, settings_of, write_single_file
from support.tiny_models import write_model

from adaptivedrag.model import weights
from adaptivedrag.model.single_file import SingleFile
from adaptivedrag.model.source import Folder
from artifacts import ArtifactStore
from flows.terminal.jobs import note_inputs
from stages.jobs.reader import load_job
from stages.planning.memory import weights_of
from stages.planning.models import diffusion_files
from stages.planning.plan import plan_edits
from stages.planning.prompts import with_prompt_notes


@pytest.fixture(autouse=True)
def _known_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    diffusion_files.cache_clear()


@pytest.fixture
def single(tiny_model_directory, tmp_path, monkeypatch):
    """A single file of the tiny model, which is read with the tiny model's settings."""
    configs = settings_of(tiny_model_directory, tmp_path / "configs")

    def source_at(path):
        return Folder(path) if path.is_dir() else SingleFile.open(path, configs)

    monkeypatch.setattr(weights, "source_at", source_at)
    every = original_weights(tiny_model_directory)
    return write_single_file(tmp_path / "one.safetensors", every)


def digest(model, vae=None):
    diffusion_files.cache_clear()
    return diffusion_files(str(model), vae and str(vae)).digest


def test_a_single_file_is_known_by_its_bytes_and_its_settings(single, tmp_path):
    first = digest(single)
    assert weights_of(diffusion_files(str(single)))["unet"] > 100_000
    renamed = single.rename(tmp_path / "other name.safetensors")
    assert digest(renamed) == first
    whole = renamed.read_bytes()
    renamed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert digest(renamed) != first
    renamed.write_bytes(whole)
    config = tmp_path / "configs" / "sd1" / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text() + "\n")
    assert digest(renamed) != first


def test_a_vae_enters_the_digest_in_place_of_the_models_own(tiny_model_directory, tmp_path):
    other = write_model(tmp_path / "other", seed=1)
    own = digest(tiny_model_directory)
    assert digest(tiny_model_directory, tiny_model_directory / "vae") == own
    replaced = digest(tiny_model_directory, other / "vae")
    files = diffusion_files(str(tiny_model_directory), str(other / "vae"))
    assert weights_of(files) == weights_of(diffusion_files(str(tiny_model_directory)))
    assert replaced != own
    assert digest(tiny_model_directory, other) == replaced


def test_a_job_with_a_single_file_and_a_vae_is_planned(single, tiny_model_directory, capsys):
    """The file has no VAE of its own, and the prompt is too long for its text encoder."""
    every = original_weights(tiny_model_directory)
    write_single_file(single, {n: of for n, of in every.items() if "first_stage" not in n})
    path = write_job(single.parent / "job", edits=1)
    path.write_text(
        f'model = "../one.safetensors"\nvae = {json.dumps(str(tiny_model_directory / "vae"))}\n'
        'segmenter = "pocket"\nlora = "off"\n'
    )
    edits = path.with_name("edits.jsonl")
    line = json.loads(edits.read_text().splitlines()[0]) | {"prompt": "a" * 90}
    edits.write_text(json.dumps(line) + "\n")
    job = load_job(path)
    (edit,) = with_prompt_notes(job.edits)
    assert "the prompt has 90 tokens" in edit.prompt_notes[0]
    plan_edits(job.edits, ArtifactStore.absent("store"))
    note_inputs(job)
    assert "one.safetensors: a single file is known by its bytes" in capsys.readouterr().out
