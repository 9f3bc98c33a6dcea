"""What an edit's artifacts are made of, and what of it decides their bytes."""

from pathlib import Path

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from stages.pipeline import STAGE_NAMES
from stages.planning.provenance import provenance, provenance_document
from stages.planning.sources import code_of
from stages.workbench import Workbench

CHANGING = {"started", "seconds", "peak_memory"}


def made(edit, folder: Path) -> ArtifactStore:
    """Make an edit in a store of its own."""
    bench = Workbench(ArtifactStore.open(folder), Runtime(threads=1))
    for stage in STAGE_NAMES:
        bench.perform(stage, edit)
    return bench.store


def stages_of(edit, store: ArtifactStore) -> dict:
    return provenance_document(edit, provenance(edit, store), store)["stages"]


def test_two_stores_have_the_same_provenance_but_for_the_circumstances(edit, made_once, tmp_path):
    one = stages_of(edit, ArtifactStore.open(made_once[0]))
    two = stages_of(edit, made(edit, tmp_path / "second"))
    assert list(one) == list(STAGE_NAMES)
    for stage, facts in one.items():
        assert facts.keys() == two[stage].keys()
        assert {name for name in facts if facts[name] != two[stage][name]} <= CHANGING
        assert facts["code"] == facts["code_now"] == code_of(stage)
        assert {"python", "torch", "diffusers"} <= facts["libraries"].keys()
        assert (facts["device"], facts["threads"]) == ("cpu", 1)
