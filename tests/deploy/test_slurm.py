"""The scripts for Slurm, under a stand-in for its commands and its environment."""

import re
import subprocess
from pathlib import Path

import pytest
from support.commands import check_command
from support.finished_job import finish
from support.slurm_stand_in import Slurm
from support.tiny_job import write_job

from artifacts import ArtifactStore
from stages.jobs.reader import load_job

SCRIPTS = Path(__file__).parents[2] / "deploy" / "slurm"
SIGTERM_CODE = 143
"""Of what a SIGTERM ends before its first step."""


@pytest.fixture
def slurm(tmp_path) -> Slurm:
    """A cluster with nothing to do."""
    return Slurm.at(tmp_path / "cluster")


def submit(slurm: Slurm, *words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SCRIPTS / "submit", *map(str, words)],
        env=slurm.environment,
        cwd=slurm.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def task(number: int, of: int) -> dict[str, str]:
    """Return the variables of a task of an array."""
    return {
        "SLURM_JOB_ID": str(10 + number),
        "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_MIN": "0",
        "SLURM_ARRAY_TASK_COUNT": str(of),
    }


def end(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """Return a job's exit code and what it printed."""
    said, _ = process.communicate(timeout=60)
    return process.returncode, said.decode()


def test_a_preempted_task_is_queued_again_and_the_page_shows_what_all_tasks_did(
    slurm, tmp_path, tiny_model_directory
):
    job = write_job(tmp_path / "job", tiny_model_directory, images=2)
    store, out = tmp_path / "store", tmp_path / "out"
    for edit in load_job(job).edits:
        finish(edit, ArtifactStore.open(store))
    assert submit(slurm, 2, job, store, out, "--device", "cpu").stdout == "Shards: 1; page: 2\n"
    shards, page = slurm.queue
    assert "--array=0-1" in shards
    assert "--dependency=afterany:1" in page

    first, second = (slurm.start(shards, **task(number, of=2)) for number in (0, 1))
    slurm.preempt("10")
    assert end(first)[0] == SIGTERM_CODE
    assert slurm.asked == ["requeue 10"]
    for code, said in (end(second), end(slurm.start(shards, **task(0, of=2)))):
        assert code == 0, said
        assert "1 done" in said
    code, said = end(slurm.start(page))
    assert code == 0, said
    assert len([*(out / "images").iterdir()]) == 2
    assert slurm.asked == ["requeue 10"]


def test_the_page_is_of_the_variants_that_the_shards_do(slurm):
    submit(slurm, 2, "job.toml", "store", "out", "--set", "seed=1", "--batch=4", "--set=seed=2")
    shards, page = slurm.queue
    assert shards[-4:] == ["--set", "seed=1", "--batch=4", "--set=seed=2"]
    assert page[-3:] == ["--set", "seed=1", "--set=seed=2"]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130, 143])
def test_only_a_run_that_was_stopped_is_queued_again(slurm, code):
    program = slurm.folder / "bin" / "adaptivedrag"
    program.write_text(f"#!/bin/sh\n# A stand-in for a run with this exit code.\nexit {code}\n")
    program.chmod(0o755)
    submit(slurm, 1, "job.toml", "store", "out")
    assert end(slurm.start(slurm.queue[0], **task(0, of=1)))[0] == code
    assert slurm.asked == (["requeue 10"] if code in (130, SIGTERM_CODE) else [])


def test_too_few_words_are_answered_with_how_it_is_called(slurm):
    done = submit(slurm, 8, "job.toml")
    assert done.returncode == 2
    assert "SHARDS JOB STORE OUT" in done.stderr
    assert not slurm.queue


@pytest.mark.parametrize("script", ["shards", "page"])
def test_a_script_calls_what_there_is(script):
    text = (SCRIPTS / f"{script}.sbatch").read_text("utf-8").replace("\\\n", "")
    (command,) = re.findall(r"adaptivedrag ((?:run|report) .*)", text)
    words = command.replace('"$@"', "job.toml --store s --out o").replace('"$shard"', "1/8")
    assert check_command(words.split()) == ("run" if script == "shards" else "report")
