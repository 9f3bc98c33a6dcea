"""Kills at random moments of jobs on the other families: Stable Diffusion 2.x with v, and SDXL.

Tiny random models of the topology of the real ones; the job is that of `kills`, but smaller.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kills import kill_ours
from support.report import Row, on_seed
from support.tiny_job import write_job
from support.tiny_models import write_model

KILLS = 20


def rows(seed: int) -> Iterator[Row]:
    for family in ("sd2-v", "sdxl"):
        with TemporaryDirectory() as folder, on_seed(family, seed):
            place = Path(folder)
            job = write_job(place / "job", write_model(place / "model", family), images=2, each=2)
            row = kill_ours(job, place / "ours", KILLS, seed)
            yield replace(row, test=f"{row.test}: tiny {family}")
