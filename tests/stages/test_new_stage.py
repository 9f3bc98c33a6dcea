"""A stage of one's own is one new file and one line: everything else reads its declaration.

The project is copied, gets a stage after `sample_image` that makes the picture twice as large, and
plans, runs, shows, reports, verifies and collects with it, by its own commands, all of them in one
process: each by itself would load torch and compile the copy's modules again.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_job import write_job

ROOT = Path(__file__).parents[2]
ROOMS = ("adaptivedrag", "artifacts", "stages", "flows")

UPSCALE_IMAGE = '''"""Make the edited image larger."""

from adaptivedrag.section import Positive, Section
from artifacts import Picture
from stages.stage import Made, Stage, Tile, Work, one_by_one

STAGE_VERSION = 1


class UpscaleImageConfig(Section):
    """How much larger."""

    factor: Positive = 2


def upscale_image(work: Work) -> Made:
    """The edited image -> part `image`, larger."""
    factor = work.config.upscale_image.factor
    image = work.upstream["sample_image"]["image"]
    return Made({"image": Picture(image.repeat(factor, 0).repeat(factor, 1))}, {"factor": factor})


def _draw(image, look):
    from stages.reports.tiles import drag_tile

    return drag_tile(image, (), look.longest)


STAGE = Stage(
    name="upscale_image",
    version=STAGE_VERSION,
    section=UpscaleImageConfig,
    reads=lambda _config: (),
    needs=("sample_image",),
    run=one_by_one(upscale_image),
    first_guess=0.1,
    result="image",
    tiles=(Tile("upscaled", "image", _draw),),
)
'''


COMMANDS = """
import json, sys
from typer.testing import CliRunner
from cli import app

for line in sys.stdin:
    ended = CliRunner().invoke(app, json.loads(line))
    print(json.dumps([ended.exit_code, ended.stdout, ended.stderr]), flush=True)
"""
"""Answers each line, the words of a command, with how it ended and what it printed."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one file more, and one line in the pipeline."""
    folder = tmp_path_factory.mktemp("project")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room)
    shutil.copy(ROOT / "cli.py", folder)
    (folder / "stages" / "upscale_image.py").write_text(UPSCALE_IMAGE)
    pipeline = folder / "stages" / "pipeline.py"
    line = "    sample_image.STAGE,\n"
    text = pipeline.read_text().replace(line, f"{line}    upscale_image.STAGE,\n")
    pipeline.write_text(
        text.replace("from stages import (\n", "from stages import (\n    upscale_image,\n")
    )
    return folder


@pytest.fixture
def call(project, tmp_path):
    """Return what a command of the copied project prints, once it has ended well."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def told(*words: str) -> str:
        process.stdin.write(json.dumps([*words, "--store", "store"]) + "\n")
        process.stdin.flush()
        exit_code, output, errors = json.loads(process.stdout.readline())
        assert exit_code == 0, output + errors
        return output

    yield told
    process.communicate()


@pytest.mark.slow
def test_a_stage_in_one_file_is_planned_run_shown_reported_verified_and_collected(
    call, tmp_path, tiny_model_directory
):
    job = write_job(tmp_path / "job", tiny_model_directory, images=1, each=2)
    job.write_text(job.read_text() + "\n[upscale_image]\nfactor = 3\n")
    planned = json.loads(call("plan", str(job), "--json"))
    assert planned["stages"]["upscale_image"]["to_make"]["artifacts"] == 2
    assert "2 done" in call("run", str(job), "--out", "out")
    picture = np.asarray(Image.open(tmp_path / "out" / "images" / "edit-0-0.png"))
    assert picture.shape == (384, 384, 3)
    (row, _) = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert "upscale_image" in row["keys"]
    assert "2 of 2 edits done" in call("status", str(job))
    assert "0 artifacts made" in call("run", str(job), "--out", "out")
    job.write_text(job.read_text().replace("factor = 3", "factor = 2"))
    assert "upscale_image.factor 3 → 2" in call("plan", str(job))
    assert "2 done" in call("run", str(job), "--only", "upscale_image", "--out", "out")
    assert Image.open(tmp_path / "out" / "images" / "edit-0-0.png").size == (256, 256)
    assert "0 damaged, 0 notes" in call("store", "verify")
    assert "upscale_image" in call("store", "du")
    assert "upscale_image" in call("show", str(job), "edit-0-0")
    collected = call("store", "gc", "--keep", str(job), "--grace", "0s")
    assert "object" in collected
    assert "0 artifacts made" in call("run", str(job), "--out", "out")
