"""One edit in memory, against the same edit through the stages."""

import numpy as np
import pytest

import adaptivedrag
from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from stages import STAGE_NAMES
from stages.jobs.images import read_image
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


def test_a_user_mask_of_another_size_is_refused(edit):
    config = edit.config.merged({"build_mask": {"mode": "user"}})
    with pytest.raises(adaptivedrag.InvalidEdit, match="bool mask of the image's size"):
        adaptivedrag.edit(
            read_image(edit.image_path),
            edit.drags,
            model=edit.model,
            config=config.merged({"train_lora": {"steps": 0}}),
            mask=np.ones((4, 4), bool),
        )
