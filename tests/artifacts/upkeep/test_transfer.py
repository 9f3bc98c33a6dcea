"""Moving artifacts between stores: verified, resumable, and nothing twice."""

import random
from collections import Counter
from itertools import count

import pytest
import writer as child
from obstore.store import MemoryStore
from support import housekeeper
from support.store_faults import FaultyBackend, fail_from, fail_once, flip

from artifacts import ArtifactStore, StoreUnavailable
from artifacts.upkeep.transfer import Outcome, transfer
from artifacts.upkeep.verify import Verification


@pytest.fixture
def source(folder_store, make_action, make_payload, circumstances):
    """Three results; the second is made from the first, the third from the second."""
    above = {}
    for number, stage in enumerate(["train_lora", "invert_image", "sample_image"]):
        action = make_action(number, stage, inputs=dict(above))
        record = folder_store.publish(action, make_payload(number), circumstances)
        above = {stage: record.logical}
    return folder_store


def all_of(store):
    stages = ["train_lora", "invert_image", "sample_image"]
    return [record for stage in stages for record in store.records_of(stage)]


def names(records):
    return [(record.stage, record.key) for record in records]


def outcomes(*arguments):
    return Counter(done.outcome for done in transfer(*arguments))


@pytest.mark.parametrize("kind", ["folder", "memory", "s3"])
def test_artifacts_come_whole_to_any_other_store_and_back(
    source, make_location, make_payload, check_payload, kind
):
    target, home = (ArtifactStore.open(make_location(k)) for k in (kind, "folder"))
    records = all_of(source)
    for there, here in ((source, target), (target, home)):
        done = list(transfer(there, here, names(records)))
        assert [d.outcome for d in done] == [Outcome.COPIED] * 3
        assert [d.size for d in done] == [record.size for record in records]
        assert all_of(here) == records
        for number, record in enumerate(records):
            check_payload(here.read(record), make_payload(number))
        assert list(Verification(here)) == []
        assert outcomes(there, here, names(records)) == {Outcome.THERE: 3}


def test_only_what_is_asked_for_is_copied(source, make_location):
    last = names(all_of(source))[-1:]
    target = ArtifactStore.open(make_location("memory"))
    assert outcomes(source, target, last) == {Outcome.COPIED: 1}
    assert names(all_of(target)) == last


def test_what_the_target_made_itself_stays(
    source, make_location, make_payload, circumstances, check_payload
):
    target = ArtifactStore.open(make_location("memory"))
    record = all_of(source)[0]
    own = target.publish(record.action, make_payload(9), circumstances)
    assert outcomes(source, target, names([record])) == {Outcome.THERE: 1}
    assert target.lookup(record.stage, record.key).record == own


def test_the_newest_of_several_records_is_the_first_of_the_target(
    source, make_location, make_payload, circumstances, check_payload
):
    target = ArtifactStore.open(make_location("memory"))
    first = all_of(source)[0]
    newest = source.publish(first.action, make_payload(9), circumstances, replace=True)
    assert newest.number == 2
    assert outcomes(source, target, names([first])) == {Outcome.COPIED: 1}
    found = target.lookup(first.stage, first.key)
    assert (found.status, found.record.number, found.record.object) == ("hit", 1, newest.object)


def test_damage_absence_and_lost_bytes_are_told_and_the_rest_goes_on(
    source, make_location, make_action, tmp_path
):
    target = ArtifactStore.open(make_location("memory"))
    damaged, collected, sound = all_of(source)
    flip(
        tmp_path / f"store/objects/{damaged.object[:2]}/{damaged.object}/preview.png",
        random.Random(1),
    )
    folder = f"objects/{collected.object[:2]}/{collected.object}"
    source.backend.delete(f"{folder}/{path}" for path in collected.files)
    absent = make_action(77).key
    done = {d.key: d for d in transfer(source, target, [*names(all_of(source)), ("a", absent)])}
    assert done[damaged.key].outcome is Outcome.DAMAGED
    assert "preview.png has changed" in done[damaged.key].reason
    assert done[collected.key].outcome is Outcome.KNOWN
    assert done[sound.key].outcome is Outcome.COPIED
    assert done[absent].outcome is Outcome.MISSING
    assert target.lookup(damaged.stage, damaged.key) is None
    assert target.lookup(collected.stage, collected.key).status == "known"
    assert target.lookup(sound.stage, sound.key).status == "hit"


def test_a_record_with_a_false_key_is_refused(source, make_location):
    record = all_of(source)[0]
    path = f"actions/{record.stage}/{record.key[:2]}/{record.key}/0001.json"
    source.backend.put(path, record.model_copy(update={"version": 9}).to_bytes())
    target = ArtifactStore.open(make_location("memory"))
    (done,) = transfer(source, target, names([record]))
    assert done.outcome is Outcome.DAMAGED
    assert "is of other work" in done.reason
    assert target.backend.folders("") == []


@pytest.mark.parametrize("fail", [fail_from, fail_once])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_transfer_that_fails_at_any_request_goes_on_when_called_again(
    make_action, make_payload, circumstances, check_payload, fail, moment, side
):
    for k in count():
        places = {"source": MemoryStore(), "target": MemoryStore()}
        healthy = {name: ArtifactStore.open(place) for name, place in places.items()}
        records = [
            healthy["source"].publish(make_action(number), make_payload(number), circumstances)
            for number in range(2)
        ]
        backend = FaultyBackend(places[side], "faulty")
        setattr(backend, moment, fail(k))
        hurt = healthy | {side: ArtifactStore(backend)}
        done = []
        try:
            done += transfer(hurt["source"], hurt["target"], names(records))
        except StoreUnavailable:
            for number, record in enumerate(records):
                found = healthy["target"].lookup(record.stage, record.key)
                if found:
                    check_payload(healthy["target"].read(found.record), make_payload(number))
            list(transfer(healthy["source"], healthy["target"], names(records)))
            assert [d for d in Verification(healthy["target"]) if d.trouble.is_damage] == []
            for record in records:
                assert healthy["target"].lookup(record.stage, record.key).status == "hit"
        else:
            assert [d.outcome for d in done] == [Outcome.COPIED] * 2
            assert k > 8
            return


def test_killed_transfers_go_on_until_all_is_there(tmp_path, start, circumstances):
    source, target = ArtifactStore.open(tmp_path / "a"), ArtifactStore.open(tmp_path / "b")
    records = [
        source.publish(child.action(number), child.payload(number, 0), circumstances)
        for number in range(24)
    ]
    draw, kills = random.Random(13), 0
    keys = [record.key for record in records]
    while len(target.lookup_many("race", keys)) < len(records):
        end = draw.randint(1, 4), draw.uniform(0.001, 0.01)
        process, _ = start(housekeeper.move, tmp_path / "a", tmp_path / "b", names(records), *end)
        process.join()
        kills += process.exitcode != 0
        for number, record in enumerate(records):
            if target.lookup(record.stage, record.key):
                assert target.read(record)["verdict"] == {"number": number}
    assert kills > 2
    assert outcomes(source, target, names(records)) == {Outcome.THERE: 24}
    assert [f for f in Verification(target) if f.trouble.is_damage] == []
