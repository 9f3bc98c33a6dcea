"""No difference is ignored in silence: it changes a key, or a note names it.

Every key of a job, every key of its edit and every file that they name is changed alone. The
settings of the stages have a matrix of their own in `test_invalidation.py`.
"""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from support.actions import actions
from support.lora_forms import write_lora

from adaptivedrag.model.architectures import architecture_of
from adaptivedrag.model.source import Folder
from adaptivedrag.model.weights import find_segmenter
from adaptivedrag.segmenter.kinds import kind_of
from stages.jobs.reader import load_job
from stages.jobs.spec import EditSpec, JobSpec, parse_spec
from stages.pipeline import STAGES
from stages.planning.models import diffusion_files, segmenter_files

SIZE = 512  # constants are given for this size: no fitting hides a change

JOB = {
    "model": "model",
    "vae": None,
    "segmenter": "segmenter",
    "preset": "plus",
    "edits": "edits.jsonl",
    "image_root": "images",
    "mask_root": "masks",
    "follow_links": False,
    "use_mask": True,
    "pixel_limit": 1_000_000,
    "lora": "train",
    "dtype": "float32",
    "seed": 0,
    "working_size": 512,
    "variants": [],
}
EDIT = {
    "id": "edit",
    "image": "cat.png",
    "prompt": "a cat",
    "drags": [{"handle": [100, 100], "target": [140, 100]}],
    "mask": "mask.png",
    "tags": ["cats"],
    "settings": {"invert_image": {"num_steps": 40}},
}

CHANGED_JOB = {
    "model": "pocket",
    "vae": "vae",
    "segmenter": "pocket",
    "preset": "paper",
    "use_mask": False,
    "lora": "off",
    "dtype": "float16",
    "seed": 1,
    "working_size": 256,
}
CHANGED_EDIT = {
    "image": "dog.png",
    "prompt": "a dog",
    "drags": [{"handle": [100, 100], "target": [141, 100]}],
    "mask": None,
    "settings": {},
}

NAMES = {
    "edits": "the edits are read from another file: what they say counts",
    "image_root": "images are read from another folder: their pixels count",
    "mask_root": "masks are read from another folder: their pixels count",
    "follow_links": "takes pictures behind links, or refuses them",
    "variants": "are edits of their own, with the keys that a job has",
    "pixel_limit": "takes large pictures, or refuses them",
    "id": "names the result",
    "tags": "select edits",
    "scene": "names the truth that a result is judged by, afterwards",
}
"""Keys that change no pixel, with what they do."""


class Seen(NamedTuple):
    """What a job is known by: the keys of its stages, and the notes on it."""

    keys: dict[str, str]
    notes: tuple[str, ...]


def picture(path: Path, dot: tuple[int, int] | None = None, *, box: int = 0) -> None:
    """Draw a black picture, with one white pixel or a white square of `box` pixels around it."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    if dot:
        row, column = dot
        pixels[row : row + 1 + box, column : column + 1 + box] = 255
    Image.fromarray(pixels).save(path)


def write(folder: Path, job: dict[str, Any], edit: dict[str, Any]) -> None:
    """Write job and edit; a value of None leaves its key out."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in job.items() if value is not None]
    (folder / "job.toml").write_text("\n".join(lines) + "\n")
    line = {key: value for key, value in edit.items() if value is not None}
    (folder / job["edits"]).write_text(json.dumps(line) + "\n")


def seen(folder: Path) -> Seen:
    for found in (diffusion_files, segmenter_files):
        found.cache_clear()
    job = load_job(folder / "job.toml")
    assert not job.bad, [str(bad) for bad in job.bad]
    (edit,) = job.edits
    found = actions(edit, same_values=True)
    return Seen({name: action.key for name, action in found.items()}, edit.notes)


@pytest.fixture(scope="module")
def template(tmp_path_factory, tiny_model_directory) -> Path:
    """A job that names everything which a job can name."""
    folder = tmp_path_factory.mktemp("silent") / "job"
    folder.mkdir()
    picture(folder / "images" / "cat.png", (7, 9))
    picture(folder / "images" / "dog.png", (9, 7))
    picture(folder / "masks" / "mask.png", (80, 80), box=100)
    shutil.copytree(tiny_model_directory, folder / "model")
    shutil.copytree(tiny_model_directory / "vae", folder / "vae")
    with (folder / "vae" / "config.json").open("a") as file:
        file.write("\n")  # another VAE than the model's own, though it reads alike
    shutil.copytree(find_segmenter("pocket"), folder / "segmenter")
    with (folder / "segmenter" / "config.json").open("a") as file:
        file.write("\n")  # another segmenter than the pocket one, though it reads alike
    write(folder, JOB, EDIT)
    return folder


@pytest.fixture
def folder(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "job"))


@pytest.fixture(scope="module")
def before(template) -> Seen:
    return seen(template)


