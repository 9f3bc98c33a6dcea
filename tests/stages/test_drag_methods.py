"""A drag method that is one file and one line in the table goes through the stages."""

import numpy as np
import pytest
from support.roll import Roll

import adaptivedrag
from adaptivedrag.methods import METHODS
from stages.images import read_image
from stages.pipeline import STAGE_NAMES, STAGES
from stages.planning.plan import plan_edits


@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch):
    monkeypatch.setitem(METHODS, "roll", Roll)


def perform_all(bench, edit):
    return {name: bench.perform(name, edit) for name in STAGE_NAMES}


@pytest.mark.usefixtures("made")
def test_a_method_of_its_own_is_planned_run_and_shown_like_the_others(bench, store, changed):
    rolled = changed(config={"optimize_latent": {"method": "roll"}})
    (plan,) = plan_edits([rolled], store, explain=True)
    assert plan.to_make == ("optimize_latent", "sample_image", "locate_handles")
    assert plan.stages["optimize_latent"].why == "optimize_latent.method optimization → roll"
    records = perform_all(bench, rolled)
    assert records["optimize_latent"].config["method"] == "roll"
    summary = records["optimize_latent"].summary
    assert (summary["verdict"], summary["rolled"]) == ("reached", [-1, 3])
    (plan,) = plan_edits([rolled], store)
    assert plan.done


@pytest.mark.usefixtures("made")
def test_sampling_begins_at_the_level_that_the_method_names(bench, store, changed):
    edit = changed(config={"optimize_latent": {"method": "roll"}})
    records = perform_all(bench, edit)
    inverted = store.read(records["invert_image"])["latents"]
    dragged = store.read(records["optimize_latent"])
    assert dragged["level"] == 2
    assert np.array_equal(dragged["latent"], np.roll(inverted[2:3], (-1, 3), (2, 3)))
    assert records["sample_image"].summary["unet_forwards"] == 2 * 2  # the reference's passes too
    result = adaptivedrag.edit(
        read_image(edit.image_path),
        edit.drags,
        prompt=edit.prompt,
        model=edit.model,
        config=edit.config,
    )
    assert np.array_equal(result.image, store.read(records["sample_image"])["image"])


@pytest.mark.usefixtures("made")
def test_the_level_is_part_of_the_result_where_it_is_not_that_of_the_inversion(
    bench, store, changed
):
    early, late = (
        perform_all(bench, changed(config={"optimize_latent": {"method": "roll", "level": level}}))
        for level in (2, 5)
    )
    assert {*store.read(early["optimize_latent"])} == {"latent", "tracks", "level"}
    assert {*store.read(late["optimize_latent"])} == {"latent", "tracks"}


@pytest.mark.usefixtures("made")
def test_the_alternation_is_sampled_from_the_level_where_it_ended(bench, store, changed):
    quick = {"method": "alternation", "levels": 2, "trackings": 1, "updates": 1}
    edit = changed(config={"optimize_latent": quick})
    records = perform_all(bench, edit)
    inverted = edit.config.invert_image.inverted_steps
    assert store.read(records["optimize_latent"])["level"] == inverted - 2
    passes = [
        records[stage].summary["unet_forwards"] for stage in ("optimize_latent", "sample_image")
    ]
    assert passes == [2 * 3, 2 * (inverted - 2)]
    assert records["optimize_latent"].summary["unet_backwards"] == 2
    steps = STAGES[STAGE_NAMES.index("optimize_latent")].steps
    assert steps(records["optimize_latent"].config) == 2


def test_clean_latents_are_not_sampled_at_all(bench, changed):
    edit = changed(config={"optimize_latent": {"method": "roll", "level": 0}})
    assert perform_all(bench, edit)["sample_image"].summary["unet_forwards"] == 0
