"""Collecting: nothing that is wanted goes, whoever works at the same time, wherever it stops."""

import os
import random
import time
from contextlib import suppress
from datetime import timedelta
from itertools import count

import pytest
import writer as child
from obstore.store import MemoryStore
from support import housekeeper
from support.store_faults import FaultyBackend, fail_from, fail_once

from artifacts import ArtifactCorrupt, ArtifactStore, StoreUnavailable
from artifacts.places.backend import Backend
from artifacts.upkeep.collect import Kind, Policy, mark, marks, plan_collection, sweep
from artifacts.upkeep.verify import Trouble, Verification

NOW = timedelta(0)
EVERYTHING = Policy(keep=())


@pytest.fixture
def publish(make_action, make_payload, circumstances):
    def publish(store, *numbers, **options):
        return [
            store.publish(make_action(number), make_payload(number), circumstances, **options)
            for number in numbers
        ]

    return publish


def status(store, record):
    found = store.lookup(record.stage, record.key)
    return found and found.status


def collect(store, policy):
    """Mark, wait until what is written counts as later by the store's clock, and sweep."""
    written = mark(store, plan_collection(store, policy))
    swept = sweep(store, policy, NOW)
    assert written is None or marks(store) == []
    return swept


def settle(store):
    """Let the clock of an object storage, which counts whole seconds, go on."""
    if "S3Store" in store.location:
        time.sleep(1.05)


def make_older(store, record, days):
    """Set back the times of an object's and its records' files on the local disk."""
    root = store.backend.root
    then = time.time() - 86400 * days
    for folder in (
        root / "objects" / record.object[:2] / record.object,
        root / "actions" / record.stage / record.key[:2] / record.key,
    ):
        for path in folder.rglob("*"):
            os.utime(path, (then, then))


def test_a_plan_touches_nothing_and_says_what_how_much_and_why(store, publish):
    records = publish(store, 0, 1, 2)
    plan = plan_collection(store, Policy(keep={records[0].key}))
    assert {(c.kind, c.path) for c in plan.candidates} == {
        (Kind.OBJECT, f"objects/{record.object[:2]}/{record.object}") for record in records[1:]
    }
    assert all(c.reason.startswith("made by invert_image, last written") for c in plan.candidates)
    assert plan.size == records[1].size + records[2].size
    assert plan.kept == records[0].size
    assert [status(store, record) for record in records] == ["hit"] * 3


def test_bytes_go_records_stay_and_what_is_kept_stays(store, publish, check_payload, make_payload):
    records = publish(store, 0, 1, 2)
    settle(store)
    swept = collect(store, Policy(keep={records[0].key}))
    assert [candidate.kind for candidate in swept.removed] == [Kind.OBJECT] * 2
    assert swept.spared == ()
    assert [status(store, record) for record in records] == ["hit", "known", "known"]
    check_payload(store.read(records[0]), make_payload(0))
    assert publish(store, 1) == records[1:2]
    assert status(store, records[1]) == "hit"


def test_nothing_that_can_be_asked_for_goes_unless_the_policy_says_so(store, publish):
    records = publish(store, 0, 1)
    settle(store)
    assert collect(store, Policy()).removed == ()
    assert [status(store, record) for record in records] == ["hit"] * 2


def test_nothing_goes_before_the_grace_period_is_over(store, publish):
    (record,) = publish(store, 0)
    settle(store)
    mark(store, plan_collection(store, EVERYTHING))
    assert sweep(store, EVERYTHING, timedelta(hours=1)).removed == ()
    assert (len(marks(store)), status(store, record)) == (1, "hit")


def test_what_was_not_marked_does_not_go(store, publish):
    publish(store, 0)
    settle(store)
    mark(store, plan_collection(store, EVERYTHING))
    (later,) = publish(store, 1)
    assert len(sweep(store, EVERYTHING, NOW).removed) == 1
    assert status(store, later) == "hit"


def test_what_is_wanted_by_the_time_of_the_sweep_is_spared(store, publish):
    records = publish(store, 0, 1)
    settle(store)
    mark(store, plan_collection(store, EVERYTHING))
    swept = sweep(store, Policy(keep={records[0].key}), NOW)
    assert swept.spared == (f"objects/{records[0].object[:2]}/{records[0].object}",)
    assert [status(store, record) for record in records] == ["hit", "known"]


def test_an_object_that_another_action_came_to_use_since_it_was_marked_is_spared(
    store, make_action, make_payload, circumstances
):
    first = store.publish(make_action(0), make_payload(), circumstances)
    settle(store)
    mark(store, plan_collection(store, EVERYTHING))
    settle(store)
    second = store.publish(make_action(1), make_payload(), circumstances)
    assert first.object == second.object
    assert sweep(store, EVERYTHING, NOW).removed == ()
    assert status(store, second) == "hit"


def test_superseded_results_go_and_the_newest_stays(
    store, publish, make_action, make_payload, circumstances
):
    (old,) = publish(store, 0)
    new = store.publish(make_action(0), make_payload(7), circumstances, replace=True)
    settle(store)
    swept = collect(store, Policy(keep={new.key}))
    assert [c.path.rpartition("/")[2] for c in swept.removed] == [old.object]
    assert store.lookup(new.stage, new.key).record == new


