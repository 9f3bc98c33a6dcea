"""One contract for all stages, and which edits share which artifacts."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora_files import find_lora
from adaptivedrag.points import Drag, ImagePoint
from stages.pipeline import BY_NAME, STAGE_NAMES, STAGES
from stages.planning.plan import Status, bring_up_to_date, plan_edits
from stages.planning.work import work_for
from stages.stage import InputMissing


def perform_all(bench, edit):
    return {name: bench.perform(name, edit) for name in STAGE_NAMES}


def statuses(store, edit):
    (plan,) = plan_edits([edit], store)
    return {name: str(stage.status) for name, stage in plan.stages.items()}


def test_a_stage_needs_only_stages_before_it():
    for index, stage in enumerate(STAGES):
        assert stage.name == STAGE_NAMES[index]
        assert set(stage.needs) <= set(STAGE_NAMES[:index])


def test_a_whole_edit_is_made_once_and_its_image_has_the_input_size(bench, store, edit, made):
    records = made
    assert set(statuses(store, edit).values()) == {"hit"}
    assert perform_all(bench, edit) == records
    image = store.read(records["sample_image"])["image"]
    assert image.shape == (edit.image.height, edit.image.width, 3)
    assert image.dtype == np.uint8
    summary = records["optimize_latent"].summary
    assert summary["verdict"] in {"reached", "stalled", "lost", "partial"}
    assert summary["unet_backwards"] == summary["steps"]
    assert summary["unet_forwards"] == summary["steps"] + 1


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES if stage.needs])
def test_a_stage_asked_for_too_early_says_what_is_missing(bench, edit, stage):
    with pytest.raises(InputMissing, match=f"edit face: {stage} needs .*, which is not made yet"):
        bench.perform(stage, edit)


def test_before_anything_the_plan_says_miss_and_follows(store, edit):
    assert statuses(store, edit) == {
        "train_lora": "miss",
        "invert_image": "follows",
        "extract_superpixels": "miss",
        "build_mask": "follows",
        "optimize_latent": "follows",
        "sample_image": "follows",
        "locate_handles": "follows",
    }


def test_every_stage_gives_the_same_bytes_again(bench, edit, made_once):
    (_, first), second = made_once, perform_all(bench, edit)
    for name in STAGE_NAMES:
        assert first[name].key == second[name].key
        assert first[name].object == second[name].object


CHANGES = [
    (
        {"prompt": "a dog"},
        {"train_lora", "invert_image", "optimize_latent", "sample_image", "locate_handles"},
    ),
    (
        {"drags": (Drag(ImagePoint(40, 50), ImagePoint(60, 90)),)},
        {"build_mask", "optimize_latent", "sample_image", "locate_handles"},
    ),
    (
        {"config": {"train_lora": {"learning_rate": 1e-3}}},
        {"train_lora", "invert_image", "optimize_latent", "sample_image", "locate_handles"},
    ),
    (
        {"config": {"optimize_latent": {"learning_rate": 0.2}}},
        {"optimize_latent", "sample_image", "locate_handles"},
    ),
    (
        {"config": {"sample_image": {"reference_control": False}}},
        {"sample_image", "locate_handles"},
    ),
    ({"config": {"locate_handles": {"timestep": 100}}}, {"locate_handles"}),
    (
        {"config": {"extract_superpixels": {"count": 60}}},
        {"extract_superpixels", "build_mask", "optimize_latent", "sample_image", "locate_handles"},
    ),
    ({"id": "another-name", "tags": ("x",)}, set()),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[str(c)[:60] for c, _ in CHANGES])
@pytest.mark.usefixtures("made")
def test_a_change_reruns_exactly_what_depends_on_it(bench, store, changed, change, expected):
    after = changed(**change)
    assert {n for n, s in statuses(store, after).items() if s != "hit"} == expected
    remade = perform_all(bench, after)
    assert set(statuses(store, after).values()) == {"hit"}
    assert all(remade[name].stage == name for name in STAGE_NAMES)


def test_three_edits_of_one_image_share_lora_inversion_and_superpixels(bench, store, changed):
    edits = [
        changed(id=f"e{index}", drags=(Drag(ImagePoint(40, 50), ImagePoint(60, 60 + index)),))
        for index in range(3)
    ]
    plans = plan_edits(edits, store)
    for stage in STAGE_NAMES:
        items, blocked = work_for(BY_NAME[stage], plans)
        assert not blocked
        shared = stage in ("train_lora", "invert_image", "extract_superpixels")
        assert [len(item.sharers) for item in items] == ([3] if shared else [1, 1, 1])
        for item in items:
            (record,) = bench.make([item])
            bring_up_to_date(plans, item.stage, {item.key: record}, store)
    assert all(plan.done for plan in plans)
    assert plans == plan_edits(edits, store)


@pytest.mark.usefixtures("made")
def test_the_plan_names_the_setting_that_changed(store, changed):
    after = changed(config={"optimize_latent": {"learning_rate": 0.2}})
    (plan,) = plan_edits([after], store, explain=True)
    assert plan.stages["optimize_latent"].why == "optimize_latent.learning_rate 0.1 → 0.2"
    assert plan.stages["sample_image"].why == "needs optimize_latent"
    assert plan.stages["train_lora"].status is Status.HIT


@pytest.mark.usefixtures("made")
def test_the_plan_names_the_input_that_changed(store, changed):
    (plan,) = plan_edits([changed(prompt="a dog")], store, explain=True)
    assert plan.stages["train_lora"].why == "input prompt changed"


def test_without_lora_the_stage_is_off_and_the_rest_follows(bench, store, changed):
    edit = changed(lora="off")
    for name in STAGE_NAMES[1:]:
        bench.perform(name, edit)
    found = statuses(store, edit)
    assert found.pop("train_lora") == "off"
    assert set(found.values()) == {"hit"}


def test_an_external_lora_enters_by_its_bytes(bench, store, made, changed, tmp_path):
    trained = store.read(made["train_lora"])["lora"]
    path = tmp_path / "given.safetensors"
    save_file(trained, path)
    given = changed(lora=find_lora(path))
    perform_all(bench, given)
    keys = {plan.stages["train_lora"].key for plan in plan_edits([given], store)}
    save_file({name: value * 2 for name, value in trained.items()}, path)
    assert {plan.stages["train_lora"].key for plan in plan_edits([given], store)} != keys


def test_an_image_changed_after_planning_is_refused_by_name(bench, edit, changed, tmp_path):
    from PIL import Image

    path = tmp_path / "other.png"
    Image.new("RGB", (100, 128)).save(path)
    with pytest.raises(InvalidEdit, match=r"edit face: .* changed after it was planned"):
        bench.perform("train_lora", changed(image_path=path))


def test_a_damaged_input_is_remade_and_what_follows_stays_true(bench, store, edit, tmp_path):
    superpixels = bench.perform("extract_superpixels", edit)
    folder = next((tmp_path / "store").glob(f"objects/*/{superpixels.object}"))
    for chunk in (folder / "labels.zarr").rglob("*"):
        if chunk.is_file() and chunk.name != "zarr.json":
            data = bytearray(chunk.read_bytes())
            data[len(data) // 2] ^= 1
            chunk.write_bytes(bytes(data))
    mask = bench.perform("build_mask", edit)
    healed = bench.perform("extract_superpixels", edit)
    assert healed.object == superpixels.object
    assert store.read(healed)["labels"].shape == store.read(mask)["mask"].shape


@pytest.mark.usefixtures("made")
def test_a_forced_rerun_with_the_same_bytes_changes_nothing_downstream(bench, store, edit):
    again = bench.perform("train_lora", edit, force=True)
    assert again.number == 2
    assert set(statuses(store, edit).values()) == {"hit"}
