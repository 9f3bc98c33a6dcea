import numpy as np
import pytest

from stages.images import read_image
from stages.jobs.demo import write_demo
from stages.jobs.reader import load_job


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_demo_is_six_edits_of_three_scenes_with_their_truth(tmp_path):
    written = write_demo(tmp_path)
    job = load_job(written.path)
    assert not job.bad
    assert (job.name, len(job.edits)) == ("demo", 6)
    assert {edit.config.build_mask.mode for edit in job.edits} == {"content"}  # of the preset plus
    assert len({edit.image.digest for edit in job.edits}) == 3
    assert len({(edit.image.digest, edit.prompt) for edit in job.edits}) == 3
    for edit in job.edits:
        before, after = read_image(edit.image_path), read_image(written.truths[edit.id])
        assert before.shape == after.shape
        assert np.any(before != after)


def test_writing_the_demo_again_leaves_its_files_alone(tmp_path):
    write_demo(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    write_demo(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before