def test_the_old_go_and_the_young_stay(folder_store, publish):
    old, young, kept = publish(folder_store, 0, 1, 2)
    make_older(folder_store, old, 40)
    make_older(folder_store, kept, 40)
    collect(folder_store, Policy(keep={kept.key}, older_than=timedelta(days=30)))
    assert [status(folder_store, r) for r in (old, young, kept)] == ["known", "hit", "hit"]


def test_the_oldest_go_until_the_store_is_small_enough(folder_store, publish):
    records = publish(folder_store, *range(4))
    for record, days in zip(records, (1, 4, 2, 3), strict=True):
        make_older(folder_store, record, days)
    room = records[0].size + records[2].size
    plan = plan_collection(folder_store, Policy(at_most=room))
    assert plan.kept <= room
    collect(folder_store, Policy(at_most=room))
    assert [status(folder_store, r) for r in records] == ["hit", "known", "hit", "known"]
    assert collect(folder_store, Policy(at_most=room)).removed == ()


def test_records_go_too_when_asked(store, publish):
    records = publish(store, 0, 1)
    publish(store, 0, replace=True)
    settle(store)
    swept = collect(store, Policy(keep={records[1].key}, forget=True))
    assert {c.kind for c in swept.removed} == {Kind.OBJECT, Kind.RECORD}
    assert [status(store, record) for record in records] == [None, "hit"]
    assert list(Verification(store)) == []


def test_orphans_done_checkpoints_and_unfinished_files_go_by_any_policy(
    folder_store, publish, make_action, make_payload, tmp_path
):
    done, orphaned = publish(folder_store, 0, 1)
    root = tmp_path / "store"
    (root / f"actions/invert_image/{orphaned.key[:2]}/{orphaned.key}/0001.json").unlink()
    at_work = make_action(2).key
    for key in (done.key, at_work):
        folder_store.put_progress("invert_image", key, 20, make_payload())
    (root / "runs").mkdir()
    (root / "runs" / "summary.json#1").write_bytes(b"half")
    swept = collect(folder_store, Policy())
    assert {(c.kind, c.path) for c in swept.removed} == {
        (Kind.OBJECT, f"objects/{orphaned.object[:2]}/{orphaned.object}"),
        (Kind.CHECKPOINT, f"progress/invert_image/{done.key}"),
        (Kind.UNFINISHED, "runs/summary.json#1"),
    }
    assert status(folder_store, done) == "hit"
    assert folder_store.latest_progress("invert_image", at_work).step == 20
    assert list(Verification(folder_store)) == []
    assert not (root / "objects" / orphaned.object[:2] / orphaned.object).exists()


def test_old_checkpoints_of_what_is_not_done_go_by_age(folder_store, make_action, make_payload):
    old, wanted = make_action(0).key, make_action(1).key
    for key in (old, wanted):
        folder_store.put_progress("optimize_latent", key, 20, make_payload())
        for path in folder_store.backend.root.glob(f"progress/*/{key}/**/*"):
            os.utime(path, (1e9, 1e9))
    collect(folder_store, Policy(keep={wanted}, older_than=timedelta(days=30)))
    assert folder_store.latest_progress("optimize_latent", old) is None
    assert folder_store.latest_progress("optimize_latent", wanted).step == 20


@pytest.mark.parametrize("content", [b"", b"[]", b"torn"])
def test_a_mark_that_cannot_be_read_marks_nothing(folder_store, publish, content):
    (record,) = publish(folder_store, 0)
    written = mark(folder_store, plan_collection(folder_store, EVERYTHING))
    folder_store.backend.put(written.path, content)
    assert sweep(folder_store, EVERYTHING, NOW).removed == ()
    assert status(folder_store, record) == "hit"


def test_a_manifest_s_going_is_made_to_last_before_the_rest_goes(folder_store, publish):
    """Brought back by a power loss, it would make files that are being written anew look whole."""
    (record,) = publish(folder_store, 0)
    events = []

    class Watched(Backend):
        def delete(self, paths, lasting=False):
            for path in paths:
                events.append((path.rpartition("/")[2], lasting))
                super().delete([path], lasting)

        def sync(self, paths, folders=True):
            paths = list(paths)
            events.extend(("sync", path.rpartition("/")[2]) for path in paths)
            super().sync(paths, folders)

    watched = ArtifactStore(Watched.open(folder_store.location, create=True))
    collect(watched, EVERYTHING)
    events = events[events.index(("manifest.json", True)) :]
    assert events[1] == ("sync", "manifest.json")
    assert {event for event in events[2:] if event[0] in record.files} <= {
        (path, False) for path in record.files
    }


def faulty(objects, **faults):
    backend = FaultyBackend(objects, "faulty")
    for name, fault in faults.items():
        setattr(backend, name, fault)
    return ArtifactStore(backend)


