"""One edit in memory, against the same edit through the stages."""

from inspect import signature

import numpy as np
import pytest

import adaptivedrag
import cli
from adaptivedrag.config import Runtime
from adaptivedrag.presets import preset
from artifacts import ArtifactStore
from stages.images import read_image
from stages.pipeline import STAGE_NAMES
from stages.workbench import Workbench


def test_an_edit_in_memory_equals_the_staged_one(edit, tmp_path):
    bench = Workbench(ArtifactStore.open(tmp_path / "store"), Runtime(threads=1))
    records = {name: bench.perform(name, edit) for name in STAGE_NAMES}
    result = adaptivedrag.edit(
        read_image(edit.image_path),
        edit.drags,
        prompt=edit.prompt,
        model=edit.model,
        config=edit.config,
    )
    staged = bench.store.read(records["sample_image"])["image"]
    assert np.array_equal(result.image, staged)
    assert result.drag.verdict == records["optimize_latent"].summary["verdict"]
    assert len(result.lora_losses) == edit.config.train_lora.steps


@pytest.mark.parametrize(
    ("drags", "message"),
    [
        ([], "there are no drags"),
        ([((5, 5), (100, 5))], r"target 1 at \(100, 5\) lies outside the 100x128 image"),
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


def test_the_preset_is_that_of_the_command_line_unless_one_is_named(edit, monkeypatch):
    """Settings are taken before the model is looked for, which is not here."""
    taken = []

    def note(name, model):
        taken.append(name)
        return preset(name, model)

    monkeypatch.setattr("adaptivedrag.presets.preset", note)
    for named in ({}, {"preset": "released"}):
        with pytest.raises(adaptivedrag.ModelUnavailable):
            adaptivedrag.edit(edit.image_path, edit.drags, model="no-such-model", **named)
    assert taken == [signature(cli.edit).parameters["preset"].default, "released"]


def test_a_preset_and_a_config_are_not_taken_together(edit):
    with pytest.raises(adaptivedrag.InvalidEdit, match="preset and config are both given"):
        adaptivedrag.edit(edit.image_path, edit.drags, preset="paper", config=edit.config)
