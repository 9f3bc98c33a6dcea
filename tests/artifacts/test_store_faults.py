"""Faults of disks, writers and people: nothing wrong is ever served, and a rerun repairs it."""

import os
import random
import time

import numpy as np
import pytest
import writer as child
from support.naive_store import NaiveStore
from support.store_faults import (
    FAULTS,
    FILES,
    SCENES,
    WAYS,
    FaultyBackend,
    flip,
    publish_failing_everywhere,
    replace_by_a_folder,
)

from artifacts import ArtifactCorrupt, ArtifactStore, Record
from artifacts.keys import digest_bytes
from artifacts.records import Manifest, StoredFile, seal


@pytest.fixture
def published(folder_store, make_action, make_payload, circumstances):
    return folder_store.publish(make_action(), make_payload(), circumstances)


@pytest.fixture
def object_folder(tmp_path, published):
    return tmp_path / "store" / "objects" / published.object[:2] / published.object


@pytest.fixture
def record_path(tmp_path, published):
    folder = tmp_path / "store" / "actions" / published.stage / published.key[:2] / published.key
    return folder / "0001.json"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_found_and_mended_by_publishing_again(
    folder_store, published, object_folder, make_payload, circumstances, check_payload, file, fault
):
    fault(object_folder / file, random.Random(f"{file} {fault.__name__}"))
    with pytest.raises(ArtifactCorrupt, match=file.replace(".", r"\.")):
        folder_store.read(published)
    assert folder_store.lookup(published.stage, published.key).status == "known"
    if fault is replace_by_a_folder:
        (object_folder / file).rmdir()
    again = folder_store.publish(published.action, make_payload(), circumstances)
    assert again == published
    assert folder_store.lookup(published.stage, published.key).status == "hit"
    check_payload(folder_store.read(again), make_payload())


def test_a_damaged_object_is_replaced_by_a_result_with_other_bytes(
    folder_store, published, object_folder, make_payload, circumstances, check_payload
):
    flip(object_folder / "lora.safetensors", random.Random(0))
    again = folder_store.publish(published.action, make_payload(1), circumstances)
    assert again.number == 2
    assert folder_store.lookup(published.stage, published.key).record == again
    check_payload(folder_store.read(again), make_payload(1))


def test_no_flipped_bit_of_an_object_is_served(folder_store, published, object_folder):
    draw = random.Random(1)
    for _ in range(300):
        path = object_folder / draw.choice(FILES)
        whole = path.read_bytes()
        flip(path, draw)
        with pytest.raises(ArtifactCorrupt):
            folder_store.read(published)
        path.write_bytes(whole)
    folder_store.read(published)


@pytest.mark.parametrize("file", [file for file in FILES if file != "latents.zarr/zarr.json"])
def test_files_swapped_between_objects_are_found(
    folder_store, published, object_folder, make_action, make_payload, circumstances, file
):
    other = folder_store.publish(make_action(1), make_payload(1), circumstances)
    theirs = object_folder.parents[1] / other.object[:2] / other.object / file
    held = theirs.read_bytes()
    theirs.write_bytes((object_folder / file).read_bytes())
    (object_folder / file).write_bytes(held)
    for record in (published, other):
        with pytest.raises(ArtifactCorrupt, match=file.replace(".", r"\.")):
            folder_store.read(record)


def test_whole_objects_swapped_are_found(
    folder_store, published, object_folder, make_action, make_payload, circumstances
):
    other = folder_store.publish(make_action(1), make_payload(1), circumstances)
    theirs = object_folder.parents[1] / other.object[:2] / other.object
    theirs.rename(object_folder.parent / "held")
    object_folder.rename(theirs)
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json"):
        folder_store.read(other)


def test_no_flipped_bit_of_a_record_is_believed(folder_store, published, record_path):
    draw, whole = random.Random(2), record_path.read_bytes()
    for _ in range(300):
        flip(record_path, draw)
        assert folder_store.lookup(published.stage, published.key) is None
        record_path.write_bytes(whole)
    assert folder_store.lookup(published.stage, published.key).record == published


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"null", b"[" * 100_000])
def test_an_unreadable_record_is_passed_over_and_the_next_number_taken(
    folder_store, published, record_path, make_payload, circumstances, content
):
    record_path.write_bytes(content)
    assert folder_store.lookup(published.stage, published.key) is None
    assert folder_store.lookup_many(published.stage, [published.key]) == {}
    assert list(folder_store.records_of(published.stage)) == []
    again = folder_store.publish(published.action, make_payload(), circumstances)
    assert again.number == 2
    assert record_path.read_bytes() == content


