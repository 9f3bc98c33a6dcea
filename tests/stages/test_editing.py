"""One edit in memory, against the same edit through the stages."""

from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
from support.lora_forms import Written, attentions, diffusers, draw_pairs, named

import adaptivedrag
import cli
from adaptivedrag.config import Runtime
from adaptivedrag.errors import NotFinite
from adaptivedrag.given import given_lora
from adaptivedrag.methods import Optimization
from adaptivedrag.model.lora_files import find_lora
from adaptivedrag.presets import DEFAULT_PRESET, preset
from artifacts import ArtifactStore
from stages.images import read_image
from stages.jobs.spec import JobSpec
from stages.pipeline import STAGE_NAMES
from stages.planning.models import adaptable_layers
from stages.workbench import Workbench


def test_an_edit_in_memory_equals_the_staged_one(edit, store, made):
    result = adaptivedrag.edit(
        read_image(edit.image_path),
        edit.drags,
        prompt=edit.prompt,
        model=edit.model,
        config=edit.config,
    )
    assert np.array_equal(result.image, store.read(made["sample_image"])["image"])
    assert result.drag.verdict == made["optimize_latent"].summary["verdict"]
    assert [point.document() for point in result.witness.points] == (
        made["locate_handles"].summary["points"]
    )
    assert len(result.lora_losses) == edit.config.train_lora.steps


def test_a_witness_that_fails_leaves_a_warning_and_the_picture(edit, monkeypatch):
    def fails(*_arguments: object) -> None:
        raise NotFinite("too wide")

    monkeypatch.setattr("adaptivedrag.witness.seen_by_witness", fails)
    pixels = read_image(edit.image_path)
    config = edit.config.merged({"optimize_latent": {"steps": 1, "max_steps": 1}})
    result = adaptivedrag.edit(pixels, edit.drags, model=edit.model, config=config, lora=False)
    assert result.witness is None
    assert result.warnings[-1] == "not witnessed: too wide"
    assert result.image.shape == pixels.shape


@pytest.mark.parametrize(
    ("drags", "message"),
    [
        ([], "there are no drags"),
        ([((110, 5), (120, 9))], "all points fit if x and y are swapped"),
        ([((5, 5), (100, 5))], r"drags\[0\].target \(100, 5\) lies outside the 100x128 image"),
    ],
)
def test_a_bad_request_is_refused_before_any_model_loads(edit, drags, message):
    with pytest.raises(adaptivedrag.InvalidEdit, match=message):
        adaptivedrag.edit(read_image(edit.image_path), drags, model="no-such-model")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((4, 4), bool), r"the shape \(4, 4\) and the image \(128, 100\): give both"),
        (np.ones((128, 100)), "float64 of shape"),
        (None, "give a mask"),
    ],
)
def test_a_mask_that_is_none_of_the_image_is_refused(edit, mask, message):
    config = edit.config.merged({"build_mask": {"mode": "user"}})
    with pytest.raises(adaptivedrag.InvalidEdit, match=message):
        adaptivedrag.edit(
            read_image(edit.image_path), edit.drags, model=edit.model, config=config, mask=mask
        )


def test_a_mask_that_is_given_is_used_in_every_preset(edit):
    assert edit.config.build_mask.mode != "user"
    mask = np.zeros((128, 100), bool)
    mask[32:64, 16:48] = True
    result = adaptivedrag.edit(
        edit.image_path, edit.drags, model=edit.model, config=edit.config, mask=mask
    )
    assert np.array_equal(result.mask, mask)
    assert 'build_mask.mode = "superpixel_line" is not used, because the' in " ".join(result.notes)


DEFAULTS = {"preset": JobSpec().preset, "lora": JobSpec().lora}


def test_the_preset_is_that_of_the_command_line_unless_one_is_named(edit, monkeypatch):
    """Settings are taken before the model is looked for, which is not here."""
    taken = []

    def note(name, model):
        taken.append(name)
        return preset(name, model)

    monkeypatch.setattr("adaptivedrag.presets.preset", note)
    for given in ({}, {"preset": "released"}):
        with pytest.raises(adaptivedrag.ModelUnavailable):
            adaptivedrag.edit(edit.image_path, edit.drags, model="no-such-model", **given)
    assert taken == [DEFAULT_PRESET, "released"]
    assert JobSpec().preset == DEFAULT_PRESET


