"""Judging pictures: what is measured, what names an evaluation, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from adaptivedrag import metrics
from adaptivedrag.metrics.controls import FRINGE
from adaptivedrag.presets import PRESETS
from adaptivedrag.scenes import render
from artifacts import ArtifactStore, StatCache
from stages import evaluate
from stages.evaluate import (
    BLUR,
    CONTROLS,
    DO_NOTHING,
    ERASE,
    FLAT,
    Candidate,
    Instruments,
    Judge,
    NoRegion,
    NotTheScene,
    OtherSize,
    control_picture,
    reconstruction,
    scene_drags,
)
from stages.jobs.edit import SceneEdit
from stages.jobs.image_files import inspect_image, inspect_mask
from stages.jobs.importers import import_dragscenes
from stages.jobs.reader import load_job
from stages.pipeline import STAGE_NAMES
from stages.planning.plan import plan_edits
from stages.reports.score_tables import SUMS
from stages.stage import InputChanged

PICTURE_METRICS = {"dai_1", "dai_1_legacy", "dai_20", "dai_20_legacy", "witness_distance"}
TRUTH_METRICS = {
    "arrival_recovery",
    "departure_recovery",
    *SUMS,
    "preservation",
    "true_distance",
    "true_share",
    "content_found",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    import_dragscenes(folder, [(0, 0), (5, 3)], size=64)
    return folder


@pytest.fixture
def scene_edit(dataset):
    return load_job(dataset / "job.toml").edits[0]


@pytest.fixture
def judge(store: ArtifactStore, tiny_model_directory) -> Judge:
    """Measures with the tiny model's features."""
    return Judge(store, Instruments(str(tiny_model_directory), "cpu", None, None, ()))


def picture(pixels, name: str = "made here") -> Candidate:
    return Candidate(None, name, lambda: pixels)


def never() -> np.ndarray:
    raise AssertionError("it was judged before")


def truth(edit) -> np.ndarray:
    return render(scene_drags(edit.scene.number)[edit.scene.drag].after, edit.image.width).image


def test_the_true_result_has_full_marks(judge, scene_edit):
    found = judge.judge(scene_edit, picture(truth(scene_edit))).measures
    assert found["arrival_recovery"] == [1]
    assert found["departure_recovery"] == [1]
    assert found["arrival_error"] == found["departure_error"] == [0]
    nothing = judge.judge(scene_edit, Candidate.of_control(DO_NOTHING, scene_edit)).measures
    for name in ("arrival_at_stake", "departure_at_stake"):
        assert found[name] == nothing[name] == nothing[name.replace("at_stake", "error")] != [0]
    assert found["preservation"] == [99]
    assert found["true_share"] == [1]
    assert found["true_distance"] == pytest.approx([0], abs=1e-6)
    assert found["content_found"] == [1]


def test_everything_is_measured_of_a_scene_with_a_mask(judge, scene_edit):
    found = judge.judge(scene_edit, Candidate.of_control(BLUR, scene_edit))
    features = {"matched_distance", "masked_distance"}
    assert found.measures.keys() == TRUTH_METRICS | PICTURE_METRICS | features
    assert found.kind == "move"
    assert len(found.measures["matched_distance"]) == len(scene_edit.drags)


def test_what_was_judged_is_read_from_the_store(judge, scene_edit):
    first = judge.judge(scene_edit, picture(truth(scene_edit)))
    assert judge.judge(scene_edit, Candidate(None, "made here", never)) == first


def test_a_witness_that_was_asked_in_its_job_is_not_asked_again(judge, store, scene_edit):
    given = replace(picture(truth(scene_edit), "witnessed"), witnessed=(1.5,))
    assert judge.judge(scene_edit, given).measures["witness_distance"] == [1.5]
    (record,) = store.records_of("evaluate")
    assert (record.models.keys(), record.config.get("witness")) == ({"dift"}, None)


def test_features_of_an_image_are_made_once_for_all_rows(judge, dataset, monkeypatch):
    edits = load_job(dataset / "job.toml").edits
    made = []
    features = Judge._features

    def counted(self, files, pixels, prompt):
        made.append(prompt)
        return features(self, files, pixels, prompt)

    monkeypatch.setattr(Judge, "_features", counted)
    monkeypatch.setattr(judge.store, "lookup", lambda *_: None)

    def row(name: str, judge: Judge) -> list:
        made.clear()
        controls = [Candidate.of_control(name, edit) for edit in edits]
        found = zip(edits, controls, strict=True)
        return [judge.judge(edit, each).measures["matched_distance"] for edit, each in found]

    first = row(BLUR, judge)
    assert len(made) == 4  # the pictures and both images
    flat = row(FLAT, judge)
    assert len(made) == 2
    row(DO_NOTHING, judge)
    assert not made
    monkeypatch.setattr(evaluate, "SOURCES", 1)
    forgetful = Judge(judge.store, judge.instruments)
    assert [row(BLUR, forgetful), row(FLAT, forgetful)] == [first, flat]
    assert len(forgetful._sources) == 1


def test_features_of_a_result_that_comes_again_are_not_made_again(judge, scene_edit, monkeypatch):
    """All edits of an image have one reconstruction."""
    made, features = [], metrics.dift_features
    monkeypatch.setattr(metrics, "dift_features", lambda *of: made.append(of) or features(*of))
    first = judge.judge(scene_edit, picture(truth(scene_edit), "one"))
    assert judge.judge(scene_edit, picture(truth(scene_edit), "another")) == first
    assert len(made) == 2  # of the image and of the result
    judge.judge(scene_edit, Candidate.of_control(FLAT, scene_edit))
    assert len(made) == 3


