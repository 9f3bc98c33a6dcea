"""A job run for real: tiny model, real store; what Prefect has a part in, with a real server."""

import base64
import io
import json
import re
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from rich.console import Console
from support.tiny_job import DIVERGING
from torch.nn.modules.module import register_module_forward_pre_hook

import adaptivedrag.sampling
import flows.chunks
import flows.edit_dataset
import flows.run
import stages.planning.plan
import stages.reports.panel
import stages.workbench
from adaptivedrag.errors import InvalidEdit, ModelUnavailable
from artifacts import ArtifactStore, StoreUnavailable, TensorFile
from flows.chunks import bench_of, do_chunk
from flows.outcomes import InvalidRequest, note_at_work
from flows.prefect_server import PrefectServer, client_settings
from flows.prefect_settings import PrefectUnavailable
from flows.progress import Standing
from flows.request import RunRequest
from flows.run import Run
from flows.run_job import run
from stages.jobs.reader import load_job
from stages.pipeline import BY_NAME, STAGE_NAMES
from stages.planning.models import diffusion_files
from stages.planning.plan import Status, plan_job
from stages.planning.work import work_for
from stages.reports.page import Page
from stages.reports.place import Place, ReportUnwritable

EVERYTHING = {
    "train_lora": 2,
    "invert_image": 2,
    "extract_superpixels": 2,
    "build_mask": 2,
    "optimize_latent": 4,
    "sample_image": 4,
    "locate_handles": 4,
}


def records_made(store: Path) -> int:
    return len(list(store.glob("actions/*/*/*/*.json")))


