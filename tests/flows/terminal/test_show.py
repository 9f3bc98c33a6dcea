"""What `show` writes beside its panel."""

import pytest
from support.lora_forms import write_lora
from support.tiny_job import write_job

from adaptivedrag.config import Runtime
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora_files import find_lora
from artifacts import ArtifactStore
from flows.terminal.show import save_lora
from stages.jobs.reader import load_job
from stages.planning.plan import plan_edits
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
