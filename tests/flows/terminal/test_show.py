"""What `show` writes beside its panel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import finished_job
from support.lora_forms import write_lora
from support.tiny_job import write_job

from adaptivedrag.config import Runtime
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora_files import find_lora
from artifacts import ArtifactStore, Picture
from flows.outcomes import InvalidRequest
from flows.terminal.errors import EXPECTED
from flows.terminal.show import (
    copy_artifacts,
    only_one,
    refuse_several,
    save_animation,
    save_lora,
)
from stages import Job, NotMade
from stages.jobs.reader import load_job
from stages.pipeline import TRACKER
from stages.planning.plan import plan_edits
from stages.reports.animation import frames
from stages.workbench import Workbench


@pytest.fixture
def job(tmp_path, tiny_model_directory):
    return write_job(tmp_path / "job", tiny_model_directory)


def test_the_lora_of_an_edit_is_written_for_other_tools(job, tmp_path):
    store, target = tmp_path / "store", tmp_path / "lora.safetensors"
    with pytest.raises(InvalidEdit, match="has no LoRA in the store"):
        save_lora(job, "edit-0-0", target, str(store))
    (edit,) = load_job(job).edits
    Workbench(ArtifactStore.open(store), Runtime(threads=1)).perform("train_lora", edit)
    save_lora(job, "edit-0-0", target, str(store))
    assert find_lora(target).path == target
    with pytest.raises(InvalidEdit, match="cannot be written"):
        save_lora(job, "edit-0-0", tmp_path / "none" / "lora.safetensors", str(store))


def test_a_lora_for_another_model_is_refused_while_edits_are_planned(job, tmp_path):
    write_lora(job.parent / "pocket.safetensors", "pocket")
    job.write_text('lora = "pocket.safetensors"\n' + job.read_text())
    store = ArtifactStore.open(tmp_path / "store")
    with pytest.raises(
        InvalidEdit, match=r"lora .*pocket\.safetensors has an update of"
    ) as refused:
        plan_edits(load_job(job).edits, store)
    assert "\n" not in str(refused.value)
    assert not store.backend.folders("attempts")


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Path, str]:
    """A job of three edits, of which the first two are done, and its store."""
    folder = tmp_path_factory.mktemp("shown")
    path, store = finished_job.write_job(folder, 3), ArtifactStore.open(folder / "store")
    with (folder / "edits.jsonl").open("a") as file:
        file.write('{"id": "edit-bad", "image": "away.png", "drags": []}\n')
    for edit in load_job(path).edits[:2]:
        finished_job.finish(edit, store, shade=77)
    return path, store.location


def test_what_a_stage_made_is_copied_file_by_file_and_drawn(shown, tmp_path):
    path, store = shown
    assert copy_artifacts(path, "edit-0", (), "build_mask", tmp_path / "one", store) == 0
    copied = {each.relative_to(tmp_path / "one") for each in (tmp_path / "one").rglob("*.*")}
    assert {Path("manifest.json"), Path("picture.png"), Path("drawn-mask.png")} < copied
    made = Job(path, store=store)["edit-0"]
    for name, data in made.files("build_mask").items():
        assert (tmp_path / "one" / name).read_bytes() == data
    mask = np.asarray(Image.open(tmp_path / "one" / "picture.png"))
    assert np.array_equal(mask > 0, made.mask)
    assert Image.open(tmp_path / "one" / "drawn-mask.png").size == (96, 64)


def test_a_stage_of_all_that_are_selected_is_copied_and_what_is_not_made_is_named(
    shown, tmp_path, capsys
):
    path, store = shown
    chosen = ["even", "edit-1", "edit-b*"]
    assert copy_artifacts(path, None, chosen, "sample_image", tmp_path, store) == 1
    assert {each.name for each in tmp_path.iterdir()} == {"edit-0", "edit-1"}
    assert (np.asarray(Image.open(tmp_path / "edit-1" / "image.png")) == 77).all()
    output = capsys.readouterr().out
    assert "edit edit-bad (line 4): " in output
    assert "edit edit-2: sample_image is not there, it is not made yet: run `adapt" in output
    assert f"Copied sample_image of 2 edits to {tmp_path}" in output


@pytest.mark.parametrize(
    ("name", "select", "stage", "reason"),
    [
        ("edit-2", (), "sample_image", "edit edit-2: sample_image is not there"),
        ("edit-0", (), "sample_images", "there is no stage 'sample_images'"),
        ("edit-0", (), None, "name it with --stage"),
        (None, (), "sample_image", "EDIT is missing"),
        ("edit-0", ["even"], "sample_image", "--select chooses edits in place of 'edit-0'"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_one_line(shown, tmp_path, name, select, stage, reason):
    path, store = shown
    with pytest.raises(EXPECTED, match=reason) as refused:
        copy_artifacts(path, name, select, stage, tmp_path / "to", store)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "to").exists()


def test_nothing_is_written_over(shown, tmp_path):
    path, store = shown
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InvalidRequest, match="is not empty: name a new folder"):
        copy_artifacts(path, "edit-0", (), "build_mask", tmp_path, store)
    with pytest.raises(InvalidEdit, match=r"--copy-to .*/kept cannot be written \(Not a dir"):
        copy_artifacts(path, "edit-0", (), "build_mask", tmp_path / "kept", store)
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_an_animation_goes_along_the_path_to_the_result(shown, tmp_path):
    path, store = shown
    save_animation(path, "edit-0", tmp_path / "drag.webp", store)
    with Image.open(tmp_path / "drag.webp") as animation:
        assert animation.n_frames == 1 + 11 + 8 + 1
        assert animation.size == (512, 341 + 24)
        animation.seek(20)
        last = np.asarray(animation.convert("RGB"))[:341]
    assert np.abs(last.astype(int) - 77).max() <= 3
    with pytest.raises(InvalidRequest, match=r"is not named as WebP is: end it in \.webp"):
        save_animation(path, "edit-0", tmp_path / "drag.gif", store)
    with pytest.raises(NotMade, match="edit-2: optimize_latent is not there"):
        save_animation(path, "edit-2", tmp_path / "none.webp", store)


def test_frames_say_what_they_are(shown):
    path, location = shown
    job, store = Job(path, store=location), ArtifactStore.open(location)
    fade = ["cross-fade to the result"] * 8
    steps = [f"step {step} of 11" for step in range(1, 12)]
    captions = [frame.caption for frame in frames(job["edit-1"])]
    assert captions == ["the image", *steps, *fade, "the result"]
    (plan,) = plan_edits([job["edit-1"].edit], store)
    pixels = np.full((64, 96, 3), 9, np.uint8)
    moved = {"tracks": np.zeros((2, 1, 2), np.float32), "picture": Picture(pixels)}
    summary = plan.drag
    store.publish(plan.action(TRACKER), moved, finished_job.CIRCUMSTANCES, summary, replace=True)
    finished_job.finish(job["edit-1"].edit, store)
    captions = [frame.caption for frame in frames(job["edit-1"])]
    assert captions == ["the image", "step 1 of 1", "moved", *fade, "the result"]


def test_only_one_thing_is_taken_away_at_a_time():
    refuse_several({"--lora": "a", "--animation": None})
    with pytest.raises(InvalidRequest, match="--lora and --copy-to are each done alone"):
        refuse_several({"--lora": "a", "--animation": None, "--copy-to": "b"})
    with pytest.raises(InvalidRequest, match="add --copy-to DIR"):
        only_one("edit-0", stage="build_mask")
