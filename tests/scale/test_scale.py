"""The programs of `make scale` in small."""

import shutil
from pathlib import Path

import pytest
from benchmarks.many_edits import EMBEDDED, write_dataset
from deaths import EDITS_PER_SHARD, Death
from diary import Note, notes
from judging import differences, summaries, wrong_results
from loopback import place
from night import COUNTED
from orchestration import NOTES, mean

from artifacts import ArtifactStore
from stages.pipeline import STAGE_NAMES

PROGRAM = Path(__file__).with_name("bare.py")


@pytest.mark.slow
def test_stages_that_wait_make_the_same_bytes_in_a_run_and_alone_and_what_is_lost_is_found():
    with place(wait=0) as at:
        job = write_dataset(at.folder / "job", edits=2, per_image=1, models=EMBEDDED)
        store, whole, out = (at.folder / name for name in ("store", "whole", "out"))
        at.call("run", job, "--store", store, "--out", out)
        alone = at.beside("alone")
        alone.wait_for(alone.start_python(PROGRAM, job, whole, log="bare"), "bare")
        for each in (at, alone):
            diary = notes(each.diary)
            assert [note.event for note in diary].count("ended") == len(diary) / 2
            assert len(diary) == 2 * 2 * len(STAGE_NAMES)
            assert not any(note.was_there for note in diary)
        stores = ArtifactStore.open(store), ArtifactStore.open(whole)
        assert [*differences(*stores), *wrong_results(out, 2)] == []
        assert [sum(each["made"].values()) for each in summaries(store)] == [2 * len(STAGE_NAMES)]
        shutil.rmtree(store / "actions" / "sample_image")
        (out / "images" / "edit-000001.png").unlink()
        assert len([*differences(*stores)]) == 1
        assert [*wrong_results(out, 2)] == ["1 edits lack their picture, such as edit-000001"]


def test_a_shard_is_elsewhere_once_another_process_begins_one_of_its_edits():
    def note(at, pid, event, edit):
        return Note(at, pid, event, "sample_image", "key", False, f"edit-{edit:06d}")

    death = Death(shard=1, pid=7, whom="worker", at=10.0)
    of_shard = EDITS_PER_SHARD + 3
    before = [
        note(9.0, 8, "began", of_shard),
        note(11.0, 7, "began", of_shard),
        note(12.0, 8, "ended", of_shard),
        note(13.0, 8, "began", 3),
    ]
    death.look(before)
    assert death.after is None
    death.look([*before, note(31.0, 8, "began", of_shard)])
    assert death.after == 21.0


def test_tasks_name_how_many_edits_they_have():
    assert COUNTED.fullmatch("train_lora of edit-1")["more"] is None
    assert COUNTED.fullmatch("train_lora of edit-1 and 12 more")["more"] == "12"


def test_the_cost_of_an_edit_is_that_of_all_stages():
    diary = [Note(0.01 * at, 1, "began", "", "", False, "") for at in range(20 * NOTES)]
    assert mean(diary) == pytest.approx(10 * NOTES, rel=0.01)
