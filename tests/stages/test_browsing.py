"""What was made of a job, read from Python."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.finished_job import finish

import cli
from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactStore
from stages import Job, NotMade
from stages.browsing import STORE
from stages.failures import Attempt
from stages.jobs.reader import load_job
from stages.planning.plan import plan_edits


def write_job(folder: Path, toml: str = 'preset = "paper"') -> Path:
    """Write a job of three edits of one image, on the pocket models, and a line that is bad."""
    Image.new("RGB", (96, 64), (90, 120, 40)).save(folder / "a.png")
    drags = [{"handle": [30, 30], "target": [50, 30]}]
    lines = [{"id": name, "image": "a.png", "drags": drags} for name in ("peak", "cat")]
    lines.append({"id": "dog", "image": "a.png", "drags": drags, "prompt": "a dog"})
    lines.append({"id": "bad", "image": "none.png", "drags": drags})
    (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "job.toml").write_text(toml)
    return folder / "job.toml"


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A job with an edit that is finished, and another that is begun, in the usual store."""
    monkeypatch.chdir(tmp_path)
    path = write_job(tmp_path)
    peak, _, dog = load_job(path).edits
    store = ArtifactStore.open(STORE)
    finish(peak, store, shade=77)
    finish(dog, store, until="train_lora")
    return path


def test_everything_of_a_finished_edit_is_there(path):
    made = Job(path)["peak"]
    assert (made.image == 77).all()
    assert made.image.shape == made.original.shape == (64, 96, 3)
    assert (made.mask.dtype, made.mask.shape) == (bool, (64, 96))
    assert made.mask[20, 30]
    assert not made.mask[0, 0]
    assert made.superpixels.ndim == 2
    assert made.latents.ndim == 4
    assert np.array_equal(made.lora["weight"], np.ones(3))
    assert (made.drag["verdict"], made.witness["verdict"]) == ("reached", "stalled")
    assert set(made.read("optimize_latent")) == {"latent", "tracks"}
    assert len(made.made) == 7
    assert made.edit.id == "peak"


def test_what_is_missing_says_what_makes_it(path):
    made = Job("job.toml")["dog"]
    assert np.array_equal(made.lora["weight"], np.ones(3))
    assert made.mask.shape == (64, 96), "shared with another edit of the image"
    for name in ("image", "latents"):
        with pytest.raises(
            NotMade, match="it is not made yet: run `adaptivedrag run job"
        ) as missing:
            getattr(made, name)
        assert str(missing.value).endswith(" --select dog`")
    assert repr(made) == "<results of dog: train_lora, extract_superpixels, build_mask>"


def test_what_has_failed_says_why(path):
    job = Job(path)
    (plan,) = plan_edits([job["dog"].edit], ArtifactStore.open(STORE))
    key = plan.stages["invert_image"].key
    failure = Attempt.of("dog", ValueError("too dark"))
    ArtifactStore.open(STORE).add_attempt("invert_image", key, failure.document())
    with pytest.raises(NotMade, match=r"invert_image failed before: .*too dark.*--retry-failed`"):
        job["dog"].image  # noqa: B018


def test_a_stage_that_is_off_is_said_to_be_off(path):
    path.write_text('lora = "off"')
    with pytest.raises(NotMade, match='train_lora is not part of it, because lora = "off"'):
        Job(path)["peak"].lora  # noqa: B018


def test_bytes_that_are_damaged_or_gone_are_made_again_by_a_run(path, tmp_path):
    stored = next((tmp_path / STORE / "objects").rglob("image.png"))
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    made = Job(path)["peak"]
    with pytest.raises(NotMade, match=r"sample_image is damaged .*run `adaptivedrag run"):
        made.image  # noqa: B018
    stored.unlink()
    with pytest.raises(NotMade, match=r"bytes are gone or damaged: run `adaptivedrag run"):
        Job(path)["peak"].image  # noqa: B018


def test_a_job_is_a_mapping_of_the_edits_that_can_be_done(path):
    job = Job(path)
    assert list(job) == ["peak", "cat", "dog"]
    assert len(job) == 3
    assert "cat" in job
    assert "cow" not in job
    assert "bad" not in job
    assert [bad.id for bad in job.bad] == ["bad"]
    with pytest.raises(KeyError) as missing:
        job["peek"]
    assert str(missing.value).endswith("has no edit 'peek': did you mean 'peak'?")
    with pytest.raises(InvalidEdit, match=r"none\.png"):
        job["bad"]


def test_another_store_is_read_and_none_is_created(path, tmp_path):
    other = Job(path, store=tmp_path / "other store")
    with pytest.raises(NotMade, match=r"--select peak --store '.*/other store'`"):
        other["peak"].image  # noqa: B018
    assert not (tmp_path / "other store").exists()
    assert cli.STORE == STORE


def test_reading_a_job_loads_neither_torch_nor_prefect(path):
    code = (
        "import sys; from stages import Job; Job(sys.argv[1])['peak'].image; "
        "print([name for name in ('torch', 'prefect', 'diffusers') if name in sys.modules])"
    )
    line = [sys.executable, "-c", code, path]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_names_no_job_no_edit_and_no_stage_is_refused_in_one_line(path):
    with pytest.raises(InvalidEdit, match="the job is a NoneType: name a job file"):
        Job(None)
    with pytest.raises(KeyError, match="0 is a int, not the id of an edit"):
        Job(path)[0]
    assert 3 not in Job(path)
    with pytest.raises(InvalidEdit, match="no stage 'optimize': name one of train_lora, "):
        Job(path)["peak"].read("optimize")