@pytest.fixture(scope="module")
def finished(make_job, server):
    """A job of two images with two edits each, run once."""
    job = make_job(images=2, each=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", server.api_url)
        request = RunRequest(out=str(job.parent / "out"))
        summary = run(job, job.parent / "store", request, console=Console())
    return job, summary


def test_a_run_makes_everything_and_what_edits_share_once(finished):
    job, summary = finished
    assert summary.exit_code == 0
    assert len(summary.done) == 4
    assert (summary.failed, summary.bad, summary.unfinished) == ((), (), ())
    assert summary.made == EVERYTHING
    assert records_made(job.parent / "store") == sum(EVERYTHING.values())


def test_the_store_keeps_the_summary_of_a_run(finished):
    job, summary = finished
    kept = ArtifactStore.open(job.parent / "store").get_run(summary.run_id, "summary.json")
    document = json.loads(kept)
    assert document["exit_code"] == 0
    assert document["done"] == list(summary.done)
    assert document["stage_seconds"].keys() == EVERYTHING.keys()


def test_the_page_of_the_flow_shows_outcomes_and_the_whole_progress(finished, users_server):
    with client_settings(users_server):
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

        with get_client(sync_client=True) as client:
            found = {
                key: client.read_artifacts(
                    artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
                )
                for key in ("progress", "outcomes", "results")
            }
    assert any(artifact.data == 100 for artifact in found["progress"])
    rows = [json.loads(artifact.data) for artifact in found["outcomes"]]
    assert any(len(table) == 4 and table[0]["outcome"] == "done" for table in rows)
    page = (finished[0].parent / "out" / "index.html").as_uri()
    assert any(page in artifact.data for artifact in found["results"])


def test_a_run_of_hits_starts_neither_prefect_nor_torch(finished, start_run):
    job, _ = finished
    diffusion_files.cache_clear()  # a model that was just written is not remembered as whole
    plan_job(load_job(job), ArtifactStore.open(job.parent / "store"))
    process = start_run(job)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert output.splitlines()[-1] == "[]"
    assert records_made(job.parent / "store") == sum(EVERYTHING.values())


def test_a_forced_stage_is_made_once_more_and_equal_bytes_change_nothing_after_it(
    finished, run_here, tmp_path
):
    job, _ = finished
    store = shutil.copytree(job.parent / "store", tmp_path / "store")
    summary = run_here(job, store=store, only="build_mask", force=True)
    assert summary.exit_code == 0
    assert summary.made == {"build_mask": 2}
    plan = plan_job(load_job(job), ArtifactStore.open(store))
    assert all(edit.done for edit in plan.edits)


@pytest.mark.slow
def test_a_forced_stage_reruns_what_follows_exactly_where_its_bytes_changed(make_job, run_here):
    job = make_job(images=1, each=2)
    store = ArtifactStore.open(job.parent / "store")
    run_here(job, only="train_lora")
    (trained,) = store.records_of("train_lora")
    other = {name: 2 * value for name, value in store.read(trained)["lora"].items()}
    payload = {"lora": TensorFile(other)}
    store.publish(trained.action, payload, trained.circumstances, replace=True)
    assert run_here(job).exit_code == 0
    again = run_here(job, from_stage="train_lora", force=True)
    after = {"invert_image": 1, "optimize_latent": 2, "sample_image": 2, "locate_handles": 2}
    assert again.made == {"train_lora": 1} | after
    assert len(again.done) == 2
    once_more = run_here(job, from_stage="train_lora", force=True)
    assert once_more.made == {"train_lora": 1}
    assert len(once_more.done) == 2


def test_a_run_with_nothing_to_do_reads_no_earlier_ones(make_job, run_here, monkeypatch):
    job, asked = make_job(images=1), []
    read = ArtifactStore.get_run

    def reading(store, run_id, name):
        asked.append(run_id)
        return read(store, run_id, name)

    monkeypatch.setattr(ArtifactStore, "get_run", reading)
    run_here(job)
    assert run_here(job, from_stage="locate_handles", force=True).made == {"locate_handles": 1}
    assert asked
    asked.clear()
    assert run_here(job).made == {}
    assert not asked


def test_a_run_stops_when_its_time_is_up_and_a_later_one_goes_on(make_job, run_here):
    job = make_job(images=1, each=2)
    begin = Run.begin

    def begins_late(run):
        time.sleep(1.0)
        begin(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "begin", begins_late)
        stopped = run_here(job, budget="1s")
    assert stopped.exit_code == 3
    assert stopped.stopped == "the budget of 1s is spent"
    assert not stopped.interrupted
    assert (stopped.done, stopped.failed) == ((), ())
    assert stopped.unfinished == ("edit-0-0", "edit-0-1")
    later = run_here(job, budget="2h")
    assert later.exit_code == 0
    assert len(later.done) == 2


def test_a_failing_edit_stays_alone_and_is_the_one_that_is_retried(
    make_job, run_here, users_server, capfd
):
    job = make_job(images=1, each=3, **{"edit-0-1": DIVERGING})
    summary = run_here(job)
    assert summary.exit_code == 1
    assert "NotFinite" not in "".join(capfd.readouterr())  # what failed is for the page's log
    assert_the_page_tells_what_failed(job, users_server)
    assert summary.done == ("edit-0-0", "edit-0-2")
    [failure] = summary.failed
    assert (failure.id, failure.stage) == ("edit-0-1", "optimize_latent")
    store = ArtifactStore.open(job.parent / "store")
    [key] = store.backend.folders("attempts/optimize_latent")
    [attempt] = store.attempts("optimize_latent", key)
    assert attempt["edit"] == "edit-0-1"
    assert attempt["kind"] == failure.kind
    assert attempt["message"].startswith(failure.message)
    assert "Traceback" in attempt["traceback"]
    assert attempt["policy"] == "quarantine"
    again = run_here(job, retry_failed=True)
    assert [failure.id for failure in again.failed] == ["edit-0-1"]
    assert (again.done, again.made) == ((), {})
    assert len(store.attempts("optimize_latent", key)) == 2


def assert_the_page_tells_what_failed(job: Path, server: PrefectServer) -> None:
    """Look at the page of the job's last flow run: states, log, table, pictures, link."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        FlowRunFilter,
        FlowRunFilterId,
        LogFilter,
        LogFilterFlowRunId,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    reason = "edit-0-1: optimize_latent: NotFinite: latents are not finite"
    with client_settings(server), get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
        run = next(run for run in runs if run.parameters["job"] == str(job))
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        tasks = client.read_task_runs(flow_run_filter=of_run)
        of_run_id = ArtifactFilterFlowRunId(any_=[run.id])
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_run_id))
        logs = []
        deadline = time.monotonic() + 20
        while len(logs) < 2 and time.monotonic() < deadline:
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
            time.sleep(0.1)
    assert run.state.is_failed()
    assert reason in run.state.message
    failed = [task for task in tasks if task.state.is_failed()]
    assert [task.name for task in failed] == ["optimize_latent of edit-0-1"]
    assert reason in failed[0].state.message
    last = max(logs, key=lambda line: line.timestamp).message
    assert last.startswith("2 done, 1 failed")
    assert reason in last
    data = {artifact.key: artifact.data for artifact in artifacts}
    first, *others = json.loads(data["outcomes"])
    assert (first["edit"], first["outcome"]) == ("edit-0-1", "failed in optimize_latent")
    assert [row["outcome"] for row in others] == ["done", "done"]
    assert (job.parent / "out" / "index.html").as_uri() in data["results"]
    assert f"    {reason}" in data["failed-edits"]
    (picture,) = re.findall(r"!\[.*\]\(data:image/jpeg;base64,(.+?)\)", data["failed-edits"])
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (192, 192)


def test_a_quarantined_edit_counts_as_failed_and_nothing_is_started_for_it(
    make_job, run_here, monkeypatch
):
    path = make_job(images=1, each=2, **{"edit-0-1": DIVERGING})
    first = run_here(path)
    store = ArtifactStore.open(path.parent / "store")
    plans = {plan.edit.id: plan for plan in plan_job(load_job(path), store).edits}
    assert plans["edit-0-1"].stages["optimize_latent"].status is Status.QUARANTINED
    assert plans["edit-0-1"].stages["optimize_latent"].why.startswith("failed before: NotFinite")
    assert plans["edit-0-1"].stages["sample_image"].status is Status.FOLLOWS
    with monkeypatch.context() as patch:
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody answers there
        again = run_here(path)
    assert (again.exit_code, again.failed, again.done) == (1, first.failed, ("edit-0-0",))
    [key] = store.backend.folders("attempts/optimize_latent")
    assert len(store.attempts("optimize_latent", key)) == 1
    edits = path.with_name("edits.jsonl")
    edits.write_text(edits.read_text().replace("1e+30", "0.01"))
    assert run_here(path).exit_code == 0


def test_edits_that_share_a_failed_artifact_fail_alike_and_it_is_tried_once(make_job, run_here):
    path = make_job(images=2, each=2)
    job = load_job(path)
    shutil.copy(path.parent / "1.png", path.parent / "0.png")
    summary = run_here(job)
    assert summary.exit_code == 1
    assert [(f.id, f.stage, f.kind) for f in summary.failed] == [
        ("edit-0-0", "train_lora", "InputChanged"),
        ("edit-0-1", "train_lora", "InputChanged"),
    ]
    assert summary.done == ("edit-1-0", "edit-1-1")
    store = ArtifactStore.open(path.parent / "store")
    [key] = store.backend.folders("attempts/train_lora")
    assert len(store.attempts("train_lora", key)) == 1
    assert not store.backend.folders("attempts/extract_superpixels")
    assert store.attempts("train_lora", key)[0]["policy"] == "fail"  # the file may come back


@pytest.mark.slow
def test_memory_that_is_short_costs_time_and_at_worst_the_edit_that_is_too_large(
    make_job, run_here
):
    job = make_job(images=1, each=3, **{"edit-0-1": {"working_size": 64}})
    shortages = [None]

    def hook(module, inputs):
        if isinstance(module, UNet2DConditionModel):
            other_size = inputs[0].shape[-1] == 8
            if other_size or shortages:
                shortages.clear()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = register_module_forward_pre_hook(hook)
    try:
        summary = run_here(job)
    finally:
        handle.remove()
    assert summary.exit_code == 1
    assert summary.done == ("edit-0-0", "edit-0-2")
    [failure] = summary.failed
    assert (failure.id, failure.stage) == ("edit-0-1", "train_lora")
    assert failure.kind == "DeviceMemoryExhausted"
    assert "idle models away, gradient checkpointing (CUDA out of memory" in failure.message
    assert summary.memory_saved_by == {"train_lora": ("idle models away",)}
    store = ArtifactStore.open(job.parent / "store")
    kept = json.loads(store.get_run(summary.run_id, "summary.json"))
    assert kept["memory_saved_by"] == {"train_lora": ["idle models away"]}
    [key] = store.backend.folders("attempts/train_lora")
    [attempt] = store.attempts("train_lora", key)
    assert "torch.OutOfMemoryError: CUDA out of memory" in attempt["traceback"]
    assert run_here(job).exit_code == 0  # nothing of it lies in the edit


def test_a_stage_that_takes_too_long_fails_at_its_next_step_and_goes_on_later(make_job):
    path = make_job(images=2, each=1)

    def performed(limit):
        run = Run.open(path, path.parent / "store", RunRequest(stage_timeout=limit))
        items, _ = work_for(BY_NAME["train_lora"], list(run.plans.values()))
        do_chunk(run, bench_of(run.store, run.request), items)
        return run

    slow = performed(1e-3)
    assert len(slow.failures) == 2
    for name, failure in slow.failures.items():
        assert failure.kind == "StageTimedOut"
        assert f"edit {name}: train_lora took" in failure.message
        assert "--stage-timeout allows 0.001 s" in failure.message
    key = slow.plans["edit-0-0"].stages["train_lora"].key
    attempts = slow.store.attempts("train_lora", key)
    assert {attempt["policy"] for attempt in attempts} == {"fail"}
    assert slow.store.latest_progress("train_lora", key).step > 0  # of its last step
    patient = performed(None)
    assert not patient.failures
    assert patient.summary().made == {"train_lora": 2}


def test_fail_fast_stops_while_work_is_left(make_job, run_here):
    job = make_job(images=1, each=3, **{"edit-0-0": DIVERGING})
    summary = run_here(job, fail_fast=True)
    assert summary.exit_code == 3
    assert [failure.id for failure in summary.failed] == ["edit-0-0"]
    assert summary.unfinished == ("edit-0-1", "edit-0-2")
    assert "failed" in summary.stopped


def test_a_limit_that_is_reached_at_the_very_end_stops_nothing(make_job, run_here):
    job = make_job(images=1, each=2, **{"edit-0-1": DIVERGING})
    assert run_here(job, max_failures="50%").exit_code == 1


def test_one_stage_alone_is_made_and_says_what_it_lacks(make_job, run_here):
    job = make_job(images=2, each=2)
    summary = run_here(job, only="extract_superpixels")
    assert (summary.exit_code, summary.made) == (0, {"extract_superpixels": 2})
    assert len(summary.unfinished) == 4
    summary = run_here(job, from_stage="optimize_latent", select=["edit-0-*"])
    assert summary.exit_code == 1
    assert [(f.id, f.stage, f.kind) for f in summary.failed] == [
        ("edit-0-0", "optimize_latent", "InputMissing"),
        ("edit-0-1", "optimize_latent", "InputMissing"),
    ]


@pytest.fixture
def impatient(monkeypatch):
    """Retries that follow each other at once."""
    monkeypatch.setattr(flows.chunks, "RETRY_SECONDS", (0.5, 0.5, 0.5))
    quick = flows.edit_dataset.perform_chunk.with_options(retry_delay_seconds=0.5)
    monkeypatch.setattr(flows.edit_dataset, "perform_chunk", quick)


def test_a_store_that_fails_for_good_stops_the_run(make_job, run_here, impatient):
    job = make_job()
    (job.parent / "store").mkdir()
    (job.parent / "store" / "objects").write_text("no folder")
    summary = run_here(job)
    assert summary.exit_code == 3
    assert "objects" in summary.stopped
    assert not summary.failed


def returning(job: Path) -> None:
    """Let a job's store fail until a moment after it was first asked."""
    obstacle = job.parent / "store" / "objects"
    obstacle.parent.mkdir()
    obstacle.write_text("no folder")

    def remove() -> None:
        while not list(job.parent.glob("store/format.json")):
            time.sleep(0.05)
        time.sleep(1.0)
        obstacle.unlink()

    threading.Thread(target=remove, daemon=True).start()


def test_a_store_that_comes_back_in_time_costs_nothing(make_job, run_here, impatient):
    job = make_job()
    returning(job)
    assert run_here(job).exit_code == 0


def test_prefect_tries_a_task_again_when_the_store_comes_back(
    make_job, run_here, impatient, users_server
):
    job = make_job()
    returning(job)
    assert run_here(job).exit_code == 0


def test_an_edit_is_planned_once_per_run(make_job, run_here, monkeypatch):
    planned = Counter()
    plan_edits = stages.planning.plan.plan_edits

    def counted(edits, store, **options):
        planned.update(edit.id for edit in edits)
        return plan_edits(edits, store, **options)

    for module in (flows.run, stages.workbench, stages.planning.plan, stages.reports.panel):
        monkeypatch.setattr(module, "plan_edits", counted)
    job = make_job(images=2, each=1, **{"edit-1-0": DIVERGING})
    assert run_here(job).exit_code == 1
    assert set(planned.values()) == {1}
    planned.clear()
    assert run_here(job, retry_failed=True).exit_code == 1
    assert set(planned.values()) == {1}


def test_one_bad_item_of_a_batch_fails_alone(make_job, run_here, monkeypatch):
    job = make_job(images=1, each=4)
    sample = adaptivedrag.sampling.sample

    def poisoned(model, references, edits, *arguments, **options):
        bad = [place for place, each in enumerate(edits) if each.drags[0].handle.x == 42]
        for place in bad:
            latents = torch.full_like(edits[place].latents, torch.nan)
            edits[place] = replace(edits[place], latents=latents)
        return sample(model, references, edits, *arguments, **options)

    monkeypatch.setattr(adaptivedrag.sampling, "sample", poisoned)
    summary = run_here(job, batch=4)
    assert [(failure.id, failure.kind) for failure in summary.failed] == [("edit-0-2", "NotFinite")]
    assert summary.done == ("edit-0-0", "edit-0-1", "edit-0-3")


def test_what_failed_in_a_chunk_is_not_tried_again_with_it(make_job):
    path = make_job(images=1, each=2, **{"edit-0-0": DIVERGING})
    run = Run.open(path, path.parent / "store", RunRequest())
    bench = bench_of(run.store, run.request)
    for stage in STAGE_NAMES[:4]:
        items, _ = work_for(BY_NAME[stage], run.going(run.edits))
        do_chunk(run, bench, items)
    items, _ = work_for(BY_NAME["optimize_latent"], run.going(run.edits))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "make", fail_once(bench.make, after=1))
        with pytest.raises(StoreUnavailable):
            do_chunk(run, bench, items)
        do_chunk(run, bench, items)
    assert list(run.failures) == ["edit-0-0"]
    assert run.plans["edit-0-1"].stages["optimize_latent"].status is Status.HIT
    assert len(run.store.attempts("optimize_latent", items[0].key)) == 1


