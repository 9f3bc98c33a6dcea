"""Jobs on the workers of a real Dask scheduler: two processes on loopback."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import flows.workers.on_dask
from cli import app
from flows.outcomes import InvalidRequest
from flows.request import RunRequest
from flows.run_job import run
from flows.workers.on_dask import SCHEDULER_GONE, run_on_dask

distributed = pytest.importorskip("distributed")

QUICK_STAGES = ("extract_superpixels", "build_mask")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def cluster():
    """A scheduler with two workers of one thread each."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        with distributed.Client(cluster) as client:
            client.wait_for_workers(2)
        yield cluster


@pytest.fixture
def job_of(make_job):
    """Write a job whose images share nothing: superpixels of different pictures can be equal."""

    def write(images: int, each: int) -> Path:
        job = make_job(images=images, each=each)
        table = job.with_name("edits.jsonl")
        edits = [json.loads(line) for line in table.read_text().splitlines()]
        for place, edit in enumerate(edits):
            edit["drags"] = [{"handle": [30 + 3 * place, 40], "target": [60, 64]}]
        table.write_text("".join(json.dumps(edit) + "\n" for edit in edits))
        return job

    return write


def objects(store: Path) -> set[str]:
    """Return the digests of all payloads."""
    return {path.name for path in store.glob("objects/*/*")}


def records(store: Path) -> list[str]:
    return sorted(str(path.relative_to(store)) for path in store.glob("actions/*/*/*/*.json"))


def fail_at_one_mask() -> None:
    """Let this process fail at the mask of one edit, and take its time for those of another job."""
    from stages.workbench import Workbench

    make = Workbench.make

    def fails(bench, items, **options):
        stage, name = items[0].stage.name, items[0].edit.id
        if (stage, name) == ("build_mask", "edit-1-0"):
            return [ValueError("no luck")]
        if stage == "build_mask" and name.startswith("edit-2"):
            time.sleep(1.0)
        return make(bench, items, **options)

    fails.__wrapped__ = make
    Workbench.make = fails


def test_what_fails_at_a_worker_is_told_and_ctrl_c_ends_each_shard_after_its_step(cluster, job_of):
    job, told = job_of(images=3, each=5), []
    address, store = cluster.scheduler_address, job.parent / "store"
    request = RunRequest(stages=QUICK_STAGES)
    with distributed.Client(cluster) as client:
        client.run(fail_at_one_mask)
    first = run_on_dask(
        *(job, store, request, address),
        select=["edit-0-*", "edit-1-*"],
        console=QUIET,
        on_first_failure=told.append,
    )
    [failure] = first.failed
    assert (failure.id, failure.stage, failure.message) == ("edit-1-0", "build_mask", "no luck")
    assert [each.failed for each in told] == [(failure,)]

    masks = "actions/build_mask/*/*/*.json"
    made = len(list(store.glob(masks)))

    def interrupt() -> None:
        while len(list(store.glob(masks))) == made:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    summary = run_on_dask(job, store, request, address, console=QUIET)
    assert (summary.exit_code, summary.interrupted) == (130, True)
    assert 1 <= summary.made["build_mask"] < 5


def die_after_the_first_mask() -> None:
    """Let this process end as soon as it has published a mask."""
    from stages.workbench import Workbench

    make = getattr(Workbench.make, "__wrapped__", Workbench.make)  # nothing is to fail

    def dies(bench, items, **options):
        made = make(bench, items, **options)
        if items[0].stage.name == "build_mask":
            os._exit(1)
        return made

    Workbench.make = dies


def test_the_shard_of_a_worker_that_dies_goes_on_elsewhere_with_the_bytes_of_one_process(
    cluster, job_of
):
    job = job_of(images=4, each=1)
    request = RunRequest(stages=QUICK_STAGES, out=str(job.parent / "out"))
    with distributed.Client(cluster) as client:
        client.run(die_after_the_first_mask)
        before = {*client.run(os.getpid).values()}
    store = job.parent / "store"
    summary = run_on_dask(job, store, request, cluster.scheduler_address, console=QUIET)
    assert (summary.exit_code, summary.stopped) == (0, "")
    with distributed.Client(cluster) as client:
        assert not before <= {*client.run(os.getpid).values()}
    alone = job.parent / "alone"
    run(job, alone, RunRequest(stages=QUICK_STAGES), console=QUIET)
    assert objects(store) == objects(alone)
    assert records(store) == records(alone)  # one each: nothing was done again
    assert (job.parent / "out" / "index.html").is_file()
    again = run_on_dask(job, store, request, cluster.scheduler_address, console=QUIET)
    assert (again.exit_code, again.made) == (0, {})


def test_time_is_up_without_a_worker_too_and_a_scheduler_that_goes_ends_the_run(job_of, capfd):
    job = job_of(images=1, each=1)
    store, said = job.parent / "store", Console(force_terminal=False)
    with distributed.LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as lonely:
        asked = RunRequest(stages=QUICK_STAGES, budget="1s")
        late = run_on_dask(job, store, asked, lonely.scheduler_address, console=said)
        assert (late.exit_code, len(late.unfinished)) == (3, 1)
        assert late.stopped == "1 edit left: the budget of 1s is spent"
        threading.Timer(1.0, lonely.close).start()
        asked = RunRequest(stages=QUICK_STAGES)
        gone = run_on_dask(job, store, asked, lonely.scheduler_address, console=said)
    assert (gone.exit_code, gone.stopped) == (3, f"1 edit left: {SCHEDULER_GONE}")
    output = capfd.readouterr()
    assert "Traceback" not in output.out + output.err


def test_a_scheduler_that_is_not_there_is_one_line(make_job, monkeypatch):
    monkeypatch.setattr(flows.workers.on_dask, "CONNECT_SECONDS", 0.3)
    for address in ("tcp://127.0.0.1:9", "nonsense", "http://127.0.0.1:9"):
        with pytest.raises(InvalidRequest, match="No Dask scheduler answers at") as raised:
            run_on_dask(
                make_job(), make_job().parent / "store", RunRequest(), address, console=QUIET
            )
        assert "\n" not in str(raised.value)


def test_options_that_exclude_each_other_are_refused(make_job):
    ended = CliRunner().invoke(
        app, ["run", str(make_job()), "--dask", "tcp://h:1", "--shard", "1/2"]
    )
    assert ended.exit_code == 2
    assert "--dask excludes --shard" in ended.output
