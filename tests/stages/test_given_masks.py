"""A mask that an edit names is where the image may change, in every preset."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.actions import actions
from support.quick_segmenter import write_quick_segmenter

from adaptivedrag.config import Runtime
from adaptivedrag.presets import PRESETS
from artifacts import ArtifactStore
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job
from stages.jobs.toml import toml_document
from stages.pipeline import STAGE_NAMES
from stages.planning.plan import explain_edit
from stages.workbench import Workbench

SIZE = 64
QUICK = {
    "lora": "off",
    "invert_image": {"num_steps": 3, "inverted_steps": 2},
    "extract_superpixels": {"source": "rgb"},
}
QUICK_DRAGS = {
    "optimization": {"steps": 2, "max_steps": 2, "learning_rate": 0.1},
    "alternation": {"levels": 2, "trackings": 1, "learning_rate": 0.1},
    "warp": {},
}
DRAG = {"handle": [20, 32], "target": [36, 32]}


@pytest.fixture(scope="module")
def folder(tiny_model_directory, tmp_path_factory) -> Path:
    """An image with a mask of its left half, the inverse, and a segmenter."""
    folder = tmp_path_factory.mktemp("masks")
    cells = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((SIZE, SIZE)).save(folder / "cat.png")
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 2 + 8] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(255 - mask).save(folder / "inverse.png")
    write_quick_segmenter(folder / "segmenter")
    (folder / "model").symlink_to(tiny_model_directory)
    return folder


@pytest.fixture(scope="module")
def one_bench(folder) -> Workbench:
    """One for all presets, so that the model is loaded once."""
    return Workbench(ArtifactStore.open(folder / "store"), Runtime(threads=1))


def edits(folder: Path, preset: str, own: dict | None = None, **keys) -> dict[str, Edit]:
    """Load an edit with the mask, with its inverse and without, by those names.

    Args:
        own: settings of each edit.
        keys: of the job.
    """
    own = own or {}
    automatic = own
    if PRESETS[preset].build_mask.mode == "user":  # where none is given, a mode has to be named
        automatic = own | {"build_mask": {"mode": "superpixel_line"}}
    lines = [
        {"id": "mask", "mask": "mask.png", "settings": own},
        {"id": "inverse", "mask": "inverse.png", "settings": own},
        {"id": "none", "settings": automatic},
    ]
    text = "".join(
        json.dumps(line | {"image": "cat.png", "drags": [DRAG]}) + "\n" for line in lines
    )
    (folder / "edits.jsonl").write_text(text)
    quick = QUICK | {"optimize_latent": QUICK_DRAGS[PRESETS[preset].optimize_latent.method]}
    job = {"model": "model", "segmenter": "segmenter", "preset": preset, **quick, **keys}
    (folder / "job.toml").write_text(toml_document(job))
    loaded = load_job(folder / "job.toml")
    assert not loaded.bad
    return {edit.id: edit for edit in loaded.edits}


def keys(edit: Edit) -> dict[str, str]:
    return {name: action.key for name, action in actions(edit, same_values=False).items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_mask_its_inverse_and_none_have_three_keys(folder, preset):
    found = [keys(edit) for edit in edits(folder, preset).values()]
    for stage in ("build_mask", "optimize_latent", "sample_image"):
        assert len({key[stage] for key in found}) == 3
    assert len({key.get("invert_image") for key in found}) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_a_mask_and_its_inverse_have_two_results(folder, one_bench, preset):
    found = edits(folder, preset)
    images = []
    for name in ("mask", "inverse"):
        made = {stage: one_bench.perform(stage, found[name]) for stage in STAGE_NAMES[1:]}
        images.append(one_bench.store.read(made["sample_image"])["image"])
        shown = one_bench.store.read(made["build_mask"])["picture"]
        assert np.array_equal(shown, np.asarray(Image.open(folder / f"{name}.png")))
    assert not np.array_equal(*images)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "dragdiffusion"])
def test_masks_that_are_left_aside_change_no_key(folder, preset):
    found = edits(folder, preset, use_mask=False)
    assert keys(found["mask"]) == keys(found["inverse"]) == keys(found["none"])
    assert keys(found["mask"]) == keys(edits(folder, preset)["none"])
    assert found["mask"].notes == ("its mask is left aside, because use_mask is false",)
    assert found["none"].notes == ()


def test_a_mode_that_asks_for_the_mask_has_it_though_masks_are_left_aside(folder):
    left, used = (
        edits(folder, "dragdiffusion", use_mask=use_mask)["mask"] for use_mask in (False, True)
    )
    assert keys(left) == keys(used)
    assert left.notes == (
        'its mask is used though use_mask is false, because build_mask.mode is "user"',
    )
    assert used.notes == ()


def test_a_mode_beside_a_mask_is_named_as_not_used(folder):
    said = {"build_mask": {"mode": "swept"}}
    note = 'build_mask.mode = "swept" is not used, because its mask says what may change'
    of_the_job = edits(folder, "paper", **said)
    own = edits(folder, "paper", said)
    assert of_the_job["mask"].notes == own["mask"].notes == (note,)
    assert of_the_job["none"].notes == own["none"].notes == ()
    assert keys(own["mask"]) == keys(edits(folder, "paper")["mask"])


def test_why_names_the_mask(folder, bench, store):
    found = edits(folder, "paper")
    for stage in ("extract_superpixels", "build_mask"):
        bench.perform(stage, found["none"])
    why = str(explain_edit(found["mask"], store)["build_mask"].explanation)
    assert "build_mask.mode superpixel_line → user" in why
    assert "input user_mask is used now" in why
    bench.perform("build_mask", found["mask"])
    why = str(explain_edit(found["inverse"], store)["build_mask"].explanation)
    assert why == "input user_mask changed"
