"""What `run` prints of how a job went."""

import numpy as np
from support.finished_job import CIRCUMSTANCES, finish, write_job

from artifacts import ArtifactStore, Document, TensorFile
from flows.request import RunRequest
from flows.run import Outcome, Run
from flows.terminal.run import say_summary
from stages.jobs.reader import load_job
from stages.pipeline import BY_NAME
from stages.planning.work import work_for


def test_verdicts_are_counted(tmp_path, capsys):
    job = write_job(tmp_path / "job", edits=2)
    store = ArtifactStore.open(tmp_path / "store")
    for edit in load_job(job).edits:
        finish(edit, store, until="sample_image")
    run = Run.open(job, tmp_path / "store", RunRequest())
    witness, point = BY_NAME["locate_handles"], {"verdict": "stalled", "points": []}
    for item in work_for(witness, [*run.plans.values()])[0]:
        payload = {"handles": Document([])}
        run.take(item, Outcome(store.publish(item.action, payload, CIRCUMSTANCES, point)), 1.0)
    say_summary(run.summary())
    assert capsys.readouterr().out.splitlines()[0] == "By the witness: 2 stalled"


def test_what_a_stage_warns_of_is_printed_once_for_all_edits(tmp_path, capsys):
    run = Run.open(write_job(tmp_path / "job", edits=5), tmp_path / "store", RunRequest())
    (item,), _ = work_for(BY_NAME["train_lora"], [*run.plans.values()])
    payload = {"lora": TensorFile({"weight": np.ones(3, np.float32)})}
    said = {"warnings": ["the picture is odd"]}
    record = run.store.publish(item.action, payload, CIRCUMSTANCES, said)
    run.take(item, Outcome(record), 1.0)
    assert run.summary().warnings == {"the picture is odd": tuple(run.plans)}
    say_summary(run.record())
    line = "  edit-0, edit-1, edit-2 and 2 more: the picture is odd"
    assert capsys.readouterr().out.splitlines()[:2] == ["Warnings:", line]
