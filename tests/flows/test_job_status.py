"""How far a job is: what the store has, and what runs on any machine are at."""

import json
import os
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.finished_job import finish, write_job
from typer.testing import CliRunner

import flows.job_status
import flows.terminal.status
from artifacts import ArtifactStore, StoreUnavailable
from cli import app
from flows.beat import PATIENCE, Watch, beating
from flows.job_status import (
    DESERTED_SECONDS,
    at_work_lines,
    status_document,
    status_headline,
    status_of,
)
from flows.outcomes import RunSummary, note_at_work, record_run
from flows.progress import Standing
from flows.terminal.status import watch_status
from stages.failures import Attempt
from stages.jobs.reader import load_job
from stages.planning.plan import plan_edits

STANDING = Standing(1, 4, 0, 118.0, 600.0, 60.0)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A job of four edits, the first of which is done; its store is the usual one."""
    monkeypatch.chdir(tmp_path)
    path = write_job(tmp_path / "job", edits=4)
    finish(load_job(path).edits[0], ArtifactStore.open(".adaptivedrag"))
    return path


@pytest.fixture
def store(path):
    return ArtifactStore.open(".adaptivedrag")


def told(*words):
    ended = CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(word) for word in words])
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_who_is_at_what_and_since_when_is_told_until_the_run_ends(path, store):
    note_at_work(store, "run-1", str(path), ["edit-1", "edit-2"], "optimize_latent", STANDING)
    status = status_of(load_job(path), store)
    assert status_headline(status).startswith("job: 1 of 4 edits done, 0 failed, 118/h, ends about")
    slow = replace(STANDING, per_hour=0.4)
    note_at_work(store, "run-1", str(path), ["edit-1", "edit-2"], "optimize_latent", slow)
    assert ", 0.4/h, " in status_headline(status_of(load_job(path), store))
    (line,) = at_work_lines(status)
    said = r"optimize_latent of edit-1, edit-2 since \d\d:\d\d:\d\d \(\d.*s\) on \S+"
    assert re.match(rf"{said}, process {os.getpid()}, 118/h", line)
    (note,) = status_document(status, store)["at_work"]
    since = datetime.fromisoformat(note["since"])
    assert abs(datetime.now(UTC) - since) < timedelta(seconds=60)
    assert abs(status.ends - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=60)
    record_run(store, RunSummary("run-1", "job", str(path), "now"))
    assert not status_of(load_job(path), store).at_work


def test_of_runs_at_one_edit_the_later_is_at_work_and_none_at_what_is_done(path, store):
    note_at_work(store, "run-0", str(path), ["edit-0"], "sample_image", STANDING)
    note_at_work(store, "run-1", str(path), ["edit-1"], "train_lora", STANDING)
    time.sleep(0.01)  # the file system's clock
    silent = replace(STANDING, per_hour=None, seconds_left=None)
    note_at_work(store, "run-2", str(path), ["edit-1", "edit-2"], "build_mask", silent)
    note_at_work(store, "run-3", "elsewhere/job.toml", ["edit-3"], "build_mask", STANDING)
    status = status_of(load_job(path), store)
    assert [each.run_id for each in status.at_work] == ["run-2"]
    assert (status.per_hour, status.ends) == (None, None)


def test_the_end_is_later_where_edits_wait_for_the_runs_at_work(path, store):
    alone = replace(STANDING, total=2, done=1, per_hour=60.0, seconds_left=60.0)
    note_at_work(store, "run-1", str(path), ["edit-1"], "train_lora", alone)
    status = status_of(load_job(path), store)
    assert status.at_work[0].left == 1
    minutes = (status.ends - datetime.now(UTC)).total_seconds() / 60
    assert minutes == pytest.approx(3, abs=0.5)  # two more of 60 an hour


def test_a_killed_run_is_not_at_work_for_ever_whatever_clocks_say(path, store):
    """By one look, the store's clock counts; in a watch, only that nothing changes."""
    note_at_work(store, "run-1", str(path), ["edit-1"], "train_lora", STANDING)
    job, now = load_job(path), [0.0]
    watch = Watch(lambda: now[0])

    def look():
        status = status_of(job, store, watch)
        return len(status.at_work), len(status.silent), status.is_deserted

    assert look() == (1, 0, False)
    now[0] += PATIENCE + 1
    with beating(store, "run-1"):
        time.sleep(0.05)
    assert look() == (1, 0, False)  # it has changed meanwhile
    now[0] += PATIENCE + 1
    assert look() == (0, 1, False)
    assert "no sign of life of 1 run" in status_headline(status_of(job, store, watch))
    now[0] += DESERTED_SECONDS
    assert look() == (0, 1, True)
    hour_ago = time.time() - 3600
    for name in ("at-work.json", "beat.json"):
        os.utime(path.parent.parent / ".adaptivedrag" / "runs" / "run-1" / name, (hour_ago,) * 2)
    shown = told("status", path)
    assert "No sign of life of:" in shown
    assert f"process {os.getpid()} for 1 h 0 min" in shown
    assert status_of(job, store, Watch()).at_work  # by a clock that is wrong by an hour


