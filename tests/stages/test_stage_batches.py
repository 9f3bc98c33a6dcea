"""Stages that take several edits at once make of each what they make of it alone."""

from dataclasses import replace

import numpy as np
import pytest

from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.points import Drag, ImagePoint
from artifacts import ArtifactStore
from stages.invert_image import invert_image
from stages.optimize_latent import optimize_latent
from stages.pipeline import STAGE_NAMES
from stages.resume import Checkpoints
from stages.sample_image import sample_image
from stages.stage import Work

CLOSE = 1e-4
"""Of the range of values."""


@pytest.fixture(scope="module")
def model(tiny_model_directory):
    return DiffusionModel.load(tiny_model_directory)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One for all tests: what a stage makes of an edit alone is made once."""
    return ArtifactStore.open(tmp_path_factory.mktemp("batches") / "store")


@pytest.fixture
def edits(changed):
    """Two edits of one image and prompt, and one of another prompt; none with a LoRA."""
    other = (Drag(ImagePoint(30, 90), ImagePoint(60, 60)),)
    return [
        changed(id="one", lora="off"),
        changed(id="two", lora="off", drags=other),
        changed(id="three", lora="off", drags=other, prompt="a dog"),
    ]


@pytest.fixture
def works_of(model, bench, store, edits):
    """Make what a stage needs of each edit; return its works, and the steps they were told of."""

    def works_of(stage, needs):
        steps = {edit.id: [] for edit in edits}
        works = []
        for edit in edits:
            records = {
                name: bench.perform(name, edit)
                for name in STAGE_NAMES[: STAGE_NAMES.index(stage) + 1]
                if name != "train_lora"
            }
            frame = model.frame(edit.image.height, edit.image.width, edit.config.working_size)
            works.append(
                Work(
                    edit=edit,
                    config=edit.config.scaled_to(4, *frame.latent_size),
                    frame=frame,
                    upstream={name: store.read(records[name]) for name in needs},
                    load_diffusion=lambda: model,
                    load_segmenter=lambda: pytest.fail("no segmenter is needed"),
                    checkpoints=Checkpoints(store, stage, records[stage].key, 0),
                    on_step=lambda step, of, its=steps[edit.id]: its.append((step, of)),
                )
            )
        return works, steps, [store.read(bench.perform(stage, edit)) for edit in edits]

    return works_of


def test_images_that_are_inverted_together_are_as_they_are_alone(works_of, model):
    works, steps, alone = works_of("invert_image", ())
    before = replace(model.passes)
    mades = invert_image(works)
    inverted = works[0].config.invert_image.inverted_steps
    for made, kept in zip(mades, alone, strict=True):
        latents, expected = made.payload["latents"], kept["latents"]
        assert np.abs(latents - expected).max() < CLOSE * np.ptp(expected)
        assert made.summary["unet_forwards"] == inverted
        assert made.summary["vae_encodes"] == 1
    assert model.passes.since(before)["unet_forwards"] == 3 * inverted
    assert set(map(tuple, steps.values())) == {tuple((step + 1, 5) for step in range(5))}


def test_edits_that_are_sampled_together_are_as_they_are_alone(works_of, model):
    needs = ("invert_image", "build_mask", "optimize_latent")
    works, steps, alone = works_of("sample_image", needs)
    before = replace(model.passes)
    mades = sample_image(works)
    for made, kept in zip(mades, alone, strict=True):
        difference = made.payload["image"].pixels.astype(int) - kept["image"]
        assert np.abs(difference).max() <= 1
        assert (difference != 0).mean() < 1e-3
    assert not np.array_equal(alone[0]["image"], alone[1]["image"])
    # Two references, one of them for two edits.
    passes = [made.summary["unet_forwards"] for made in mades]
    assert sum(passes) == model.passes.since(before)["unet_forwards"] == 5 * (2 + 3)
    assert max(passes) - min(passes) <= 1
    assert {made.summary["vae_decodes"] for made in mades} == {1}
    assert set(map(tuple, steps.values())) == {tuple((step + 1, 5) for step in range(5))}


def test_edits_that_are_dragged_together_are_as_they_are_alone(works_of, model):
    needs = ("invert_image", "extract_superpixels", "build_mask")
    works, steps, alone = works_of("optimize_latent", needs)
    before = replace(model.passes)
    mades = optimize_latent(works)
    for made, kept in zip(mades, alone, strict=True):
        assert np.abs(made.payload["latent"] - kept["latent"]).max() < CLOSE * np.ptp(
            kept["latent"]
        )
        assert np.array_equal(made.payload["tracks"], kept["tracks"])
        assert made.summary["verdict"]
    passes = sum(made.summary["unet_forwards"] for made in mades)
    taken = [made.summary["steps"] for made in mades]
    assert passes == model.passes.since(before)["unet_forwards"] == sum(taken) + len(taken)
    assert [len(heard) for heard in steps.values()] == taken


def test_a_batch_of_one_has_the_bytes_of_the_stage(works_of):
    needs = ("invert_image", "build_mask", "optimize_latent")
    works, _, alone = works_of("sample_image", needs)
    (made,) = sample_image(works[1:2])
    assert np.array_equal(made.payload["image"].pixels, alone[1]["image"])


def test_edits_that_begin_at_different_levels_are_sampled_apart(works_of):
    needs = ("invert_image", "build_mask", "optimize_latent")
    works, steps, alone = works_of("sample_image", needs)
    dragged = {**works[1].upstream["optimize_latent"], "level": 3}
    works[1] = replace(works[1], upstream={**works[1].upstream, "optimize_latent": dragged})
    mades = sample_image(works)
    assert [made.summary["unet_forwards"] for made in mades] == [10, 6, 10]
    assert steps["two"] == [(1, 3), (2, 3), (3, 3)]
    assert not np.array_equal(mades[1].payload["image"].pixels, alone[1]["image"])
    (lower,) = sample_image(works[1:2])
    assert np.array_equal(mades[1].payload["image"].pixels, lower.payload["image"].pixels)
