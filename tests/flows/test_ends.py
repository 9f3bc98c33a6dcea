"""Runs that end before their time, in processes of their own, some with a temporary server."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from artifacts import ArtifactStore
from stages.jobs.reader import load_job
from stages.planning.plan import plan_job

pytestmark = pytest.mark.slow

GONE_WITHIN = 10.0
QUICK_STAGES = ("extract_superpixels", "build_mask")
"""Stages that load no model on the job of these tests, which saves a process seconds."""

LISTENER = """
import os, sys

def note(event, args):
    if event == "socket.connect" and not isinstance(args[1], str):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{args[1][0]}\\n")
    if event == "socket.getaddrinfo":
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{args[0]}\\n")

sys.addaudithook(note)
"""


def servers_of(process: subprocess.Popen) -> list[int]:
    """Return the ids of the servers that a run has started."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = (line.split(None, 2) for line in table.stdout.splitlines())
    return [
        int(pid)
        for pid, parent, command in rows
        if int(parent) == process.pid and "flows.prefect_server" in command
    ]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ends_in_time(pid: int) -> bool:
    deadline = time.monotonic() + GONE_WITHIN
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def records(job: Path) -> set[Path]:
    return set((job.parent / "store").glob("actions/*/*/*/*.json"))


def masks(job: Path) -> int:
    """Return how many masks a job's store has."""
    return len([*(job.parent / "store").glob("actions/build_mask/*/*/*.json")])


def wait_for_records(job: Path, number: int, process: subprocess.Popen) -> None:
    while len(records(job)) < number:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.fixture
def connections(tmp_path, monkeypatch):
    """A file that names every host that our processes look up or connect to."""
    (tmp_path / "sitecustomize.py").write_text(LISTENER)
    found = tmp_path / "connections"
    monkeypatch.setenv("CONNECTIONS", str(found))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    )
    return found


PROXY = "http://127.0.0.1:9"
BEHIND_PROXIES = {
    "HTTP_PROXY": PROXY,
    "http_proxy": PROXY,
    "HTTPS_PROXY": PROXY,
    "ALL_PROXY": "socks5://127.0.0.1:9",  # httpx knows this kind only with another package
    "NO_PROXY": "intranet.example",
}
"""Proxies where nobody listens."""


KILLED_AFTER_THE_FIRST_EDIT = """
import os, signal
import flows.run_job
from flows.run import Run

flows.run_job.FEW_EDITS = 0

take = Run.take

def takes(run, item, *arguments):
    take(run, item, *arguments)
    if item.stage.name == "locate_handles":
        os.kill(os.getpid(), signal.SIGKILL)

Run.take = takes
"""


def test_after_a_kill_no_server_is_left_the_first_edit_is_there_and_nothing_is_made_twice(
    make_job, start_run, run_here, connections
):
    job = make_job(images=2, each=2)
    out = job.parent / "out"
    # Neither proxies nor a home that cannot be made keep a run from starting.
    surroundings = BEHIND_PROXIES | {"HOME": "/proc/nowhere"}
    process = start_run(job, before=KILLED_AFTER_THE_FIRST_EDIT, **surroundings)
    wait_for_records(job, 1, process)
    [server] = servers_of(process)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    assert ends_in_time(server)
    assert_the_first_edit_is_there(out)

    before = records(job)
    again = run_here(job)
    assert again.exit_code == 0
    assert sum(again.made.values()) == 20 - len(before)
    assert {path.name for path in records(job)} == {"0001.json"}
    assert len(records(job)) == 20
    plan = plan_job(load_job(job), ArtifactStore.open(job.parent / "store"))
    assert all(edit.done for edit in plan.edits)
    assert set(connections.read_text().split()) <= {"127.0.0.1", "::1", "localhost"}
    page = (out / "index.html").read_text("utf-8")
    assert "This run goes on" not in page
    rows = (out / "data" / "0001.js").read_text()
    assert all(f"images/{edit.edit.id}.png" in rows for edit in plan.edits)


def assert_the_first_edit_is_there(out: Path) -> None:
    """Look at the picture, the line and the page of what was done when the run was killed."""
    lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    rows = {row["id"]: row for row in lines}
    assert [row["status"] for row in rows.values()] == ["done", *["unfinished"] * 3]
    assert Image.open(out / rows["edit-0-0"]["image"]).size == (128, 128)
    page = (out / "index.html").read_text("utf-8")
    assert "This run goes on: 1 of 4 edits done" in page
    assert "images/edit-0-0.png" in (out / "data" / "0001.js").read_text()


HEARD_AT_WORK = """
import signal, threading
from stages.workbench import Workbench

make = Workbench.make

def asks(bench, items, **options):
    if (items[0].stage.name, items[0].edit.id) == ("build_mask", "edit-0-1"):
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    return make(bench, items, **options)

Workbench.make = asks
"""


def test_ctrl_c_ends_the_run_after_its_step_and_the_server_with_it(make_job, start_run):
    job = make_job(images=1, each=40)
    # To a thread at work, as the system may give it: the main one has to hear of it all the same.
    process = start_run(job, before=HEARD_AT_WORK, stages=QUICK_STAGES)
    wait_for_records(job, 1, process)
    [server] = servers_of(process)
    assert any("Stopping after the current step" in line for line in process.stdout)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert time.monotonic() - asked < GONE_WITHIN
    assert not is_alive(server)
    assert "Traceback" not in output
    store = ArtifactStore.open(job.parent / "store")
    assert masks(job) < 20  # of 40
    [run_id] = store.runs()
    assert b'"interrupted": true' in store.get_run(run_id, "summary.json")


STUCK = """
import sys, time
from stages.workbench import Workbench

def never_ends(*_, **__):
    print("in a long call", flush=True)
    time.sleep(600)

Workbench.make = never_ends
"""


def test_ctrl_c_twice_ends_a_run_at_once_whatever_a_stage_is_doing(make_job, start_run, run_here):
    job = make_job(images=1, each=1)
    process = start_run(job, before=STUCK)
    assert any("in a long call" in line for line in process.stdout)
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - asked < GONE_WITHIN / 2
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert run_here(job).exit_code == 0


FATAL = """
import os
from stages.workbench import Workbench

make = Workbench.make

def dies(bench, items, **options):
    if (items[0].stage.name, items[0].edit.id) == ("build_mask", "edit-0-0"):
        os._exit(137)
    return make(bench, items, **options)

Workbench.make = dies
"""


def test_an_edit_that_takes_its_process_with_it_comes_last_and_keeps_no_other_one_waiting(
    make_job, start_run, run_here
):
    job = make_job(images=1, each=3)
    outputs = []
    for made in (0, 2):
        process = start_run(job, before=FATAL, stages=QUICK_STAGES)
        outputs.append(process.communicate(timeout=120)[0])
        assert process.returncode == 137, outputs[-1]
        assert masks(job) == made
    assert "did not say how it ended" not in outputs[0]
    assert "1 of 3, among them edit-0-0" in outputs[1]
    last = run_here(job)  # nothing of it lies in the edit
    assert (last.exit_code, len(last.done)) == (0, 3)


def test_a_server_that_dies_costs_its_page_and_not_the_run(make_job, start_run):
    job = make_job(images=1, each=30)
    process = start_run(job, stages=QUICK_STAGES)
    wait_for_records(job, 1, process)
    [server] = servers_of(process)
    os.kill(server, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "does not answer" in output
    assert "Traceback" not in output
    assert masks(job) == 30
