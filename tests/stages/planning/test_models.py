"""Which files of a model's folder enter its digest."""

import json
import shutil

import pytest

from adaptivedrag.errors import UnsupportedModel
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
    clean, stray = copies(diffusion_files("pocket").directory, tmp_path, *STRAYS)
    assert diffusion_files(clean).digest == diffusion_files(stray).digest


def test_files_that_are_never_loaded_do_not_enter_the_digest_of_a_segmenter(tmp_path):
    clean, stray = copies(segmenter_files("pocket").path, tmp_path, *STRAYS)
    assert segmenter_files(clean).digest == segmenter_files(stray).digest


@pytest.mark.parametrize("name", ["unet/config.json", "tokenizer/tokenizer.json"])
def test_files_that_are_loaded_enter_it(tmp_path, name):
    clean, other = copies(diffusion_files("pocket").directory, tmp_path)
    path = tmp_path / "stray" / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert diffusion_files(clean).digest != diffusion_files(other).digest


def test_a_model_of_another_family_is_refused_before_anything_is_made(tmp_path):
    _, other = copies(diffusion_files("pocket").directory, tmp_path)
    path = tmp_path / "stray" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_per_block": 3}))
    with pytest.raises(UnsupportedModel, match="the UNet has layers_per_block = 3"):
        diffusion_files(other)


def test_digests_of_the_pocket_models_are_what_stores_know():
    assert diffusion_files("pocket").digest.startswith("436bdb44539f18aa")
    assert segmenter_files("pocket").digest.startswith("27b27b05e15acfce")
