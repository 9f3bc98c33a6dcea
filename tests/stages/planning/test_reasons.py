"""Why a stage has to run, and what it will take, told from records of a real store."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.finished_job import CIRCUMSTANCES, finish, write_job
from support.lora_forms import write_lora
from support.tiny_models import shared_model

from adaptivedrag.model.lora_files import find_lora
from adaptivedrag.warp import CONTENT_VERSION
from artifacts import ArtifactStore, TensorFile
from stages.jobs.edit import Edit, Job
from stages.jobs.reader import load_job
from stages.pipeline import BY_NAME
from stages.planning.forecast import Forecast, forecast
from stages.planning.plan import Status, explain_edit, plan_edits, plan_job
from stages.planning.resolved import Resolved
from stages.reports.plan_tables import forecast_lines

FITTED = "(fitted to the latents, 4.0 in the job)"


@pytest.fixture
def job(tmp_path) -> Job:
    return load_job(write_job(tmp_path / "job", edits=3))


@pytest.fixture
def edit(job, store) -> Edit:
    """The first edit of the job, done."""
    finish(job.edits[0], store)
    return job.edits[0]


def with_settings(edit: Edit, **sections) -> Edit:
    return replace(edit, config=edit.config.merged(sections))


def why(edit: Edit, store: ArtifactStore, stage: str) -> str:
    return explain_edit(edit, store)[stage].text


def make_lora_again(edit: Edit, store: ArtifactStore, value: float) -> None:
    """Publish another LoRA under the same key, as a forced rerun on other hardware may."""
    action = Resolved.of(edit).action(BY_NAME["train_lora"], {})
    payload = {"lora": TensorFile({"weight": np.full(3, value, np.float32)})}
    store.publish(action, payload, CIRCUMSTANCES, replace=True)


def folder_of(store: ArtifactStore, edit: Edit, stage: str) -> Path:
    (plan,) = plan_edits([edit], store)
    record = plan.stages[stage].record
    assert record
    return next(Path(store.location).glob(f"objects/*/{record.object}"))


def test_what_is_there_says_when_it_was_made(edit, store):
    found = explain_edit(edit, store)
    assert {reason.status for reason in found.values()} == {Status.HIT}
    assert why(edit, store, "train_lora") == "made 2024-01-01T00:00:00+00:00, record 1"


def test_what_was_never_made_says_so_and_what_waits_names_the_roots(job, store):
    assert why(job.edits[0], store, "train_lora") == "never made"
    assert why(job.edits[0], store, "sample_image") == (
        "needs train_lora, invert_image, build_mask, optimize_latent; train_lora miss: never made; "
        "extract_superpixels miss: never made"
    )


def test_settings_are_named_as_the_job_names_them(edit, store):
    other = with_settings(edit, optimize_latent={"learning_rate": 0.02}, dtype="float32", seed=4)
    assert why(other, store, "train_lora") == "dtype bfloat16 → float32; seed 0 → 4"
    follows = why(other, store, "optimize_latent")
    assert "train_lora miss: dtype bfloat16 → float32; seed 0 → 4; besides: dtype" in follows
    assert "optimize_latent.learning_rate 0.01 → 0.02" in follows
    shorter = with_settings(edit, invert_image={"inverted_steps": 30})
    assert why(shorter, store, "invert_image") == "invert_image.inverted_steps 35 → 30"
    assert "besides: invert_image.inverted_steps 35 → 30" in why(shorter, store, "sample_image")


def test_a_fitted_setting_says_that_it_is_and_what_the_job_says(edit, store):
    other = with_settings(edit, optimize_latent={"stop_distance": 4.0, "patience": 7})
    said = why(other, store, "optimize_latent")
    patience, distance = said.split("; ")
    assert patience == "optimize_latent.patience 40 → 7"
    assert distance.startswith("optimize_latent.stop_distance ")
    assert distance.endswith(FITTED)


def test_settings_and_the_image_that_were_not_used_before_are_used_now(edit, store):
    painted = with_settings(edit, sample_image={"holes": "paint", "composite": True})
    said = why(painted, store, "sample_image")
    assert said == (
        "sample_image.composite not used → True; sample_image.hole_rounds not used → 3; "
        "sample_image.holes not used → paint; seed not used → 0; input image is used now"
    )


def test_a_setting_that_is_not_used_any_more_has_not_been_fitted(job, store):
    painted = with_settings(job.edits[0], sample_image={"holes": "paint"})
    finish(painted, store)
    assert why(job.edits[0], store, "sample_image") == (
        "sample_image.hole_rounds 3 → not used; sample_image.holes paint → not used; "
        "seed 0 → not used"
    )


def test_a_setting_that_leaves_a_choice_is_used_all_the_same(edit, store):
    other = with_settings(edit, optimize_latent={"tracking_radius": 3})
    said = why(other, store, "optimize_latent")
    assert said.startswith("optimize_latent.tracking_radius None → ")


def test_a_smaller_working_image_is_named_by_its_sizes(edit, store):
    said = why(with_settings(edit, working_size=64), store, "train_lora")
    assert said == "working image 96x64 → 78x52"


def test_inputs_weights_and_versions_are_named(edit, store, tmp_path, monkeypatch):
    assert why(replace(edit, prompt="a dog"), store, "train_lora") == "input prompt changed"
    other = replace(edit, model=str(shared_model(seed=1)))
    assert why(other, store, "train_lora").startswith("model diffusion changed (weights ")
    colors = with_settings(edit, extract_superpixels={"source": "rgb"})
    said = why(colors, store, "extract_superpixels")
    assert said.endswith("features → rgb; model segmenter is not used any more")
    now = BY_NAME["build_mask"].version
    newer = replace(BY_NAME["build_mask"], version=now + 1)
    monkeypatch.setattr(
        "stages.planning.plan.STAGES",
        [newer if s.name == "build_mask" else s for s in BY_NAME.values()],
    )
    assert why(edit, store, "build_mask") == f"stage version {now} → {now + 1}"


def test_a_lora_that_is_off_or_from_a_file_is_named(edit, store, tmp_path):
    off = replace(edit, lora="off")
    assert why(off, store, "train_lora") == 'lora = "off"'
    assert why(off, store, "invert_image") == "input train_lora is not used any more"
    auto = with_settings(
        replace(edit, lora="auto"),
        optimize_latent={"method": "warp"},
        sample_image={"holes": "paint"},
    )
    assert why(auto, store, "train_lora") == 'the method "warp" gains nothing by it'
    pasted = with_settings(edit, optimize_latent={"method": "warp"})
    assert why(pasted, store, "train_lora") == "no model makes the picture"
    given = replace(edit, lora=find_lora(write_lora(tmp_path / "given.safetensors", edit.model)))
    assert why(given, store, "train_lora") == "never made"
    make_lora_again(given, store, 2.0)
    assert why(given, store, "invert_image") == "input train_lora changed (lora train → file)"


def test_a_change_of_the_drag_method_is_named_and_nothing_that_only_one_of_them_has(edit, store):
    warped = with_settings(edit, optimize_latent={"method": "warp"})
    said = why(warped, store, "optimize_latent").split("; ")
    assert [each for each in said if "optimize_latent.method optimization → warp" in each]
    assert not [each for each in said if "None" in each]


def test_a_warp_that_the_version_before_made_says_that_its_method_has_another_name(edit, store):
    """Then it was an optimization of one step that began with a relocation."""
    warped = with_settings(edit, optimize_latent={"method": "warp"})
    records = finish(warped, store, until="build_mask")
    now = Resolved.of(warped).action(BY_NAME["optimize_latent"], records)
    one_step = {"relocation": True, "steps": 1, "max_steps": 1, "content": CONTENT_VERSION}
    settings = BY_NAME["optimize_latent"].key_config(Resolved.of(edit).config) | one_step
    then = replace(now, config={**settings, "frame": now.config["frame"]})
    store.publish(then, {"latent": np.zeros(3, np.float32)}, CIRCUMSTANCES)
    assert why(warped, store, "optimize_latent") == "optimize_latent.method relocation → warp"


def test_an_input_that_changed_says_what_its_stage_did_otherwise(edit, store):
    other = with_settings(edit, train_lora={"rank": 4})
    make_lora_again(other, store, 2.0)
    cause = "train_lora.rank 16 → 4"
    assert why(other, store, "invert_image") == f"input train_lora changed ({cause})"


def test_a_result_made_again_with_other_values_reruns_what_follows_and_says_so(edit, store):
    make_lora_again(edit, store, 1.0)
    (plan,) = plan_edits([edit], store)
    assert plan.done
    make_lora_again(edit, store, 2.0)
    (plan,) = plan_edits([edit], store)
    statuses = {name: str(staged.status) for name, staged in plan.stages.items()}
    assert statuses == {
        "train_lora": "hit",
        "invert_image": "miss",
        "extract_superpixels": "hit",
        "build_mask": "hit",
        "optimize_latent": "follows",
        "sample_image": "follows",
        "locate_handles": "follows",
    }
    cause = "made again with other values, record 1 → 3"
    assert why(edit, store, "invert_image") == f"input train_lora changed ({cause})"


def test_bytes_that_are_gone_cut_off_or_damaged_are_told_apart(edit, store):
    rest = "; made again if a stage after it has to run"
    shutil.rmtree(folder_of(store, edit, "train_lora"))
    assert why(edit, store, "train_lora") == f"its bytes are gone{rest}"
    image = folder_of(store, edit, "sample_image") / "image.png"
    data = image.read_bytes()
    image.write_bytes(data[:-1])
    said = why(edit, store, "sample_image")
    assert said == f"its bytes are damaged: image.png is missing or cut off{rest}"
    image.write_bytes(data[:-1] + b"x")
    (plan,) = plan_edits([edit], store)
    record = plan.stages["sample_image"].record
    assert record
    with pytest.raises(Exception, match="changed"):
        store.read(record)
    assert "its bytes are damaged: image.png has changed" in why(edit, store, "sample_image")


def test_a_failure_is_told_with_its_kind_and_keeps_others_waiting(job, edit, store):
    wild = with_settings(edit, optimize_latent={"learning_rate": 9.0})
    key = explain_edit(wild, store)["optimize_latent"].key
    assert key
    failure = {"kind": "NotFinite", "message": "at 3\nx"}
    store.add_attempt("optimize_latent", key, failure)
    told = "failed before: NotFinite: at 3; optimize_latent.learning_rate 0.01 → 9.0"
    assert why(wild, store, "optimize_latent") == told
    one = replace(job, edits=(wild,))
    assert forecast(plan_job(one, store), store).total.missing == 3
    store.add_attempt("optimize_latent", key, failure | {"policy": "quarantine"})
    found = explain_edit(wild, store)
    assert found["optimize_latent"].status is Status.QUARANTINED
    assert found["sample_image"].text.startswith(
        f"needs optimize_latent; optimize_latent quarantined: {told}"
    )
    assert forecast(plan_job(one, store), store).total.missing == 0


def test_the_nearest_record_is_one_of_the_same_edit_if_there_is_one(job, edit, store):
    other = with_settings(job.edits[1], optimize_latent={"steps": 60, "patience": 7})
    finish(other, store)
    asked = with_settings(job.edits[0], optimize_latent={"steps": 60, "patience": 7})
    said = why(asked, store, "optimize_latent")
    assert said == "optimize_latent.patience 40 → 7; optimize_latent.steps 80 → 60"


def told(job: Job, store: ArtifactStore, device: str = "cpu") -> Forecast:
    return forecast(plan_job(job, store), store, device)


def test_nothing_is_foretold_where_nothing_is_recorded(job, store):
    found = told(job, store)
    assert {name: stage.missing for name, stage in found.stages.items()} == {
        "train_lora": 1,
        "invert_image": 1,
        "extract_superpixels": 1,
        "build_mask": 3,
        "optimize_latent": 3,
        "sample_image": 3,
        "locate_handles": 3,
    }
    assert found.total.unknown == found.total.missing == 15
    assert found.device == ""
    assert [*forecast_lines(found)] == [
        "To make: 15 artifacts; time and size are unknown: the store has no similar ones"
    ]


def test_time_and_room_are_foretold_from_records_shared_artifacts_once(job, edit, store):
    found = told(job, store)
    assert {name: stage.missing for name, stage in found.stages.items() if stage.missing} == {
        "build_mask": 2,
        "optimize_latent": 2,
        "sample_image": 2,
        "locate_handles": 2,
    }
    assert found.total.seconds == pytest.approx(8 * CIRCUMSTANCES.seconds)
    (plan,) = plan_edits([edit], store)
    sizes = [plan.stages[name].record.size for name in ("build_mask", "optimize_latent")]
    assert [found.stages[name].size for name in ("build_mask", "optimize_latent")] == [
        2 * size for size in sizes
    ]
    assert found.device == "cpu"
    assert found.free
    assert "about 12 s on cpu" in next(forecast_lines(found))
    full = replace(found, free=10)
    assert [*forecast_lines(full)][1] == "Not enough disk space: only 10 bytes free"


def test_time_follows_the_steps_that_a_stage_is_set_to(job, edit, store):
    longer = replace(job, edits=(with_settings(edit, train_lora={"steps": 160, "batch_size": 2}),))
    found = told(longer, store)
    assert found.stages["train_lora"].seconds == pytest.approx(CIRCUMSTANCES.seconds)
    longer = replace(job, edits=(with_settings(edit, train_lora={"steps": 160}),))
    assert told(longer, store).stages["train_lora"].seconds == pytest.approx(
        2 * CIRCUMSTANCES.seconds
    )


def test_a_painting_takes_as_long_as_its_rounds_and_tells_nothing_of_other_sampling(
    job, edit, store
):
    def of_sampling(rounds: int = 3, **settings):
        moved = with_settings(
            job.edits[1],
            optimize_latent={"method": "warp"},
            sample_image={"hole_rounds": rounds, **settings},
        )
        return moved, told(replace(job, edits=(moved,)), store).stages["sample_image"]

    assert of_sampling()[1].unknown == 1
    painted, untold = of_sampling(holes="paint")
    assert untold.unknown == 1
    finish(painted, store)
    _, expected = of_sampling(rounds=8, holes="paint")
    assert expected.seconds == pytest.approx(2 * CIRCUMSTANCES.seconds)


def test_records_of_another_device_or_other_weights_tell_nothing(job, edit, store):
    assert told(job, store, device="cuda").total.unknown == 8
    precise = replace(job, edits=(with_settings(edit, dtype="float32"),))
    found = told(precise, store)
    assert found.stages["train_lora"].unknown == 1
    assert found.stages["build_mask"].missing == 0


def test_few_records_are_read_however_many_there_are(job, edit, store, monkeypatch):
    for seed in range(1, 12):
        finish(with_settings(edit, seed=seed), store, until="train_lora")
    read = []
    get = store.backend.get
    monkeypatch.setattr(store.backend, "get", lambda path: read.append(path) or get(path))
    assert len(store.some_records("train_lora", 5)) == 5
    assert len(read) == 5
    assert len(store.some_records("train_lora", 50)) == 12
