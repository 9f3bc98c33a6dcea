"""What a store promises, over a local folder and over object storage kept in memory."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from obstore.store import MemoryStore

from artifacts import ArtifactCorrupt, ArtifactStore, Document, Produced, StoreUnavailable
from artifacts.layout import object_folder
from artifacts.places.backend import Backend


def test_what_was_published_is_read_back(
    store, make_action, make_payload, circumstances, check_payload
):
    action, payload = make_action(), make_payload()
    assert store.lookup(action.stage, action.key) is None
    record = store.publish(action, payload, circumstances, {"steps": 7})
    found = store.lookup(action.stage, action.key)
    assert (found.status, found.record) == ("hit", record)
    assert (record.number, record.summary, record.circumstances) == (1, {"steps": 7}, circumstances)
    assert record.action == action
    assert record.action.key == record.key == action.key
    check_payload(store.read(record), payload)


def test_some_parts_are_read_alone_and_all_bytes_are_checked(
    folder_store, make_action, make_payload, circumstances, tmp_path
):
    record = folder_store.publish(make_action(), make_payload(), circumstances)
    first, second, *_ = make_payload()
    assert folder_store.read(record, [first, "no such part"]).keys() == {first}
    folder = tmp_path / "store" / "objects" / record.object[:2] / record.object
    damaged = next(
        path for path in folder.rglob("*") if f"/{second}." in str(path) and path.is_file()
    )
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactCorrupt):
        folder_store.read(record, [first])


def test_a_record_tells_its_size(folder_store, make_action, make_payload, circumstances, tmp_path):
    record = folder_store.publish(make_action(), make_payload(), circumstances)
    folder = tmp_path / "store" / "objects" / record.object[:2] / record.object
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert record.size == sum(path.stat().st_size for path in files)
    assert len(record.files) == len(files) == 6


def test_the_first_writer_wins(store, make_action, make_payload, circumstances):
    first = store.publish(make_action(), make_payload(1), circumstances)
    second = store.publish(make_action(), make_payload(2), circumstances)
    assert second == first


def test_a_forced_result_gets_the_next_number_and_counts(
    store, make_action, make_payload, circumstances, check_payload
):
    action = make_action()
    first = store.publish(action, make_payload(1), circumstances)
    second = store.publish(action, make_payload(2), circumstances, replace=True)
    third = store.publish(action, make_payload(2), circumstances, replace=True)
    assert [record.number for record in (first, second, third)] == [1, 2, 3]
    assert second.object == third.object != first.object
    assert store.lookup(action.stage, action.key).record == third
    check_payload(store.read(first), make_payload(1))


def test_equal_payloads_share_an_object(store, make_action, make_payload, circumstances):
    one = store.publish(make_action(1), make_payload(), circumstances)
    other = store.publish(make_action(2), make_payload(), circumstances)
    assert (one.object, one.logical) == (other.object, other.logical)
    assert one.key != other.key


def test_looking_up_many_finds_what_looking_up_one_finds(
    store, make_action, make_payload, circumstances
):
    actions = [make_action(number) for number in range(30)]
    for action in actions[:20]:
        store.publish(action, {"a": Document(action.key)}, circumstances)
    store.publish(actions[3], {"a": Document("again")}, circumstances, replace=True)
    many = store.lookup_many("invert_image", [action.key for action in actions])
    single = {action.key: store.lookup("invert_image", action.key) for action in actions}
    assert many == {key: lookup for key, lookup in single.items() if lookup}
    assert all(lookup.record == single[key].record for key, lookup in many.items())
    assert len(many) == 20
    assert store.lookup_many("invert_image", []) == {}
    assert store.lookup_many("train_lora", [action.key for action in actions]) == {}


def test_records_of_a_stage_are_the_newest_of_each_key(store, make_action, circumstances):
    for number in range(3):
        store.publish(make_action(number), {"a": Document(number)}, circumstances)
    store.publish(make_action(stage="train_lora"), {"a": Document(0)}, circumstances)
    newest = store.publish(make_action(0), {"a": Document(9)}, circumstances, replace=True)
    records = {record.key: record for record in store.records_of("invert_image")}
    assert records.keys() == {make_action(number).key for number in range(3)}
    assert records[newest.key] == newest
    assert list(store.records_of("sample_image")) == []


@pytest.fixture
def produce(make_payload, circumstances):
    """Work that can be asked how often it was done; each time it makes other values."""

    class Work:
        times = 0

        def __call__(self):
            self.times += 1
            return Produced(make_payload(self.times), circumstances, {"times": self.times})

    return Work()


def test_a_miss_is_produced_and_published(
    store, make_action, make_payload, produce, circumstances, check_payload
):
    record = store.ensure(make_action(), produce)
    assert record == store.lookup(record.stage, record.key).record
    assert (record.action, record.number) == (make_action(), 1)
    assert (record.circumstances, record.summary) == (circumstances, {"times": 1})
    check_payload(store.read(record), make_payload(1))


def test_a_hit_is_returned_and_nothing_is_produced(store, make_action, produce):
    first = store.ensure(make_action(), produce)
    assert store.ensure(make_action(), produce) == first
    assert produce.times == 1


def test_a_result_whose_bytes_are_gone_is_produced_again(store, make_action, produce):
    first = store.ensure(make_action(), produce)
    store.backend.delete(f"{object_folder(first.object)}/{path}" for path in first.files)
    again = store.ensure(make_action(), produce)
    assert (produce.times, again.number) == (2, 2)
    store.read(again)


def test_a_hit_that_reading_finds_damaged_is_produced_again(
    store, make_action, make_payload, produce, check_payload
):
    first = store.ensure(make_action(), produce)
    path = f"{object_folder(first.object)}/preview.png"
    data = store.backend.get(path)
    store.backend.put(path, data[:-1] + bytes([data[-1] ^ 1]))
    assert store.ensure(make_action(), produce) == first  # by its sizes, it is a hit still
    with pytest.raises(ArtifactCorrupt, match=r"preview\.png has changed"):
        store.read(first)
    again = store.ensure(make_action(), produce)
    assert (produce.times, again.number) == (2, 2)
    check_payload(store.read(again), make_payload(2))


def test_replacing_a_hit_produces_it_again_under_the_next_number(
    store, make_action, make_payload, produce, check_payload
):
    records = [store.ensure(make_action(), produce, replace=True) for _ in range(3)]
    assert [record.number for record in records] == [1, 2, 3]
    assert store.ensure(make_action(), produce) == records[2]
    assert produce.times == 3
    check_payload(store.read(records[2]), make_payload(3))


def test_work_that_fails_publishes_nothing(store, make_action, produce):
    def fail():
        raise ZeroDivisionError

    action = make_action()
    with pytest.raises(ZeroDivisionError):
        store.ensure(action, fail)
    assert store.lookup(action.stage, action.key) is None
    assert store.backend.sizes("objects") == {}
    first = store.ensure(action, produce)
    with pytest.raises(ZeroDivisionError):
        store.ensure(action, fail, replace=True)
    assert store.ensure(action, produce) == first


def test_a_result_that_another_writer_published_meanwhile_wins(store, make_action, produce):
    others = []

    def overtaken():
        others.append(store.ensure(make_action(), produce))
        return produce()

    assert store.ensure(make_action(), overtaken) == others[0]
    assert (others[0].number, produce.times) == (1, 2)


def test_one_of_many_threads_wins(store, make_action, make_payload, circumstances):
    barrier = threading.Barrier(8)

    def write(number):
        barrier.wait()
        return store.publish(make_action(), {"a": Document(number)}, circumstances)

    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(write, range(8)))
    assert all(record == records[0] for record in records)
    assert records[0].number == 1


def test_forced_results_of_many_threads_are_all_kept(store, make_action, circumstances):
    def write(number):
        return store.publish(make_action(), {"a": Document(number)}, circumstances, replace=True)

    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(write, range(16)))
    assert sorted(record.number for record in records) == list(range(1, 17))


def test_progress_is_the_latest_checkpoint(store, make_action, make_payload, check_payload):
    key = make_action().key
    assert store.latest_progress("optimize_latent", key) is None
    for step in (20, 40, 100):
        store.put_progress("optimize_latent", key, step, make_payload(step))
    progress = store.latest_progress("optimize_latent", key)
    assert progress.step == 100
    check_payload(progress.parts, make_payload(100))
    store.drop_progress("optimize_latent", key)
    assert store.latest_progress("optimize_latent", key) is None


def test_old_checkpoints_go_and_torn_ones_are_passed_over(
    folder_store, make_action, make_payload, check_payload, tmp_path
):
    key = make_action().key
    for step in (20, 40, 60):
        folder_store.put_progress("optimize_latent", key, step, make_payload(step))
    folder = tmp_path / "store" / "progress" / "optimize_latent" / key
    kept = {path.parent.name for path in folder.rglob("manifest.json")}
    assert kept == {"00000040", "00000060"}
    (folder / "00000060" / "lora.safetensors").write_bytes(b"")
    progress = folder_store.latest_progress("optimize_latent", key)
    assert progress.step == 40
    check_payload(progress.parts, make_payload(40))


def test_attempts_are_kept_in_order(store, make_action):
    key, other = make_action(0).key, make_action(1).key
    assert store.attempts("build_mask", key) == []
    numbers = [store.add_attempt("build_mask", key, {"reason": text}) for text in ("a", "b")]
    assert numbers == [1, 2]
    assert store.attempts("build_mask", key) == [{"reason": "a"}, {"reason": "b"}]
    assert store.attempts("build_mask", other) == []
    assert store.last_attempts("build_mask", [key, other]) == {key: {"reason": "b"}}
    assert store.lookup("build_mask", key) is None


def test_runs_keep_their_files(store):
    store.put_run("2026-01-02_a", "summary.json", b"1")
    store.put_run("2026-01-01_b", "plan.json", b"2")
    store.put_run("2026-01-02_a", "summary.json", b"3")
    assert store.runs() == ["2026-01-01_b", "2026-01-02_a"]
    assert store.get_run("2026-01-02_a", "summary.json") == b"3"
    assert store.get_run("2026-01-02_a", "plan.json") is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/a", "a\0b", "é", "x" * 300])
def test_names_that_could_leave_the_store_are_refused(store, make_action, name):
    key = make_action().key
    for use in (
        lambda: store.put_run(name, "a", b""),
        lambda: store.put_run("a", name, b""),
        lambda: store.lookup(name, key),
        lambda: store.lookup("build_mask", name),
        lambda: store.add_attempt("build_mask", name, {}),
        lambda: store.put_progress(name, key, 1, {}),
    ):
        with pytest.raises(ValueError, match=r"cannot name|is not a key"):
            use()


def test_only_names_of_the_layout_are_in_a_store(
    folder_store, make_action, make_payload, circumstances, tmp_path
):
    record = folder_store.publish(make_action(), make_payload(), circumstances)
    key, root = record.key, tmp_path / "store"
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    objects = {f"objects/{record.object[:2]}/{record.object}/{path}" for path in record.files}
    assert files == {
        "format.json",
        f"actions/invert_image/{key[:2]}/{key}/0001.json",
        *objects,
    }


def test_records_are_json_that_people_can_read(
    folder_store, make_action, make_payload, circumstances, tmp_path
):
    folder_store.publish(make_action(), make_payload(), circumstances)
    (path,) = (tmp_path / "store" / "actions").rglob("*.json")
    body = json.loads(path.read_bytes())["body"]
    assert body["config"] == {"steps": 50, "strength": 0.7}
    assert body["circumstances"]["seconds"] == 1.5


def test_a_store_is_opened_again(tmp_path, make_action, make_payload, circumstances):
    record = ArtifactStore.open(tmp_path / "a" / "b").publish(
        make_action(), make_payload(), circumstances
    )
    again = ArtifactStore.open(str(tmp_path / "a" / "b"), create=False)
    assert again.lookup(record.stage, record.key).record == record


def test_a_store_in_memory_is_opened_by_its_url(make_action, circumstances):
    store = ArtifactStore.open("memory://")
    record = store.publish(make_action(), {"a": np.zeros(3)}, circumstances)
    assert store.lookup(record.stage, record.key).status == "hit"


def foreign(root):
    root.mkdir()
    (root / "format.json").write_text('{"store":"other","version":1}')


def newer(root):
    root.mkdir()
    (root / "format.json").write_text('{"store":"adaptivedrag","version":2}')


def garbage(root):
    root.mkdir()
    (root / "format.json").write_bytes(b"\xff\x00")


def a_folder_as_format(root):
    (root / "format.json" / "x").mkdir(parents=True)


def a_file(root):
    root.write_text("not a folder")


def below_a_file(root):
    root.parent.rmdir()
    root.parent.write_text("not a folder")


def a_loop(root):
    root.symlink_to(root)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "prepare", [foreign, newer, garbage, a_folder_as_format, a_file, below_a_file, a_loop]
)
def test_a_place_that_cannot_be_a_store_is_named_in_one_line(tmp_path, prepare, create):
    (tmp_path / "a").mkdir()
    root = tmp_path / "a" / "store"
    prepare(root)
    with pytest.raises(StoreUnavailable) as caught:
        ArtifactStore.open(root, create=create)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreUnavailable):
        ArtifactStore.open(tmp_path)


def test_an_unknown_kind_of_address_is_named_in_one_line():
    with pytest.raises(StoreUnavailable) as caught:
        ArtifactStore.open("gopher://host/store")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["missing", "memory://"])
def test_opening_without_creating_needs_a_store(tmp_path, location):
    location = location if "://" in location else tmp_path / location
    with pytest.raises(StoreUnavailable):
        ArtifactStore.open(location, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_format_file_torn_by_a_power_loss_is_written_again(tmp_path):
    (tmp_path / "format.json").write_bytes(b"\0" * 20)
    ArtifactStore.open(tmp_path)
    ArtifactStore.open(tmp_path, create=False)


def test_files_are_made_durable_before_the_record_and_the_record_before_returning(
    tmp_path, make_action, make_payload, circumstances
):
    calls = []

    class Watched(Backend):
        def create(self, path, data):
            calls.append(("create", path))
            return super().create(path, data)

        def renew(self, path, data):
            calls.append(("renew", path))
            super().renew(path, data)

        def sync(self, paths, folders=True):
            paths = list(paths)
            calls.append(("sync" if folders else "sync bytes", *paths))
            super().sync(paths, folders)

    store = ArtifactStore(Watched.open(tmp_path, create=True))
    record = store.publish(make_action(), make_payload(), circumstances)
    folder = f"objects/{record.object[:2]}/{record.object}"
    path = f"actions/invert_image/{record.key[:2]}/{record.key}/0001.json"
    files = [f"{folder}/{name}" for name in record.files]
    assert calls[:2] == [("sync bytes", *files[:-1]), ("renew", files[-1])]
    assert calls[2:] == [("sync", *files), ("create", path), ("sync", path)]


def test_a_store_that_cannot_be_marked_still_tells_of_damage(
    make_action, make_payload, circumstances
):
    objects = MemoryStore()
    store = ArtifactStore.open(objects)
    record = store.publish(make_action(), make_payload(), circumstances)
    path = f"objects/{record.object[:2]}/{record.object}/preview.png"
    objects.put(path, bytes(record.files["preview.png"]))

    class ReadOnly(Backend):
        def put(self, path, data):
            raise StoreUnavailable("read-only")

    with pytest.raises(ArtifactCorrupt, match=r"preview\.png has changed"):
        ArtifactStore(ReadOnly(objects, "mount")).read(record)


def test_importing_the_package_loads_no_heavy_library():
    program = "import artifacts, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "artifacts.store" in loaded
    assert not {"torch", "prefect", "zarr", "numpy", "PIL", "safetensors"} & set(loaded)
