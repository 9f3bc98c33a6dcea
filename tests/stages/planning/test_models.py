"""Which files of a model's folder enter its digest."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from support.tiny_models import write_model

from adaptivedrag.errors import ModelUnavailable, UnsupportedModel
from adaptivedrag.model import diffusion
from adaptivedrag.model.source import Folder
from artifacts.lookup import stat_cache
from stages.planning.models import diffusion_files, segmenter_files


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def copies(source, tmp_path, *strays):
    """Return a copy of a folder, and one with stray files in every folder of it."""
    clean, stray = tmp_path / "clean", tmp_path / "stray"
    shutil.copytree(source, clean)
    shutil.copytree(source, stray)
    for folder in (stray, *(path for path in stray.iterdir() if path.is_dir())):
        for name in strays:
            (folder / name).write_bytes(b"of nobody")
    return str(clean), str(stray)


STRAYS = (".DS_Store", "._config.json", "config.json~", "README.md", "notes.swp", "Thumbs.db")


def test_files_that_are_never_loaded_do_not_enter_the_digest_of_a_model(tmp_path):
    clean, stray = copies(diffusion_files("pocket").source.path, tmp_path, *STRAYS)
    assert diffusion_files(clean).digest == diffusion_files(stray).digest


def test_files_that_are_never_loaded_do_not_enter_the_digest_of_a_segmenter(tmp_path):
    clean, stray = copies(segmenter_files("pocket").path, tmp_path, *STRAYS)
    assert segmenter_files(clean).digest == segmenter_files(stray).digest


@pytest.mark.parametrize("name", ["unet/config.json", "tokenizer/tokenizer.json"])
def test_files_that_are_loaded_enter_it(tmp_path, name):
    clean, other = copies(diffusion_files("pocket").source.path, tmp_path)
    path = tmp_path / "stray" / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert diffusion_files(clean).digest != diffusion_files(other).digest


def test_a_model_of_another_family_is_refused_before_anything_is_made(tmp_path):
    _, other = copies(diffusion_files("pocket").source.path, tmp_path)
    path = tmp_path / "stray" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_per_block": 3}))
    with pytest.raises(UnsupportedModel, match="the UNet has layers_per_block = 3"):
        diffusion_files(other)


@pytest.fixture
def checks(monkeypatch):
    """Return the sources that were checked with torch; a file is known at once."""
    seen = []
    monkeypatch.setattr(diffusion, "check_model", seen.append)
    monkeypatch.setattr(stat_cache, "SETTLED_NS", -(10**12))
    return seen


def test_a_model_is_checked_to_the_last_tensor_once_for_each_state_of_its_files(
    tiny_model_directory, tmp_path, checks
):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    for _ in range(2):
        diffusion_files.cache_clear()
        diffusion_files(str(model))
    assert checks == [Folder(model)]
    config = model / "text_encoder" / "config.json"
    config.write_text(config.read_text() + " ")
    diffusion_files.cache_clear()
    diffusion_files(str(model))
    assert checks == [Folder(model)] * 2


def test_what_a_model_says_is_checked_before_its_files_are_read_whole(
    tiny_model_directory, tmp_path, checks
):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    scheduler = model / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"trained_betas": [0.1]}))
    (model / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="is empty"):
        diffusion_files(str(model))
    shutil.copytree(tiny_model_directory / "vae", model / "vae", dirs_exist_ok=True)
    with pytest.raises(UnsupportedModel, match="trained_betas is"):
        diffusion_files(str(model))
    assert checks == []


def test_a_tensor_that_is_missing_is_found_by_planning(tiny_model_directory, tmp_path):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    file = model / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    del weights["final_layer_norm.bias"]
    save_file(weights, file)
    with pytest.raises(ModelUnavailable, match=r"1 missing \(final_layer_norm\.bias\)"):
        diffusion_files(str(model))


@pytest.mark.parametrize(
    ("part", "settings", "said"),
    [
        ("vae", {"latent_channels": 8}, "latents of 4 channels and .* the VAE gives 8"),
        ("text_encoder", {"hidden_size": 32}, "prompts of 16, but .* the text encoder 32"),
        ("text_encoder", {"vocab_size": 40}, "tokenizer knows 58 tokens, and the text encoder 40"),
    ],
)
def test_parts_of_several_models_are_refused(tmp_path, part, settings, said):
    model = write_model(tmp_path / "model", **{part: settings})
    with pytest.raises(UnsupportedModel, match=said):
        diffusion_files(str(model))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "scheduler"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is missing"),
        ("version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
        ('{"in_chan', "is cut short, damaged or no json file"),
    ],
    ids=["missing", "pointer", "cut short"],
)
def test_a_configuration_that_is_none_is_named(tiny_model_directory, tmp_path, part, text, said):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    (file,) = (model / part).glob("*config.json")
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(ModelUnavailable) as refused:
        diffusion_files(str(model))
    assert f"{file} {said}" in str(refused.value)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("vae", {"act_fn": "bogus"}, "vae cannot be made of its settings: activation function"),
        ("unet", {"norm_num_groups": 3}, "unet cannot be made of its settings: "),
        ("text_encoder", {"num_attention_heads": 3}, "text_encoder cannot be made of its settings"),
    ],
)
def test_settings_of_which_no_part_can_be_made_are_named(
    tiny_model_directory, tmp_path, part, change, said
):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    file = model / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelUnavailable) as refused:
        diffusion_files(str(model))
    assert said in str(refused.value)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_part_given_as_a_vae_is_named_as_what_it_is(tiny_model_directory, part):
    with pytest.raises(UnsupportedModel, match=r"config\.json is for .* with AutoencoderKL"):
        diffusion_files("pocket", str(tiny_model_directory / part))


@pytest.mark.parametrize("named", [True, False])
def test_a_model_of_another_kind_is_named_as_what_it_is(tmp_path, named):
    (tmp_path / "transformer").mkdir()
    if named:
        (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    with pytest.raises(ModelUnavailable) as refused:
        diffusion_files(str(tmp_path))
    assert ("it is a StableDiffusion3Pipeline" in str(refused.value)) == named
    assert "with a transformer in place of a UNet: use one of Stable D" in str(refused.value)


def test_digests_of_the_pocket_models_are_what_stores_know():
    assert diffusion_files("pocket").digest.startswith("436bdb44539f18aa")
    assert segmenter_files("pocket").digest.startswith("27b27b05e15acfce")
