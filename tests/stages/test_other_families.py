"""Stable Diffusion 2.x and SDXL through all stages: cut off and resumed, and in a batch.

`tests/faults/families.py` kills processes that do the same.
"""

import numpy as np
import pytest
from support.tiny_job import write_job

from adaptivedrag.config import Runtime
from adaptivedrag.errors import Stopped
from artifacts import ArtifactStore
from stages.jobs.reader import load_job
from stages.pipeline import RESULT, STAGES
from stages.planning.plan import bring_up_to_date, plan_edits
from stages.planning.work import cut_batches, work_for
from stages.workbench import Workbench

SHORT = {
    "train_lora": {"steps": 1},
    "invert_image": {"num_steps": 3, "inverted_steps": 1},
    "optimize_latent": {"steps": 2, "max_steps": 2},
}


@pytest.mark.parametrize("family", ["sd2-v", "sdxl"])
def test_a_family_goes_through_all_stages(family, family_directory, tmp_path):
    short = {f"edit-0-{number}": SHORT for number in range(2)}
    job = load_job(write_job(tmp_path / "job", family_directory(family), each=2, **short))
    store = ArtifactStore.open(tmp_path / "store")
    bench, plans = Workbench(store, Runtime(threads=1)), plan_edits(job.edits, store)
    together = {stage.name: perform(bench, stage, plans, store) for stage in STAGES}
    assert together["sample_image"] == 2
    made = {stage: store.read(found.record) for stage, found in plans[0].found.items()}
    assert not np.array_equal(
        made["optimize_latent"]["latent"], made["invert_image"]["latents"][-1:]
    )
    (alone,) = bench.make(work_for(RESULT, plans[:1], force=True)[0], force=True)
    difference = store.read(alone)["image"].astype(int) - made["sample_image"]["image"]
    assert np.abs(difference).max() <= 1


def perform(bench, stage, plans, store) -> int:
    """Make what a stage lacks, two at a time; the first drag is stopped once in between.

    Returns:
        The size of the largest batch.
    """
    batches = list(cut_batches(work_for(stage, plans)[0], lambda _item: 2))
    if stage.name == "optimize_latent":
        check_that_it_resumes(bench, batches[0][0])
    for batch in batches:
        made = {item.key: record for item, record in zip(batch, bench.make(batch), strict=True)}
        bring_up_to_date(plans, stage, made, store)
    return max(map(len, batches))


def check_that_it_resumes(bench, item) -> None:
    """Stop an item's work and resume it: the same bytes as without."""

    def stop_after_one(step, _steps):
        if step == 1:
            raise Stopped

    with pytest.raises(Stopped):
        bench.make([item], listen=lambda _item, _together: stop_after_one)
    (resumed,) = bench.make([item])
    assert resumed.summary["resumed_after"] == 1
    (whole,) = bench.make([item], force=True)
    assert whole.object == resumed.object
