"""What planning costs as a job grows: CPU time as ratios, and requests to the store as counts."""

import threading
import time
from collections import Counter

import pytest
from many_edits import fill, write_dataset
from obstore.store import LocalStore, MemoryStore

from artifacts import ArtifactStore
from artifacts.places.backend import Backend
from stages.jobs.reader import load_job
from stages.planning.plan import plan_job
from stages.reports.results import Results

EDITS, EACH = 120, 4
PREFIXES = 256
LATENCY = 0.001


class Slow(Backend):
    """Object storage that delays each request, and counts them.

    A listing is a request for every thousand files.
    """

    def __init__(self, objects, name):
        super().__init__(objects, name, is_named=True)
        self.asked, self.under_way, self.most_under_way = Counter(), 0, 0
        self._counting = threading.Lock()

    def _wait(self, kind, requests=1):
        with self._counting:
            self.asked[kind] += requests
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        time.sleep(LATENCY * requests)
        with self._counting:
            self.under_way -= 1

    def get(self, path):
        self._wait("get")
        return super().get(path)

    def entries(self, folder):
        found = list(super().entries(folder))
        self._wait("list", 1 + len(found) // 1000)
        return iter(found)


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a finished job; its store lies beside it."""
    path = write_dataset(tmp_path_factory.mktemp("many") / "job", EDITS, EACH)
    assert fill(load_job(path).edits, path.parent / "store") == EDITS // EACH * 3 + EDITS * 4
    time.sleep(2.1)  # files that are newer are not remembered
    return path


def first_edits(job, number):
    return type(job)(job.name, job.path, job.edits[:number], (), job.order[:number])


@pytest.fixture(scope="module")
def remote(path):
    """Return the same store in object storage."""
    objects = MemoryStore()
    local = Backend(LocalStore(path.parent / "store"), "copy")
    for entry in local.entries(""):
        objects.put(entry.path, local.get(entry.path))
    return objects


def requests(objects, name, job):
    """Plan a job in object storage; return the requests, and the most at a time."""
    backend = Slow(objects, name)
    plan = plan_job(job, ArtifactStore(backend), explain=True)
    assert all(edit.done for edit in plan.edits)
    return backend.asked, backend.most_under_way


def test_requests_grow_with_the_artifacts_and_not_faster(path, remote):
    job = load_job(path)
    half, whole = first_edits(job, EDITS // 2), job
    for edits, name in ((half, "half"), (whole, "whole")):
        number = len(edits.edits)
        artifacts = number // EACH * 3 + number * 4
        asked, most = requests(remote, name, edits)
        assert asked["get"] == artifacts  # each record once
        assert asked["list"] <= 2 * artifacts
        assert most > 8  # they do not wait for each other
        asked, _ = requests(remote, name, edits)
        assert asked["get"] == 0
        assert asked["list"] <= 2 * artifacts


def test_listings_are_bounded_however_many_keys_are_asked_for(make_key):
    backend = Slow(MemoryStore(), "empty")
    for number in (100, 5000):
        backend.asked.clear()
        keys = [make_key(index) for index in range(number)]
        assert ArtifactStore(backend).lookup_many("train_lora", keys) == {}
        prefixes = {key[:2] for key in keys}
        assert backend.asked == {"list": len(prefixes)}
        assert len(prefixes) <= PREFIXES


@pytest.fixture
def make_key():
    from artifacts import digest_json

    return lambda number: digest_json("key", number)


def cpu_seconds(work, repeats=3):
    """Return the CPU time of the shortest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def test_planning_twice_as_many_edits_costs_less_than_three_times_as_much(path):
    store = ArtifactStore.open(path.parent / "store")
    job = load_job(path)
    half = first_edits(job, EDITS // 2)
    plan_job(job, store)
    of_half = cpu_seconds(lambda: plan_job(half, store, explain=True))
    of_all = cpu_seconds(lambda: plan_job(job, store, explain=True))
    assert of_all < 3 * of_half, f"{EDITS // 2} edits {of_half:.4f} s, {EDITS} {of_all:.4f} s"


def test_a_plan_with_an_index_costs_a_third_of_one_without(path):
    job = load_job(path)
    store = ArtifactStore.open(path.parent / "store")
    plan_job(job, store)
    bare = ArtifactStore(Backend(LocalStore(path.parent / "store"), "bare", store.backend.root))
    with_index = cpu_seconds(lambda: plan_job(job, store))
    without = cpu_seconds(lambda: plan_job(job, bare), repeats=2)
    assert 3 * with_index < without, f"with {with_index:.4f} s, without {without:.4f} s"


def test_a_job_that_was_seen_before_is_read_at_a_fraction_of_the_cost(path, tmp_path, monkeypatch):
    again = cpu_seconds(lambda: load_job(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert 2 * again < cpu_seconds(lambda: load_job(path), repeats=1)


def test_a_report_that_is_up_to_date_is_neither_read_nor_written(path, remote, tmp_path):
    job, backend = first_edits(load_job(path), 12), Slow(remote, "report")
    store = ArtifactStore(backend)
    plans = plan_job(job, store).edits
    Results.open(job, store, tmp_path / "out").finish(plans)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    assert len(before) > 3 * 12
    plans = plan_job(job, store).edits
    backend.asked.clear()
    Results.open(job, store, tmp_path / "out").finish(plans)
    assert not backend.asked
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")} == before
