"""Memory that is not enough: stages step down, make the same, say so, and leave all as it was."""

import shutil
import traceback
import weakref
from dataclasses import replace
from pkgutil import resolve_name

import numpy as np
import pytest
import torch
from support.memory_faults import difference, short_of_memory

from adaptivedrag.config import Runtime
from adaptivedrag.errors import DeviceMemoryExhausted
from adaptivedrag.model.memory_ladder import (
    is_out_of_memory,
    ladder,
    release_memory,
)
from artifacts import ArtifactStore
from stages.failures import Policy, policy_of
from stages.pipeline import BY_NAME, STAGE_NAMES
from stages.planning.plan import plan_edits
from stages.planning.work import work_for
from stages.workbench import Workbench, unheard

TOLERANCE = 1e-5
"""Largest difference from the result of the top rung: norm over norm, for every part of it."""

IDLE = "idle models away"
LOWEST = {
    "invert_image": (IDLE,),
    "optimize_latent": (IDLE, "gradient checkpointing"),
    "sample_image": (IDLE,),
}


@pytest.fixture(scope="module")
def large(edit):
    """An edit whose LoRA is trained on four samples at once."""
    return replace(edit, config=edit.config.merged({"train_lora": {"batch_size": 4}}))


@pytest.fixture(scope="module")
def finished(large, tmp_path_factory):
    """The folder of a store in which the edit was made with memory enough."""
    folder = tmp_path_factory.mktemp("finished") / "store"
    bench = Workbench(ArtifactStore.open(folder), Runtime(threads=1))
    for stage in STAGE_NAMES:
        assert bench.perform(stage, large).circumstances.memory_saved_by == ()
    return folder


@pytest.fixture
def bench(finished, tmp_path):
    """A new worker on a copy of that store."""
    folder = shutil.copytree(finished, tmp_path / "store")
    return Workbench(ArtifactStore.open(folder), Runtime(threads=1))


def test_the_rungs_of_a_stage_add_to_each_other():
    measures = ("smaller batches", "gradient checkpointing")
    assert [rung.measures for rung in ladder(measures, batch=4)] == [
        (),
        (IDLE,),
        (IDLE, "batches of 2"),
        (IDLE, "batches of 1"),
        (IDLE, "batches of 1", "gradient checkpointing"),
    ]
    assert [rung.measures for rung in ladder(())] == [(), (IDLE,)]


def test_a_lora_is_trained_in_parts_of_its_batch_where_memory_is_short(bench, large):
    made = bench.perform("train_lora", large)
    with short_of_memory(times=2) as seen:
        again = bench.perform("train_lora", large, force=True)
    assert again.circumstances.memory_saved_by == (IDLE, "batches of 2")
    assert {batch for batch, _ in seen[-4:]} == {2}
    assert difference(bench.store, made, again) <= TOLERANCE


def test_a_batch_that_does_not_fit_is_halved(bench, changed):
    edits = [changed(id=str(number), lora="off", prompt=str(number)) for number in range(4)]
    items, _ = work_for(BY_NAME["invert_image"], plan_edits(edits, bench.store))
    trials = []

    def listen(_item, together):
        trials.append(together)
        return unheard

    with short_of_memory(times=1) as seen:
        made = bench.make(items, listen=listen)
    assert trials == [4] * 4 + [2] * 4  # a time limit counts from the beginning of a trial
    steps = edits[0].config.invert_image.inverted_steps
    assert [size for size, _ in seen[1:]] == [2] * 2 * steps
    assert [record.key for record in made] == [item.key for item in items]
    assert {record.circumstances.memory_saved_by for record in made} == {()}


@pytest.mark.parametrize("stage", LOWEST)
def test_a_stage_makes_the_same_at_its_lowest_rung_and_the_worker_goes_on(bench, large, stage):
    made, measures = bench.perform(stage, large), LOWEST[stage]
    with short_of_memory(times=len(measures)) as seen:
        again = bench.perform(stage, large, force=True)
    assert (again.key, again.circumstances.memory_saved_by) == (made.key, measures)
    assert seen[-1] == (1, "gradient checkpointing" in measures)
    assert difference(bench.store, made, again) <= TOLERANCE
    # The stage stays where it is; other stages find the model as it was.
    with short_of_memory(times=0) as seen:
        other = bench.perform(stage, large, force=True)
        assert other.circumstances.memory_saved_by == measures
        lora = bench.perform("train_lora", large, force=True)
    assert lora.circumstances.memory_saved_by == ()
    assert seen[-1] == (4, False)


@pytest.mark.parametrize(
    ("stage", "function"),
    [("extract_superpixels", "superpixels.divide_image"), ("build_mask", "masks.build_mask")],
)
def test_stages_without_a_unet_let_idle_models_go(bench, large, monkeypatch, stage, function):
    made = bench.perform(stage, large)
    plain, failures = resolve_name(f"adaptivedrag.{function}"), [None]

    def short_once(*arguments):
        if failures:
            failures.pop()
            np.empty(10**15)
        return plain(*arguments)

    monkeypatch.setattr(f"adaptivedrag.{function}", short_once)
    again = bench.perform(stage, large, force=True)
    assert again.circumstances.memory_saved_by == (IDLE,)
    assert again.object == made.object


def test_below_the_lowest_rung_is_a_failure_that_says_what_to_do_and_the_next_edit_is_well(
    bench, large
):
    with (
        short_of_memory(times=99),
        pytest.raises(DeviceMemoryExhausted, match="also with idle models away") as raised,
    ):
        bench.perform("sample_image", large, force=True)
    assert "edit face: memory of cpu is not enough for sample_image" in str(raised.value)
    assert 'a working_size below 113 or dtype = "bfloat16"' in str(raised.value)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert policy_of(raised.value) is Policy.FAIL
    assert bench.perform("sample_image", large, force=True).circumstances.memory_saved_by == ()


def test_what_a_failed_attempt_held_is_freed_while_its_traceback_is_kept():
    held = []

    def fail():
        tensor = torch.zeros(8)
        held.append(weakref.ref(tensor))
        torch.empty(10**15)

    with pytest.raises(RuntimeError) as raised:
        fail()
    assert is_out_of_memory(raised.value)
    assert held[0]() is not None
    release_memory(raised.value)
    assert held[0]() is None
    assert "in fail" in "".join(traceback.format_exception(raised.value))