def check_served(store, records, kept, make_payload, check_payload):
    """Whatever is called a hit is right; what is kept is a hit; the rest can be made again."""
    for number, record in enumerate(records):
        found = store.lookup(record.stage, record.key)
        assert found.record == record
        if found.status == "hit":
            check_payload(store.read(record), make_payload(number))
        else:
            assert record not in kept


@pytest.mark.parametrize("fail", [fail_from, fail_once])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_collecting_that_fails_at_any_request_leaves_nothing_wrong(
    publish, make_payload, check_payload, fail, moment
):
    for k in count():
        objects = MemoryStore()
        healthy = ArtifactStore.open(objects)
        records = publish(healthy, 0, 1)
        policy = Policy(keep={records[0].key})
        try:
            collect(faulty(objects, **{moment: fail(k)}), policy)
        except StoreUnavailable:
            check_served(healthy, records, records[:1], make_payload, check_payload)
            mark(healthy, plan_collection(healthy, policy))
            sweep(healthy, policy, NOW)
            assert [status(healthy, record) for record in records] == ["hit", "known"]
            assert marks(healthy) == []
            assert {f.trouble for f in Verification(healthy)} == {Trouble.COLLECTED}
        else:
            assert k > 20
            return


def test_a_collector_at_any_moment_of_a_publish_takes_nothing_for_good(
    make_action, make_payload, circumstances, check_payload
):
    """Between any two requests of a writer that reuses an object, one marks and sweeps it all."""
    for k in count():
        objects = MemoryStore()
        collector = ArtifactStore.open(objects)
        collector.publish(make_action(0), make_payload(), circumstances)
        requests = count()

        def intrude(operation, path, requests=requests, k=k, collector=collector):
            if next(requests) == k:
                mark(collector, plan_collection(collector, EVERYTHING))
                sweep(collector, EVERYTHING, NOW)

        record = faulty(objects, before=intrude).publish(
            make_action(1), make_payload(), circumstances
        )
        assert status(collector, record) == "hit"
        check_payload(collector.read(record), make_payload())
        if next(requests) <= k:
            assert k > 8
            return


def test_a_writer_at_any_moment_of_a_sweep_loses_nothing_but_work(
    make_action, make_payload, circumstances, check_payload
):
    """Between any two requests of a collector, a writer comes to use a marked object."""
    lost = 0
    for k in count():
        objects = MemoryStore()
        writer = ArtifactStore.open(objects)
        writer.publish(make_action(0), make_payload(), circumstances)
        mark(writer, plan_collection(writer, EVERYTHING))
        requests = count()

        def intrude(operation, path, requests=requests, k=k, writer=writer):
            if next(requests) == k:
                writer.publish(make_action(1), make_payload(), circumstances)

        sweep(faulty(objects, before=intrude), EVERYTHING, NOW)
        found = writer.lookup("invert_image", make_action(1).key)
        if found and found.status == "hit":
            check_payload(writer.read(found.record), make_payload())
        elif found:
            lost += 1
            with pytest.raises(ArtifactCorrupt, match="missing"):
                writer.read(found.record)
            again = writer.publish(make_action(1), make_payload(), circumstances)
            check_payload(writer.read(again), make_payload())
        if next(requests) <= k:
            # Only a publish that falls whole between the last look and the deletions is lost.
            assert lost <= 6
            assert k > 12
            return


def test_writers_and_collectors_at_once_serve_nothing_wrong(tmp_path, start):
    _, rounds = start(housekeeper.collect, tmp_path)
    _, sent = start(child.write, tmp_path, 0, 0, 60)
    assert len([sent.recv() for _ in range(60)]) == 60
    removed = [rounds.recv()]
    while rounds.poll():
        removed.append(rounds.recv())
    assert sum(removed) > 0
    store = ArtifactStore.open(tmp_path)
    for number in range(60):
        record = store.lookup("race", child.action(number).key).record
        with suppress(ArtifactCorrupt):  # collected
            assert store.read(record)["verdict"] == {"number": number}
    assert {f.trouble for f in Verification(store) if f.trouble.is_damage} <= {Trouble.OBJECT}


def test_killed_collectors_leave_nothing_wrong(tmp_path, start, circumstances):
    store, draw = ArtifactStore.open(tmp_path), random.Random(11)
    kept = [store.publish(child.action(n), child.payload(n, 0), circumstances) for n in range(3)]
    for _ in range(8):
        for number in range(3, 12):
            store.publish(child.action(number), child.payload(number, 0), circumstances)
        process, _ = start(housekeeper.collect, tmp_path)
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.join()
        for number in range(12):
            found = store.lookup("race", child.action(number).key)
            if found.status == "hit":
                assert store.read(found.record)["verdict"] == {"number": number}
    policy = Policy(keep={record.key for record in kept})
    for number in range(3):
        store.publish(child.action(number), child.payload(number, 0), circumstances)
    mark(store, plan_collection(store, policy))
    sweep(store, policy, NOW)
    assert {status(store, record) for record in kept} == {"hit"}
    assert {finding.trouble for finding in Verification(store)} <= {Trouble.COLLECTED}