def fail_once(make, after):
    """Return a function that the store fails once, after some calls."""
    calls = iter([True] * after + [False] + [True] * 9)

    def failing(items, **options):
        if not next(calls):
            raise StoreUnavailable("the disk is away")
        return make(items, **options)

    return failing


def test_results_that_cannot_be_written_cost_no_edit_and_are_written_by_the_next_run(
    make_job, run_here
):
    job = make_job(images=1, each=2)
    out = job.parent / "out"
    put = Place.put

    def full(place, path, data):
        if path.startswith("images/"):
            raise ReportUnwritable(f"results cannot be written to {place.out} (disk full): move")
        put(place, path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Place, "put", full)
        patch.setattr(Page, "write", lambda *_: 1 / 0)  # a bug of ours
        summary = run_here(job)
    assert (summary.exit_code, len(summary.done), len(summary.failed)) == (3, 2, 0)
    assert "disk full" in summary.stopped
    assert not list(out.glob("images/*"))
    again = run_here(job)
    assert (again.exit_code, again.made) == (0, {})
    assert len(list(out.glob("images/*.png"))) == 2


def test_nothing_starts_with_a_wrong_request(make_job, run_here, tmp_path):
    job = make_job()
    with pytest.raises(InvalidRequest, match="train_lora"):
        run_here(job, only="training")
    with pytest.raises(InvalidRequest, match="exclude"):
        run_here(job, only="train_lora", from_stage="train_lora")
    with pytest.raises(InvalidRequest, match="lots"):
        run_here(job, max_failures="lots")
    with pytest.raises(InvalidEdit, match="nobody"):
        run_here(job, select=["nobody"])
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        run_here(job, store=tmp_path / "file")
    job.write_text('model = "nowhere"\n')
    with pytest.raises(ModelUnavailable, match="nowhere"):
        run_here(job)


