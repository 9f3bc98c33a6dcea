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
from artifacts.layout import object_folder
from artifacts.places.backend import Backend
from artifacts.upkeep.collect import Kind, Policy, collect, plan_collection
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


def settle(store):
    """Let the store's clock go on: object storage counts whole seconds, a disk a few ms."""
    time.sleep(1.05 if "S3Store" in store.location else 0.02)


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
    settle(store)
    plan = plan_collection(store, Policy(keep={records[0].key}), NOW)
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
    done = collect(store, Policy(keep={records[0].key}), NOW)
    assert [candidate.kind for candidate in done.removed] == [Kind.OBJECT] * 2
    assert done.spared == done.plan.recent == ()
    assert [status(store, record) for record in records] == ["hit", "known", "known"]
    check_payload(store.read(records[0]), make_payload(0))
    assert publish(store, 1) == records[1:2]
    assert status(store, records[1]) == "hit"


def test_nothing_that_can_be_asked_for_goes_unless_the_policy_says_so(store, publish):
    records = publish(store, 0, 1)
    settle(store)
    assert collect(store, Policy(), NOW).removed == ()
    assert [status(store, record) for record in records] == ["hit"] * 2


def test_what_was_written_within_the_grace_period_stays(store, publish):
    (record,) = publish(store, 0)
    done = collect(store, EVERYTHING, timedelta(hours=1))
    assert (done.removed, done.plan.candidates) == ((), ())
    assert [c.path for c in done.plan.recent] == [object_folder(record.object)]
    assert done.plan.kept == record.size
    assert status(store, record) == "hit"


def test_what_is_older_than_the_grace_period_goes_in_one_call(folder_store, publish):
    old, young = publish(folder_store, 0, 1)
    make_older(folder_store, old, 1 / 12)  # two hours
    done = collect(folder_store, EVERYTHING)
    assert [c.path for c in done.removed] == [object_folder(old.object)]
    assert [status(folder_store, record) for record in (old, young)] == ["known", "hit"]


def test_an_old_object_that_another_action_uses_again_stays_within_the_grace_period(
    folder_store, make_action, make_payload, circumstances
):
    first = folder_store.publish(make_action(0), make_payload(), circumstances)
    make_older(folder_store, first, 1)
    second = folder_store.publish(make_action(1), make_payload(), circumstances)
    assert first.object == second.object
    assert collect(folder_store, EVERYTHING).removed == ()
    assert status(folder_store, second) == "hit"


def test_an_object_that_is_used_again_between_the_look_and_the_deletion_is_spared(
    folder_store, make_action, make_payload, circumstances, monkeypatch
):
    first = folder_store.publish(make_action(0), make_payload(), circumstances)
    make_older(folder_store, first, 1)
    later = []

    def plan_and_use_again(*arguments):
        plan = plan_collection(*arguments)
        later.append(folder_store.publish(make_action(1), make_payload(), circumstances))
        return plan

    monkeypatch.setattr("artifacts.upkeep.collect.plan_collection", plan_and_use_again)
    done = collect(folder_store, EVERYTHING)
    assert [c.path for c in done.spared] == [object_folder(first.object)]
    assert done.removed == ()
    assert {status(folder_store, record) for record in (first, *later)} == {"hit"}


def test_superseded_results_go_and_the_newest_stays(
    store, publish, make_action, make_payload, circumstances
):
    (old,) = publish(store, 0)
    new = store.publish(make_action(0), make_payload(7), circumstances, replace=True)
    settle(store)
    done = collect(store, Policy(keep={new.key}), NOW)
    assert [c.path.rpartition("/")[2] for c in done.removed] == [old.object]
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
    done = collect(store, Policy(keep={records[1].key}, forget=True), NOW)
    assert {c.kind for c in done.removed} == {Kind.OBJECT, Kind.RECORD}
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
    os.utime(root / "runs" / "summary.json#1", (1e9, 1e9))
    settle(folder_store)
    collected = collect(folder_store, Policy(), NOW)
    assert {(c.kind, c.path) for c in collected.removed} == {
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


def test_files_of_writers_at_work_stay(folder_store, publish):
    path = folder_store.backend.root / "format.json#1"
    path.write_bytes(b"half")
    settle(folder_store)
    done = collect(folder_store, Policy(), NOW)
    assert ([c.kind for c in done.plan.recent], path.exists()) == ([Kind.UNFINISHED], True)
    os.utime(path, (1e9, 1e9))
    collect(folder_store, Policy())
    assert not path.exists()


def test_a_manifest_s_going_is_made_to_last_before_the_rest_goes(folder_store, publish):
    """If a power loss brought it back, files that are being written again would look whole."""
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
    settle(folder_store)
    collect(watched, EVERYTHING, NOW)
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
            collect(faulty(objects, **{moment: fail(k)}), policy, NOW)
        except StoreUnavailable:
            check_served(healthy, records, records[:1], make_payload, check_payload)
            collect(healthy, policy, NOW)
            assert [status(healthy, record) for record in records] == ["hit", "known"]
            assert {f.trouble for f in Verification(healthy)} == {Trouble.COLLECTED}
        else:
            assert k > 15
            return


def test_a_collector_at_any_moment_of_a_publish_takes_nothing_for_good(
    make_action, make_payload, circumstances, check_payload
):
    """Between any two requests of a writer that reuses an object, one collects everything."""
    for k in count():
        objects = MemoryStore()
        collector = ArtifactStore.open(objects)
        collector.publish(make_action(0), make_payload(), circumstances)
        requests = count()

        def intrude(operation, path, requests=requests, k=k, collector=collector):
            if next(requests) == k:
                collect(collector, EVERYTHING, NOW)

        record = faulty(objects, before=intrude).publish(
            make_action(1), make_payload(), circumstances
        )
        assert status(collector, record) == "hit"
        check_payload(collector.read(record), make_payload())
        if next(requests) <= k:
            assert k > 8
            return


def test_a_writer_at_any_moment_of_a_collection_loses_nothing_but_work(
    make_action, make_payload, circumstances, check_payload
):
    """Between any two requests of a collector, a writer comes to use its object again."""
    lost = 0
    for k in count():
        objects = MemoryStore()
        writer = ArtifactStore.open(objects)
        writer.publish(make_action(0), make_payload(), circumstances)
        requests = count()

        def intrude(operation, path, requests=requests, k=k, writer=writer):
            if next(requests) == k:
                writer.publish(make_action(1), make_payload(), circumstances)

        collect(faulty(objects, before=intrude), EVERYTHING, NOW)
        found = writer.lookup("invert_image", make_action(1).key)
        if found and found.status == "hit":
            check_payload(writer.read(found.record), make_payload())
        elif found:
            lost += k > 0  # before its first request, all that was published may go
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
    collect(store, policy, NOW)
    assert {status(store, record) for record in kept} == {"hit"}
    harmless = {Trouble.COLLECTED, Trouble.LEFTOVER}  # a collector writes the clock
    assert {finding.trouble for finding in Verification(store)} <= harmless
