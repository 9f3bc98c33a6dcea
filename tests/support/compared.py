"""A job of three images in three ways, with results that are made up: one fails, one is missing."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from support.finished_job import finish, write_job

from artifacts import ArtifactStore
from stages.failures import Attempt
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job
from stages.pipeline import RESULT
from stages.planning.plan import plan_edits

VARIANTS = """
[[variants]]
name = "cooler"
sample_image = { correspondence_temperature = 0.5 }

[[variants]]
name = "slower"
sample_image = { correspondence_rate = 0.5 }
"""
PROMPT = "<img src=x onerror=alert(1)> \"a\" & 'b' ☃"
LEFT = {
    "": {"edit-0": 20.0, "edit-1": 10.0, "edit-2": 6.0},
    "cooler": {"edit-0": 5.0, "edit-1": 14.0, "edit-2": 6.2},
    "slower": {"edit-0": 19.0, "edit-1": 9.0},
}
"""Pixels that the witness finds left of each drag, by variant and edit; no other edit is done."""


def write_compared(folder: Path, toml: str = VARIANTS) -> Path:
    """Write the job, with a picture of its own for each edit."""
    path = write_job(folder, edits=3, toml=toml)
    lines = [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        Image.fromarray(np.full((64, 96, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
        line |= {"image": f"{number}.png", "prompt": PROMPT}
    (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def finish_compared(path: Path, store: ArtifactStore) -> None:
    """Publish the results of a job that `write_compared` has written."""
    for place, edit in enumerate(load_job(path).edits):
        distance = LEFT[edit.variant].get(edit.base_id)
        if distance is not None:
            finish(edit, store, shade=10 + place, distance=distance)
        else:
            fail(edit, store)


def fail(edit: Edit, store: ArtifactStore) -> None:
    """Note a failed attempt at the result of an edit."""
    finish(edit, store, until="optimize_latent")
    (plan,) = plan_edits([edit], store)
    result = plan.stages[RESULT.name]
    assert result.key
    attempt = Attempt.of(edit.id, ArithmeticError("the loss is not finite at step 3"))
    store.add_attempt(RESULT.name, result.key, attempt.document())