def test_an_evaluation_is_named_by_all_that_it_depends_on(judge, store, scene_edit):
    judge.judge(scene_edit, picture(truth(scene_edit)))
    (record,) = store.records_of("evaluate")
    changes = [
        (scene_edit, Candidate(None, "another", never), judge),
        (replace(scene_edit, prompt="a dog"), Candidate(None, "made here", never), judge),
        (
            scene_edit,
            Candidate(None, "made here", never),
            Judge(store, replace(judge.instruments, fidelity=lambda *_: 1.0)),
        ),
    ]
    for edit, candidate, other in changes:
        with pytest.raises(AssertionError, match="judged before"):
            other.judge(edit, candidate)
    assert record.config["seed"] == 0
    assert record.inputs.keys() == {"image", "prompt", "drags", "user_mask"}
    assert record.models.keys() == {"dift", "witness"}


def test_a_record_says_threads_and_memory_as_those_of_other_stages_do(judge, store, scene_edit):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        judge.judge(scene_edit, picture(truth(scene_edit), "with two threads"))
    finally:
        torch.set_num_threads(threads)
    (record,) = store.records_of("evaluate")
    assert record.circumstances.threads == 2
    assert record.circumstances.peak_memory > 0


def test_a_mask_that_changed_while_pictures_are_judged_is_refused(judge, store, edit, tmp_path):
    pixels = np.zeros((edit.image.height, edit.image.width), np.uint8)
    pixels[8:20, 8:20] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    mask = inspect_mask(tmp_path / "mask.png", StatCache())
    masked = replace(edit, mask_path=tmp_path / "mask.png", mask_digest=mask.digest)
    pixels[30:40, 30:40] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(InputChanged, match=r"mask\.png changed after it was planned"):
        judge.judge(masked, picture(np.array(Image.open(edit.image_path))))
    with pytest.raises(InputChanged, match=r"mask\.png changed"):
        control_picture(ERASE, masked)


def test_a_photograph_without_a_model_for_dift_has_no_mean_distance(store, edit):
    judge = Judge(store, Instruments(None, "cpu", None, None, ()))
    found = judge.judge(edit, Candidate.of_control(DO_NOTHING, edit))
    assert found.measures.keys() == PICTURE_METRICS
    assert found.kind == ""


def test_weights_that_are_not_there_are_named_with_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = Instruments.find()
    assert found.fidelity is None
    assert any(line.startswith("IF needs") and "fetch" in line for line in found.unavailable)


def test_a_picture_of_another_size_is_refused(judge, scene_edit):
    with pytest.raises(OtherSize, match="32x48 and the image 64x64"):
        judge.judge(scene_edit, picture(np.zeros((48, 32, 3), np.uint8)))


def test_an_edit_that_is_not_its_scene_is_refused(judge, scene_edit, tmp_path):
    nothing = Candidate.of_control(DO_NOTHING, scene_edit)
    with pytest.raises(NotTheScene, match="points are not those of its drag 1"):
        judge.judge(replace(scene_edit, scene=SceneEdit(0, 1)), nothing)
    with pytest.raises(NotTheScene, match="none is 30"):
        judge.judge(replace(scene_edit, scene=SceneEdit(0, 30)), nothing)
    other = tmp_path / "other.png"
    Image.fromarray(truth(scene_edit)).save(other)
    image = inspect_image(other, StatCache(tmp_path / "cache.sqlite"))
    with pytest.raises(NotTheScene, match="rendered otherwise"):
        judge.judge(replace(scene_edit, image_path=other, image=image), nothing)


def with_fringe(mask: np.ndarray) -> np.ndarray:
    return binary_dilation(mask, iterations=FRINGE)


def test_controls_change_only_where_the_part_is_or_comes(scene_edit):
    image = control_picture(DO_NOTHING, scene_edit)
    mask = with_fringe(np.asarray(Image.open(scene_edit.mask_path)) > 0)
    for name in (FLAT, BLUR):
        made = control_picture(name, scene_edit)
        assert (made != image).any()
        assert np.array_equal(made[~mask], image[~mask])
    assert (control_picture(ERASE, scene_edit) != image).any()


def test_controls_of_a_photograph_need_its_mask(edit, changed, tmp_path):
    with pytest.raises(NoRegion, match="edit face: it has no mask"):
        control_picture(ERASE, edit)
    mask = np.zeros((edit.image.height, edit.image.width), np.uint8)
    mask[40:60, 30:50] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    path = tmp_path / "mask.png"
    masked = changed(mask_path=path, mask_digest=inspect_mask(path, StatCache()).digest)
    for name in (ERASE, FLAT, BLUR):
        made = control_picture(name, masked)
        different = (made != control_picture(DO_NOTHING, edit)).any(axis=2)
        assert different.any()
        assert not different[~with_fringe(mask > 0)].any()
    assert len(CONTROLS) == 6


def test_reconstructing_drags_nothing_and_shares_lora_and_inversion(bench, store, edit):
    plain = reconstruction(edit)
    records = {name: bench.perform(name, plain) for name in STAGE_NAMES}
    inverted = store.read(records["invert_image"])["latents"][-1:]
    assert np.array_equal(store.read(records["optimize_latent"])["latent"], inverted)
    assert records["optimize_latent"].summary["unet_backwards"] == 0
    (plan,) = plan_edits([edit], store)
    assert plan.stages["train_lora"].key == records["train_lora"].key
    assert plan.stages["invert_image"].key == records["invert_image"].key


def test_presets_of_one_inversion_share_the_reconstruction(edit):
    """What tells them apart is what they do with a drag, and nothing is dragged."""
    presets = ("paper", "plus", "dragdiffusion")
    assert len({reconstruction(replace(edit, config=PRESETS[name])) for name in presets}) == 1
