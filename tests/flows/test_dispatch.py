"""In which order a run does what there is to do, and in how many tasks."""

import pytest
from rich.console import Console

from flows.dispatch import dispatch
from flows.request import RunRequest
from flows.run import Outcome, Run
from stages.failures import Failure


@pytest.mark.parametrize(
    ("shard_id", "sizes"), [(None, [1] * 10 + [2]), ("20260101T000000Z-abc", [1, 11])]
)
def test_first_edits_go_alone_and_in_a_shard_only_one(shard_id, sizes, make_job, tmp_path):
    job = make_job(images=12)
    run = Run.open(
        job, tmp_path / "store", RunRequest(), shard_id=shard_id, console=Console(quiet=True)
    )
    chunks = []

    def perform(chunk):
        chunks.append([item.edit.id for item in chunk])
        for item in chunk:
            failed = Failure(item.edit.id, item.stage.name, "NotFinite", "as all do here")
            run.take(item, Outcome(failure=failed), 0.1)

    run.seconds.saw("train_lora", 1.0)
    dispatch(run, perform)
    assert [len(chunk) for chunk in chunks] == sizes