def test_a_named_server_that_does_not_answer_is_named_in_one_line(make_job, run_here, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr("flows.prefect_server.ANSWER_SECONDS", 0.5)
    with pytest.raises(PrefectUnavailable, match="9/api: start it, or unset") as raised:
        run_here(make_job())
    assert "\n" not in str(raised.value)


def test_parts_of_a_job_are_whole_images_need_no_server_and_share_their_results(
    make_job, run_here, monkeypatch
):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody answers there
    job = make_job(images=2, each=2)
    lines = job.with_name("edits.jsonl").read_text()
    job.with_name("edits.jsonl").write_text(lines + '{"id": "no-image"}\n')
    second = run_here(job, shard="2/2")
    assert (second.exit_code, second.done) == (0, ("edit-1-0", "edit-1-1"))
    assert (second.bad, second.unfinished) == ((), ())
    page = job.parent / "out" / "index.html"
    assert "3 edits of other workers are not done yet" in page.read_text("utf-8")
    first = run_here(job, shard="1/2")  # the same cut, although less is left
    assert first.done == ("edit-0-0", "edit-0-1")
    assert (first.exit_code, [bad.id for bad in first.bad]) == (1, ["no-image"])
    assert "of other workers" not in page.read_text("utf-8")
    rows = map(json.loads, (job.parent / "out" / "results.jsonl").read_text().splitlines())
    assert [row["status"] for row in rows] == ["done"] * 4 + ["bad"]
    assert run_here(job, shard="3/3").done == ()  # there are fewer images
    again = run_here(job, shard="2/2")
    assert (again.made, again.done) == ({}, second.done)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/2/3", ""])
def test_a_part_that_there_cannot_be_is_one_line(make_job, run_here, shard):
    with pytest.raises(InvalidRequest, match=r"--shard '.*': write 2/8 for the second of eight"):
        run_here(make_job(), shard=shard)


@pytest.mark.parametrize(
    ("limit", "fail_fast", "allowed"),
    [(None, False, None), ("5%", False, 2), ("7", False, 7), (0, False, 0), ("5%", True, 0)],
)
def test_a_limit_is_a_count_or_a_share_of_all_edits(limit, fail_fast, allowed):
    request = RunRequest.of(max_failures=limit, fail_fast=fail_fast)
    assert request.most_failures(40) == allowed


@pytest.mark.parametrize("limit", ["-1", "101%", "nan", "2.5", "%"])
def test_a_limit_of_another_form_is_refused(limit):
    with pytest.raises(InvalidRequest, match="give a count, or a share"):
        RunRequest(max_failures=limit).most_failures(40)


def test_the_stages_of_a_run_are_those_of_the_pipeline():
    assert tuple(EVERYTHING) == STAGE_NAMES


def test_what_has_killed_process_after_process_fails_and_keeps_no_others(make_job, run_here):
    job = make_job(images=2)
    store = ArtifactStore.open(job.parent / "store")
    standing = Standing(0, 2, 0, None, None, 0.0)
    plans = plan_job(load_job(job), store).edits
    # The second has died often, too, but not oftener than all others: somebody kills processes.
    for deaths, plan in zip((5, 4), plans, strict=True):
        at = [plan.edit.id], "train_lora", standing, [plan.stages["train_lora"].key]
        for number in range(deaths):
            note_at_work(store, f"run-{plan.edit.id}-{number}", str(job), *at)
    summary = run_here(job)
    (failure,) = summary.failed
    assert (failure.id, failure.kind) == ("edit-0-0", "ProcessDied")
    assert "died 5 times over it" in failure.message
    assert (summary.exit_code, summary.done) == (1, ("edit-1-0",))
    assert run_here(job).made == {}
    assert run_here(job, retry_failed=True).exit_code == 0