def test_the_highest_record_that_parses_counts(folder_store, published, record_path):
    record_path.with_name("0002.json").write_bytes(b"torn")
    record_path.with_name("notes.txt").write_text("not a record")
    record_path.with_name("0001.json#1").write_text("left by a killed writer")
    assert folder_store.lookup(published.stage, published.key).record == published


def test_a_record_of_another_key_stage_or_number_is_ignored(
    folder_store, published, record_path, make_action
):
    other = make_action(1)
    folder = record_path.parents[2] / other.key[:2] / other.key
    folder.mkdir(parents=True)
    (folder / "0001.json").write_bytes(record_path.read_bytes())
    assert folder_store.lookup(other.stage, other.key) is None
    moved = record_path.parents[3] / "train_lora" / published.key[:2] / published.key
    moved.mkdir(parents=True)
    (moved / "0001.json").write_bytes(record_path.read_bytes())
    assert folder_store.lookup("train_lora", published.key) is None
    record_path.with_name("0007.json").write_bytes(record_path.read_bytes())
    assert folder_store.lookup(published.stage, published.key).record.number == 1


def test_folders_that_are_not_keys_are_passed_over(folder_store, published, record_path, tmp_path):
    for folder in (record_path.parents[1] / "notes", tmp_path / "store/attempts/invert_image/x"):
        folder.mkdir(parents=True)
        (folder / "0001.json").write_bytes(record_path.read_bytes())
    assert list(folder_store.records_of(published.stage)) == [published]


def test_a_record_of_a_newer_schema_is_passed_over(folder_store, published, record_path):
    newer = published.model_dump(mode="json") | {"schema_version": 2, "number": 2}
    record_path.with_name("0002.json").write_bytes(seal(newer))
    assert folder_store.lookup(published.stage, published.key).record == published


def test_a_folder_in_a_record_s_place_does_not_stop_publishing(
    folder_store, make_action, make_payload, circumstances, tmp_path
):
    action = make_action()
    folder = tmp_path / "store" / "actions" / action.stage / action.key[:2] / action.key
    (folder / "0001.json").mkdir(parents=True)
    assert folder_store.publish(action, make_payload(), circumstances).number == 2


def test_a_payload_without_a_record_is_not_a_hit(
    folder_store, published, record_path, make_payload, circumstances
):
    record_path.unlink()
    assert folder_store.lookup(published.stage, published.key) is None
    assert folder_store.publish(published.action, make_payload(), circumstances) == published


def test_collected_bytes_leave_a_key_known_and_are_remade(
    folder_store, published, object_folder, make_payload, circumstances
):
    for file in FILES:
        (object_folder / file).unlink()
    found = folder_store.lookup(published.stage, published.key)
    assert (found.status, found.record.logical) == ("known", published.logical)
    with pytest.raises(ArtifactCorrupt, match="missing"):
        folder_store.read(published)
    assert not (object_folder / "damaged.json").exists()
    assert folder_store.publish(published.action, make_payload(), circumstances) == published
    assert folder_store.lookup(published.stage, published.key).status == "hit"


def test_an_object_that_is_used_again_is_renewed_and_not_written_over(
    folder_store, published, object_folder, make_action, make_payload, circumstances
):
    """Written over, a file can be empty after a power loss, and finished work be gone."""
    files = [object_folder / file for file in FILES]
    inodes = [file.stat().st_ino for file in files]
    os.utime(object_folder / "manifest.json", (1, 1))
    again = folder_store.publish(make_action(1), make_payload(), circumstances)
    assert again.object == published.object
    assert [file.stat().st_ino for file in files] == inodes
    assert (object_folder / "manifest.json").stat().st_mtime > 1


def test_damage_is_marked_before_it_is_mended_and_the_mark_goes_last(
    tmp_path, published, object_folder, make_payload, circumstances
):
    """Half-repaired bytes of the right sizes would count as a hit after a power loss."""
    (object_folder / "preview.png").write_bytes(b"short")
    backend, calls = FaultyBackend.open(tmp_path / "store", create=True), []
    backend.after = lambda operation, path: calls.append((operation, path.rpartition("/")[2]))
    ArtifactStore(backend).publish(published.action, make_payload(), circumstances)
    writes = [call for call in calls if call[0] in ("put", "sync", "delete")]
    assert writes[:3] == [("put", "damaged.json"), ("sync", ""), ("put", "preview.png")]
    assert writes[3:] == [("sync", ""), ("sync", ""), ("delete", "damaged.json")]