def test_the_command_line_leaves_preset_and_lora_to_the_job_and_names_what_they_are_then():
    said = {name: f'"{value}" (default)' for name, value in DEFAULTS.items()}
    for command, names in ((cli.edit, DEFAULTS), (cli.eval_ablation, ["preset"])):
        for name in names:
            option = signature(command).parameters[name]
            assert option.default is None
            assert said[name] in option.annotation.__metadata__[0].help


def test_a_preset_and_a_config_are_not_taken_together(edit):
    with pytest.raises(adaptivedrag.InvalidEdit, match="preset and config are both given"):
        adaptivedrag.edit(edit.image_path, edit.drags, preset="paper", config=edit.config)


def test_a_lora_file_is_taken_as_the_stages_take_it(edit, tmp_path):
    path = tmp_path / "lora.safetensors"
    layers = adaptable_layers(edit.model)
    pairs = draw_pairs(layers, attentions(layers, text=True))
    Written(named(pairs, diffusers)).save(tmp_path, path.name)
    result = adaptivedrag.edit(
        read_image(edit.image_path),
        edit.drags,
        prompt=edit.prompt,
        model=edit.model,
        config=edit.config,
        lora=path,
    )
    assert result.lora_losses == ()
    bench = Workbench(ArtifactStore.open(tmp_path / "store"), Runtime(threads=1))
    records = {
        name: bench.perform(name, replace(edit, lora=find_lora(path))) for name in STAGE_NAMES
    }
    staged = bench.store.read(records["sample_image"])["image"]
    assert np.array_equal(result.image, staged)


def test_a_lora_is_trained_or_left_out_as_on_the_command_line():
    assert [given_lora(lora) for lora in (True, "train", False, "off", "auto")] == [
        *("train", "train", "off", "off", "auto")
    ]
    assert signature(adaptivedrag.edit).parameters["lora"].default == JobSpec().lora


@pytest.mark.parametrize("gains", [True, False])
def test_a_lora_is_trained_by_itself_only_for_a_method_that_gains_by_it(edit, monkeypatch, gains):
    monkeypatch.setattr(Optimization, "gains_by_lora", gains)

    def losses(**given) -> int:
        few = edit.config.merged({"invert_image": {"num_steps": 2, "inverted_steps": 1}})
        result = adaptivedrag.edit(
            edit.image_path, edit.drags, model=edit.model, config=few, **given
        )
        return len(result.lora_losses)

    assert losses() == (2 if gains else 0)
    assert losses(lora="off" if gains else "train") == (0 if gains else 2)


REFUSED = {
    "a prompt that is none": ({"prompt": None}, "prompt is a NoneType: give a text"),
    "a list of prompts": ({"prompt": ["a"]}, "prompt is a list: give a text"),
    "a control character": ({"prompt": "a\0b"}, "holds a control character: remove it"),
    "a long prompt": ({"prompt": "a" * 2001}, "prompt has 2001 characters, and 2000 are taken"),
    "a LoRA that is not there": ({"lora": "no.safetensors"}, 'give "auto", "train", "off", a .saf'),
    "a LoRA by a wrong word": ({"lora": "Off"}, "lora is 'Off': give \"auto\""),
    "a LoRA that is none": ({"lora": None}, "lora is None: give"),
    "a device that is not there": ({"runtime": Runtime("gpu")}, "device 'gpu' cannot be used"),
    "a device by its name": ({"runtime": "gpu"}, "device 'gpu' cannot be used: .* has cpu"),
    "a device that is none": ({"runtime": Runtime(5.5)}, "device 5.5 cannot be used"),
    "no runtime": ({"runtime": None}, "runtime is a NoneType: give a Runtime, or a device"),
    "threads": ({"runtime": Runtime(threads=-1)}, "threads = -1 cannot be used: give 1 to"),
    "giant threads": ({"runtime": Runtime(threads=10**5000)}, "threads = a int cannot be used"),
    "settings": ({"config": {"seed": 1}}, "config is a dict: give an EditConfig"),
    "settings by name": ({"config": "paper"}, "config is a str: give an EditConfig"),
    "a preset that is none": ({"preset": ["plus"]}, "preset is a list: give its name"),
    "no model": ({"model": None}, "model is None: give its name, a path or a hub id"),
    "no segmenter": ({"segmenter": None}, "segmenter is None: give its name"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(edit, given, message):
    with pytest.raises(adaptivedrag.InvalidEdit, match=message) as refused:
        adaptivedrag.edit(edit.image_path, edit.drags, **{"model": "no-such-model"} | given)
    assert "\n" not in str(refused.value)
