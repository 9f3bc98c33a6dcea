"""Checkpoints in the store: what a stage that was cut off leaves, and what becomes of it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adaptivedrag.config import Runtime
from adaptivedrag.errors import NotFinite, Stopped
from artifacts import ArtifactStore
from stages.planning.provenance import provenance, provenance_lines
from stages.workbench import Workbench

BEFORE = ("train_lora", "invert_image", "extract_superpixels", "build_mask")
EVERY_STEP = Runtime(threads=1, checkpoint_every=1)


class Cut(Exception):
    """The end of the process, as far as these tests go."""


@pytest.fixture
def make_store(tmp_path):
    """Opens a store by name; gives it and its folder."""
    return lambda name: (ArtifactStore.open(tmp_path / name), tmp_path / name)


def cut_after(step):
    def on_step(done, _steps):
        if done == step:
            raise Cut

    return on_step


def made_whole(store, edit, stage):
    bench = Workbench(store, EVERY_STEP)
    for earlier in (*BEFORE, "optimize_latent"):
        record = bench.perform(earlier, edit)
        if earlier == stage:
            return record
    raise AssertionError(stage)


def progress_of(location):
    return [path for path in (location / "progress").rglob("*") if path.is_file()]


@pytest.mark.parametrize("stage", ["train_lora", "optimize_latent"])
def test_a_stage_goes_on_from_its_last_checkpoint_to_the_same_bytes(make_store, edit, stage):
    (cut_store, cut_place), (whole_store, _) = make_store("cut"), make_store("whole")
    bench = Workbench(cut_store, EVERY_STEP)
    if stage == "optimize_latent":
        for earlier in BEFORE:
            bench.perform(earlier, edit)
    with pytest.raises(Cut):
        bench.perform(stage, edit, on_step=cut_after(2))
    assert progress_of(cut_place)
    resumed = Workbench(cut_store, EVERY_STEP).perform(stage, edit)
    assert resumed.summary["resumed_after"] == 1
    whole = made_whole(whole_store, edit, stage)
    assert whole.summary["resumed_after"] == 0
    assert resumed.object == whole.object
    told = [
        " ".join(provenance_lines(provenance(edit, store))) for store in (cut_store, whole_store)
    ]
    assert ["after a checkpoint of step 1" in lines for lines in told] == [True, False]
    assert not progress_of(cut_place)


@pytest.mark.parametrize("stage", ["train_lora", "optimize_latent"])
def test_a_stage_that_is_stopped_loses_no_step(make_store, edit, stage):
    (store, _), (whole_store, _) = make_store("stopped"), make_store("whole")
    bench = Workbench(store, Runtime(threads=1))
    if stage == "optimize_latent":
        for earlier in BEFORE:
            bench.perform(earlier, edit)

    def stop_after_one(done, _steps):
        if done == 1:
            raise Stopped

    with pytest.raises(Stopped):
        bench.perform(stage, edit, on_step=stop_after_one)
    resumed = bench.perform(stage, edit)
    assert resumed.summary["resumed_after"] == 1
    assert resumed.object == made_whole(whole_store, edit, stage).object


def test_a_forced_rerun_starts_anew(make_store, edit):
    store, _ = make_store("forced")
    with pytest.raises(Cut):
        Workbench(store, EVERY_STEP).perform("train_lora", edit, on_step=cut_after(2))
    record = Workbench(store, EVERY_STEP).perform("train_lora", edit, force=True)
    assert record.summary["resumed_after"] == 0


def test_an_edit_that_diverges_leaves_its_last_good_state(make_store, edit):
    store, place = make_store("diverged")
    wild = edit.config.merged({"optimize_latent": {"learning_rate": 1e30}})
    edit, bench = replace(edit, config=wild), Workbench(store, Runtime(threads=1))
    for earlier in BEFORE:
        bench.perform(earlier, edit)
    with pytest.raises(NotFinite, match="after 2 drag steps"):
        bench.perform("optimize_latent", edit)
    kept = progress_of(place)
    assert [path.parent.name for path in kept if path.suffix == ".safetensors"] == ["00000001"]


@pytest.fixture
def blind_model(tmp_path, tiny_model_directory):
    """The tiny model with an encoder that sees nothing but NaN."""
    folder = shutil.copytree(tiny_model_directory, tmp_path / "blind")
    (path,) = (folder / "vae").glob("*.safetensors")
    tensors = load_file(path)
    tensors["quant_conv.bias"][:] = np.nan
    save_file(tensors, path, {"format": "pt"})
    return str(folder)


def test_a_stage_that_resumes_nothing_leaves_no_state_when_it_is_not_finite(
    make_store, edit, blind_model
):
    store, place = make_store("blind")
    blind = replace(edit, model=blind_model, lora="off")
    with pytest.raises(NotFinite, match="the VAE encodes the picture"):
        Workbench(store, EVERY_STEP).perform("invert_image", blind)
    assert not progress_of(place)