def test_a_watch_ends_when_those_at_work_are_gone(path, store, monkeypatch):
    monkeypatch.setattr(flows.terminal.status, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(flows.job_status, "PATIENCE", 0.1)
    monkeypatch.setattr(flows.job_status, "DESERTED_SECONDS", 0.2)
    note_at_work(store, "run-1", str(path), ["edit-1"], "train_lora", STANDING)
    assert "Nobody is at work any more, and 3 edits left" in told("status", path, "--watch")


def test_a_watch_ends_when_those_at_work_have_stopped_early(path, store):
    job, now = load_job(path), [0.0]
    watch = Watch(lambda: now[0])
    assert not status_of(job, store, watch).at_work
    now[0] += DESERTED_SECONDS
    assert not status_of(job, store, watch).is_deserted  # nobody has begun
    note_at_work(store, "run-1", str(path), ["edit-1"], "train_lora", STANDING)
    assert status_of(job, store, watch).at_work
    record_run(store, RunSummary("run-1", "job", str(path), "now", stopped="the disk is full"))
    assert not status_of(job, store, watch).is_deserted  # others may go on
    now[0] += DESERTED_SECONDS
    assert status_of(job, store, watch).is_deserted


def test_the_status_as_json_has_stable_keys(path, store):
    with path.with_name("edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "cat.png", "drags": []}\n')
    document = json.loads(told("status", path, "--json"))
    assert list(document) == [
        *("schema", "job", "path", "store", "edits", "done", "failed", "bad"),
        *("causes", "at_work", "silent", "per_hour", "ends", "stages"),
    ]
    assert (document["edits"], document["done"], document["failed"]) == (4, 1, 0)
    assert document["bad"][0]["id"] == "worse"


def test_equal_failures_are_one_cause(path, store):
    for plan in plan_edits(load_job(path).edits[1:], store):
        attempt = Attempt.of(plan.edit.id, ValueError(f"no luck with {plan.edit.id}")).document()
        store.add_attempt("build_mask", plan.stages["build_mask"].key, attempt)
    (cause,) = json.loads(told("status", path, "--json"))["causes"]
    assert cause["ids"] == ["edit-1", "edit-2", "edit-3"]
    assert "3 edits (edit-1, edit-2, edit-3): build_mask: ValueError" in told("status", path)
    assert told("status", path, "--watch").count("\n") == 1  # over, since nobody is at work


def test_a_watch_tells_what_changes_until_the_job_is_over(path, store, monkeypatch):
    monkeypatch.setattr(flows.terminal.status, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(flows.terminal.status, "WATCH_SHARE", 0)

    def work() -> None:
        for edit in load_job(path).edits[1:]:
            time.sleep(0.2)
            finish(edit, store)

    thread = threading.Thread(target=work)
    thread.start()
    lines = told("status", path, "--watch").splitlines()
    thread.join()
    assert "job: 1 of 4 edits done, 0 failed" in lines[0]
    assert "job: 4 of 4 edits done, 0 failed" in lines[-1]
    assert len(lines) == len(set(lines)) <= 4


def test_a_slow_first_look_keeps_no_watch_waiting(path, store, monkeypatch):
    monkeypatch.setattr(flows.terminal.status, "WATCH_SECONDS", 0.05)
    looks = []

    def slow_at_first(job, opened, watch):
        status = status_of(job, opened, watch)
        if not looks:
            time.sleep(0.5)
            for edit in load_job(path).edits[1:]:
                finish(edit, store)
        looks.append(status)
        return status

    monkeypatch.setattr(flows.terminal.status, "status_of", slow_at_first)
    clock = time.monotonic()
    told("status", path, "--watch")
    assert len(looks) == 2
    assert time.monotonic() - clock < 4


def test_neither_a_silent_server_nor_a_store_that_is_away_keeps_a_watch_from_its_end(
    path, store, monkeypatch, capsys
):
    monkeypatch.setattr(flows.terminal.status, "WATCH_SECONDS", 0.05)
    looks = []

    def away_twice(*args):
        looks.append("store")
        if len(looks) in (3, 4):
            raise StoreUnavailable("the bucket does not answer")
        return status_of(*args)

    def is_over(status):
        looks.append("server")
        time.sleep(0.4)  # it does not answer
        return len(looks) > 7

    monkeypatch.setattr(flows.terminal.status, "status_of", away_twice)
    clock = time.monotonic()
    watch_status(load_job(path), store.location, is_over)
    assert time.monotonic() - clock < 4
    assert capsys.readouterr().err == "the bucket does not answer; trying again\n"


def test_an_edit_is_not_watched(path):
    ended = CliRunner().invoke(app, ["status", str(path), "edit-1", "--watch"])
    assert ended.exit_code == 2
    assert "name no edit" in ended.output