def test_every_key_of_a_job_and_an_edit_is_in_the_matrix():
    tables = {stage.name for stage in STAGES}
    assert JobSpec.model_fields.keys() | tables == type(parse_spec({})).model_fields.keys()
    assert JobSpec.model_fields.keys() == CHANGED_JOB.keys() | (NAMES.keys() & JOB.keys())
    assert EditSpec.model_fields.keys() == CHANGED_EDIT.keys() | {"id", "tags", "scene"}


@pytest.mark.parametrize("key", sorted(CHANGED_JOB))
def test_a_key_of_the_job_changes_a_key_or_is_named(folder, before, key):
    write(folder, JOB | {key: CHANGED_JOB[key]}, EDIT)
    assert seen(folder) != before


def test_a_key_of_a_variant_changes_a_key_or_is_named(folder):
    """Also where an edit sets something itself: what a variant sets goes on top."""
    tables = [
        f'[[variants]]\nname = "{key}"\n{key} = {json.dumps(value)}\n'
        for key, value in CHANGED_JOB.items()
    ]
    more = '[[variants]]\nname = "steps"\n[variants.invert_image]\nnum_steps = 60\n'
    write(folder, JOB | {"variants": None}, EDIT)
    with (folder / "job.toml").open("a") as file:
        file.write("".join([*tables, more]))
    job = load_job(folder / "job.toml")
    as_it_is, *varied = [
        ({name: action.key for name, action in found.items()}, edit.notes)
        for edit in job.edits
        for found in [actions(edit, same_values=True)]
    ]
    assert [edit.variant for edit in job.edits] == ["", *CHANGED_JOB, "steps"]
    assert as_it_is not in varied
    assert any("num_steps is not used" in note for note in varied[-1][1])


@pytest.mark.parametrize("key", sorted(CHANGED_EDIT))
def test_a_key_of_the_edit_changes_a_key_or_is_named(folder, before, key):
    write(folder, JOB, EDIT | {key: CHANGED_EDIT[key]})
    assert seen(folder) != before


def test_names_change_nothing(folder, before):
    """They are free: a renamed edit, folder or file is the same work."""
    names = {"edits": "more.jsonl", "image_root": "pictures", "mask_root": "regions"}
    names["follow_links"] = True
    for name in ("image_root", "mask_root"):
        (folder / JOB[name]).rename(folder / names[name])
    scene = {"scene": {"number": 1, "drag": 0}}
    write(folder, JOB | names, EDIT | {"id": "other", "tags": ["dogs"]} | scene)
    assert seen(folder) == before


def changes_of_files(folder: Path) -> dict[str, Path]:
    """Return every file that is read of the models."""
    model, segmenter = Folder(folder / "model"), folder / "segmenter"
    return {
        path.relative_to(folder).as_posix(): path
        for path in (
            *architecture_of(model).files(model).values(),
            *kind_of(segmenter).files(segmenter),
        )
    }


def test_every_file_of_a_model_changes_a_key(folder, before):
    found = changes_of_files(folder)
    assert len(found) > 10
    for name, path in found.items():
        whole = path.read_bytes()
        path.write_bytes(_with_another_byte(whole, path))
        assert seen(folder).keys != before.keys, name
        path.write_bytes(whole)


def _with_another_byte(whole: bytes, path: Path) -> bytes:
    """Change the last number of weights; add a blank to a text, which every reader takes."""
    if path.suffix == ".safetensors":
        return whole[:-1] + bytes([whole[-1] ^ 1])
    if path.name == "merges.txt":  # its first line is a comment, and no line may be blank
        return whole.replace(b"0.2", b"0.3")
    return whole + b"\n"


def test_a_file_of_a_model_that_is_not_read_changes_nothing(folder, before):
    (folder / "model" / "README.md").write_text("another")
    (folder / "model" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    assert seen(folder) == before


@pytest.mark.parametrize("name", ["images/cat.png", "masks/mask.png"])
def test_one_pixel_of_a_picture_changes_a_key(folder, before, name):
    dots = {"images/cat.png": ((7, 10), 0), "masks/mask.png": ((80, 80), 101)}
    dot, box = dots[name]
    picture(folder / name, dot, box=box)
    assert seen(folder).keys != before.keys


def test_a_lora_file_changes_a_key(folder):
    found = []
    for value in (1.0, 2.0):
        write_lora(folder / "own.safetensors", str(folder / "model"), value)
        write(folder, JOB | {"lora": "own.safetensors"}, EDIT)
        found.append(seen(folder).keys)
    assert found[0] != found[1]


def test_a_setting_of_another_method_is_named(folder, before):
    settings = EDIT["settings"] | {"optimize_latent": {"steps": 7}}
    write(folder, JOB, EDIT | {"settings": settings})
    after = seen(folder)
    assert after.keys == before.keys
    assert any("optimize_latent.steps" in note for note in after.notes)
