"""A job sent to a real worker: same flow, same bytes."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest
import torch
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from support.tiny_job import DIVERGING

from artifacts import ArtifactStore
from flows.beat import BEAT
from flows.job_status import status_of
from flows.outcomes import NOT_STARTED, ended
from flows.prefect_server import PrefectServer, client_settings
from flows.prefect_settings import PrefectUnavailable
from flows.request import RunRequest
from flows.workers import deployment
from flows.workers.deployment import deploy, deployment_of
from flows.workers.following import following
from flows.workers.revival import Reviver
from flows.workers.submission import outstanding, submit
from flows.workers.worker import Worker
from stages.jobs.reader import load_job
from stages.planning.plan import plan_job

ROOT = Path(__file__).parents[3]
GONE_WITHIN = 30.0


def start_worker(pool: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "cli", "worker", "--pool", pool, "--processes", "1"]
    return subprocess.Popen(command, cwd=ROOT)


@contextmanager
def working(pool: str) -> Iterator[subprocess.Popen]:
    """Have a worker of one process at work, which then leaves by itself."""
    worker = start_worker(pool)
    try:
        yield worker
        worker.terminate()
        assert worker.wait(GONE_WITHIN) == 0
    finally:
        worker.kill()


def kill_at_work(pool: str, store: ArtifactStore) -> None:
    """Kill a worker that has begun a shard; its process goes with it."""
    worker = start_worker(pool)
    while not (runs := store.runs(having=BEAT)):
        time.sleep(0.05)
    (child,) = children(worker.pid)
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + GONE_WITHIN
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
    assert not ended(store, runs[0])


def bring_back(pool: str) -> None:
    """See that the killed run is silent, and queue it again, as each worker does in its time."""
    said: list[str] = []
    with deployment.users_server() as client:
        reviver = Reviver(deployment_of(client, pool), said.append, patience=1.0)
        while not said:
            reviver.look(client)
    assert said[0].endswith("no sign of life for 1 s; it is queued again")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for path in found for each in path.read_text().split()]


def images_of(job: Path, store: Path) -> dict[str, str]:
    plan = plan_job(load_job(job), ArtifactStore.open(store))
    found = {each.edit.id: each.stages["sample_image"].record for each in plan.edits}
    return {name: record.object for name, record in found.items() if record}


def parameters_of(run_id: str, server: PrefectServer) -> dict:
    with client_settings(server), get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(run_id)).parameters


@pytest.mark.slow
def test_a_worker_makes_the_bytes_of_a_run_and_prefect_names_what_fails_there(
    make_job, run_here, users_server, tmp_path, monkeypatch
):
    job = make_job(images=2, each=2, **{"edit-1-1": DIVERGING})
    assert run_here(job).exit_code == 1
    assert deploy("test-pool") == "edit-shard/test-pool"
    store, ours, theirs = tmp_path / "workers-store", job.parent / "out", tmp_path / "out"
    request = RunRequest(out=str(theirs))
    runs = submit(job, store, request, pool="test-pool").created
    assert len(runs) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    kill_at_work("test-pool", ArtifactStore.open(store))
    again = submit(job, store, request, pool="test-pool")
    assert (again.created, again.at_hand) == ((), 4)
    bring_back("test-pool")
    with working("test-pool"), following(again, "test-pool", print) as followed:
        while not followed.is_over(status_of(load_job(job), ArtifactStore.open(store))):
            time.sleep(0.2)
        summary = followed.summary()
    assert (summary.exit_code, len(summary.done), len(summary.failed)) == (1, 3, 1)
    assert images_of(job, store) == images_of(job, job.parent / "store")
    assert len(ArtifactStore.open(store).runs()) == 2
    rows = map(json.loads, (theirs / "results.jsonl").read_text().splitlines())
    statuses = {row["id"]: row["status"] for row in rows}
    done = ("edit-0-0", "edit-0-1", "edit-1-0")
    assert statuses == {**dict.fromkeys(done, "done"), "edit-1-1": "failed"}
    for edit in done:
        picture = f"images/{edit}.png"
        assert (theirs / picture).read_bytes() == (ours / picture).read_bytes()
    page = (theirs / "index.html").read_text("utf-8")
    assert "not done yet" not in page
    assert "goes on" not in page
    assert not submit(job, store, RunRequest(), pool="test-pool").created
    assert_prefect_names_what_failed(again.tag, users_server)


def assert_prefect_names_what_failed(tag: str, server: PrefectServer) -> None:
    """Look at the flow runs of a shard: one was killed, one has failed with one of its edits."""
    with client_settings(server), get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags={"all_": [tag]}))
        names = sorted(run.state.name for run in runs)
        assert names == ["Edits failed", "Passed on"]
        (run,) = (run for run in runs if run.state.is_failed())
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        tasks = client.read_task_runs(flow_run_filter=wanted)
    assert "3 done, 1 failed" in run.state.message
    assert "edit-1-1: optimize_latent: NotFinite" in run.state.message
    (failed,) = (task for task in tasks if task.state.is_failed())
    assert failed.name.startswith("optimize_latent of edit-")  # it may share its task
    assert "edit-1-1: optimize_latent: NotFinite" in failed.state.message


def test_workers_get_the_stages_and_the_retries_that_were_asked_for(
    make_job, run_here, users_server, tmp_path
):
    job = make_job(images=1, each=2, **{"edit-0-1": DIVERGING})
    assert run_here(job).exit_code == 1
    deploy("unattended")
    store = job.parent / "store"
    assert not submit(job, store, RunRequest(), pool="unattended").created
    retry = RunRequest(retry_failed=True)
    [run_id] = submit(job, store, retry, pool="unattended").created
    asked = parameters_of(run_id, users_server)
    assert list(asked["shard"]["edits"]) == ["edit-0-1"]
    assert RunRequest.model_validate(asked["request"]) == retry
    forced = RunRequest.of(from_stage="optimize_latent", force=True)
    [run_id] = submit(job, store, forced, pool="unattended").created
    asked = parameters_of(run_id, users_server)
    assert asked["request"]["stages"] == ["optimize_latent", "sample_image", "locate_handles"]
    assert asked["request"]["force"] == ["optimize_latent"]
    assert list(asked["shard"]["edits"]) == ["edit-0-0", "edit-0-1"]
    again = submit(job, store, forced, pool="unattended")
    assert (again.created, again.at_hand) == ((), 2)
    assert_a_job_that_was_refused_lets_others_pass(again.tag, last=run_id)


def assert_a_job_that_was_refused_lets_others_pass(refused: str, last: str) -> None:
    with deployment.users_server() as client:
        reviver = Reviver(deployment_of(client, "unattended"), print)
        worker = Worker("unattended", [{}], reviver, print)
        other = worker._take(client, {refused})
        assert other is not None
        assert str(other.id) != last
        assert worker._take(client, {refused}) is None
        assert str(worker._take(client, set()).id) == last


LEAVES = """
from uuid import uuid4
from flows.workers.revival import Reviver
from flows.workers.worker import Pace, Worker
raise SystemExit(Worker("a", [{}], Reviver(uuid4(), print), print, Pace(leave=0.1)).work())
"""


def test_a_worker_leaves_in_time_although_its_server_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/api"
        own = os.environ | {"PREFECT_API_URL": url}
        with subprocess.Popen([sys.executable, "-c", LEAVES], cwd=ROOT, env=own) as worker:
            try:
                with mute.accept()[0]:  # it has begun
                    worker.terminate()
                    assert worker.wait(GONE_WITHIN) == 0
            finally:
                worker.kill()


def test_a_process_that_refuses_its_shard_says_why_and_tells_its_worker(
    make_job, users_server, tmp_path
):
    deploy("others")
    [run_id] = submit(make_job(), tmp_path / "store", RunRequest(), pool="others").created
    asked = parameters_of(run_id, users_server)
    asked["shard"]["footing"]["libraries"]["torch"] = "1.0"
    with deployment.users_server() as client:
        client.update_flow_run(UUID(run_id), parameters=asked)
    reads, lifeline = os.pipe()
    child = subprocess.run(
        [sys.executable, "-m", "flows.workers.child", run_id, str(reads)],
        pass_fds=(reads,),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(reads)
    os.close(lifeline)
    assert child.returncode == NOT_STARTED, child.stderr
    assert "and the plan was made with 1.0" in child.stderr


def test_what_is_not_deployed_cannot_be_submitted(make_job, users_server, tmp_path):
    with pytest.raises(PrefectUnavailable, match="adaptivedrag deploy"):
        submit(make_job(), tmp_path, RunRequest(), pool="unknown")


def test_without_a_server_there_is_one_line_that_says_what_to_set(make_job, tmp_path):
    for attempt in (deploy, lambda: submit(make_job(), tmp_path, RunRequest())):
        with pytest.raises(PrefectUnavailable, match="set PREFECT_API_URL") as raised:
            attempt()
        assert "\n" not in str(raised.value)


def test_a_pool_that_gives_nothing_and_a_server_that_answers_errors_are_one_line(
    make_job, users_server, tmp_path, monkeypatch
):
    deploy("closed")
    with deployment.users_server() as client:
        client.update_work_pool("closed", WorkPoolUpdate(concurrency_limit=0))
        made = submit(make_job(), tmp_path / "store", RunRequest(), pool="closed")
        assert "'closed' has a limit of 0" in made.fault
        (waits,) = outstanding(client, deployment_of(client, "closed"), made.tag)
    # No clock of this machine, however fast, has it wait for the server's.
    assert waits.expected_start_time < datetime.now(UTC) - timedelta(minutes=59)
    with answering_errors() as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        with pytest.raises(PrefectUnavailable, match="answers 500: is its database's disk full"):
            submit(make_job(), tmp_path / "store", RunRequest())


@contextmanager
def answering_errors() -> Iterator[str]:
    """Run what answers as a Prefect server does whose database takes nothing more."""

    class Full(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("/health") else 500)
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