OUTSIDE = [
    "../../../../secret",
    "/secret",
    "a/../../secret",
    "a//b",
    "a/./b",
    ".hidden",
    "a\\b",
    "C:\\secret",
    "a\0b",
    "",
    "é",
    "x" * 300,
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_manifest_that_names_a_path_outside_is_refused(
    folder_store, published, object_folder, record_path, tmp_path, path
):
    (tmp_path / "secret").write_bytes(b"secret")
    manifest = Manifest.from_bytes((object_folder / "manifest.json").read_bytes())
    stored = StoredFile.model_construct(path=path, size=6, sha256=digest_bytes("test", b""))
    data = manifest.model_copy(update={"files": (*manifest.files, stored)}).to_bytes()
    evil = digest_bytes("object", data)
    folder = object_folder.parents[1] / evil[:2] / evil
    folder.parent.mkdir(exist_ok=True)
    object_folder.rename(folder)
    (folder / "manifest.json").write_bytes(data)
    record = published.model_copy(
        update={"object": evil, "files": {**published.files, "manifest.json": len(data)}}
    )
    record_path.write_bytes(record.to_bytes())
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json cannot be read"):
        folder_store.read(record)
    assert folder_store.lookup(record.stage, record.key).status == "known"


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_record_that_names_a_path_outside_is_not_believed(
    folder_store, published, record_path, path
):
    record = published.model_copy(update={"files": {path: 6}})
    record_path.write_bytes(record.to_bytes())
    with pytest.raises(ValueError, match=r"should match pattern|at most 200 characters"):
        Record.from_bytes(record.to_bytes())
    assert folder_store.lookup(published.stage, published.key) is None


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0].__name__} {way[1]}")
@pytest.mark.parametrize("scene", SCENES)
def test_a_publish_that_fails_at_any_operation_leaves_nothing_wrong(
    make_action, make_payload, circumstances, way, scene
):
    failures, broken = publish_failing_everywhere(
        make_action(), make_payload(1), make_payload(2), circumstances, way, scene
    )
    assert broken == []
    assert failures > 8


def hits_from(store, first):
    """Read what the store calls a hit, from one number on; return the first that is none."""
    number = first
    while found := store.lookup("race", child.action(number).key):
        assert found.status == "hit"
        parts, expected = store.read(found.record), child.payload(number, 0)
        np.testing.assert_array_equal(parts["latents"], expected["latents"])
        assert parts["verdict"] == {"number": number}
        number += 1
    return number


@pytest.mark.parametrize(
    ("write", "lives"), [(child.write, 20), (child.write_without_links, 10)], ids=["", "no-links"]
)
def test_killed_writers_leave_no_wrong_artifact(tmp_path, start, write, lives):
    draw, reached = random.Random(5), 0
    for _ in range(lives):
        process, receiver = start(write, tmp_path, 0, reached, 1000)
        for _ in range(draw.randrange(4)):
            receiver.recv()
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.join()
        reached = hits_from(ArtifactStore.open(tmp_path, create=False), reached)
    assert hits_from(ArtifactStore.open(tmp_path, create=False), 0) == reached >= lives


def test_killed_writers_of_a_naive_store_leave_wrong_artifacts(tmp_path, start):
    """The control of the test above: results in place, and what exists counts as done."""
    draw, wrong = random.Random(5), 0
    for life in range(20):
        place = tmp_path / str(life)
        process, receiver = start(child.write_naively, place, 0, 1000)
        for _ in range(draw.randrange(4)):
            receiver.recv()
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.join()
        wrong += torn(NaiveStore(place))
    assert wrong > 0


def torn(store):
    """Count the results that the naive store calls done and that are not what was written."""
    number, wrong = 0, 0
    while found := store.lookup("race", child.action(number).key):
        try:
            same = np.array_equal(
                store.read(found.record)["latents"], child.payload(number, 0)["latents"]
            )
        except (OSError, KeyError, ValueError):
            same = False
        wrong += not same
        number += 1
    return wrong


def test_two_processes_at_once_agree_on_every_winner(tmp_path, start):
    receivers = [start(child.write, tmp_path, flavor, 0, 40)[1] for flavor in (1, 2)]
    outputs = [[receiver.recv() for _ in range(40)] for receiver in receivers]
    assert outputs[0] == outputs[1]
    store = ArtifactStore.open(tmp_path, create=False)
    records = [store.lookup("race", child.action(number).key).record for number in range(40)]
    assert [record.object for record in records] == outputs[0]
    assert {record.number for record in records} == {1}
