"""`Verification` finds whatever is not as it was published, and touches nothing."""

import random
import shutil

import pytest
from support.store_faults import FAULTS, FILES, delete, flip

from artifacts import ArtifactCorrupt
from artifacts.records import seal
from artifacts.upkeep.verify import Trouble, Verification


@pytest.fixture
def published(folder_store, make_action, make_payload, circumstances):
    """Five results, the last of them made from the first."""
    records = [
        folder_store.publish(make_action(number), make_payload(number), circumstances)
        for number in range(4)
    ]
    drawn = make_action(4, "sample_image", inputs={"invert_image": records[0].logical})
    return [*records, folder_store.publish(drawn, make_payload(4), circumstances)]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


def object_folder(root, record):
    return root / "objects" / record.object[:2] / record.object


def record_path(root, record):
    folder = root / "actions" / record.stage / record.key[:2] / record.key
    return folder / f"{record.number:04d}.json"


def snapshot(root):
    return {
        path.relative_to(root): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in root.rglob("*")
    }


def findings(store, **options):
    found = list(Verification(store, **options))
    assert all("\n" not in str(finding) for finding in found)
    return found


def troubles(store, **options):
    return {(finding.trouble, finding.path) for finding in findings(store, **options)}


def test_a_store_as_it_should_be_has_no_findings(store, make_action, make_payload, circumstances):
    for number in range(3):
        store.publish(make_action(number), make_payload(number), circumstances)
    store.publish(make_action(0), make_payload(0), circumstances, replace=True)
    store.add_attempt("build_mask", make_action(9).key, {"message": "too dark"})
    store.put_progress("optimize_latent", make_action(8).key, 20, make_payload())
    store.put_run("one", "summary.json", b"{}")
    check = Verification(store)
    assert list(check) == []
    assert (check.counts.records, check.counts.objects) == (4, 3)
    assert check.counts.files == 4 + 3 * len(FILES) + len(FILES)
    assert (check.counts.damage, check.counts.notes) == (0, 0)


def test_an_empty_store_has_no_findings(store):
    assert findings(store) == []


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_payload_is_found_where_it_is(folder_store, published, root, file, fault):
    folder = object_folder(root, published[2])
    fault(folder / file, random.Random(f"{file} {fault.__name__}"))
    found = findings(folder_store)
    assert {finding.trouble for finding in found} == {Trouble.OBJECT}
    assert {finding.path for finding in found} == {str((folder / file).relative_to(root))}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault is not delete])
def test_every_fault_of_a_record_is_found(folder_store, published, root, fault):
    path = record_path(root, published[2])
    fault(path, random.Random(fault.__name__))
    found = troubles(folder_store)
    orphan = object_folder(root, published[2]).relative_to(root)
    assert (Trouble.ORPHAN, str(orphan)) in found
    if path.is_file():
        assert (Trouble.RECORD, str(path.relative_to(root))) in found


def test_a_deleted_record_leaves_an_orphan_and_an_input_that_nobody_made(
    folder_store, published, root
):
    record_path(root, published[0]).unlink()
    assert troubles(folder_store) == {
        (Trouble.ORPHAN, str(object_folder(root, published[0]).relative_to(root))),
        (Trouble.INPUT, str(record_path(root, published[4]).relative_to(root))),
    }


def test_inputs_are_missed_when_their_whole_stage_is_gone_if_it_is_named(
    folder_store, published, root
):
    shutil.rmtree(root / "actions" / "invert_image")
    wanted = (Trouble.INPUT, str(record_path(root, published[4]).relative_to(root)))
    assert wanted not in troubles(folder_store)
    assert wanted in troubles(folder_store, stages=["invert_image"])


@pytest.mark.parametrize("file", [*FILES, "record"])
def test_files_swapped_between_artifacts_are_found(folder_store, published, root, file):
    one, other = (
        record_path(root, record) if file == "record" else object_folder(root, record) / file
        for record in published[1:3]
    )
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    found = {path for trouble, path in troubles(folder_store) if trouble.is_damage}
    both = {str(path.relative_to(root)) for path in (one, other)}
    # Arrays of one shape and dtype have the same zarr.json: then nothing has changed.
    assert found == (set() if file == "latents.zarr/zarr.json" else both)


def test_a_record_whose_fields_make_another_key_is_found(folder_store, published, root):
    path = record_path(root, published[1])
    forged = published[1].model_copy(update={"config": {"steps": 51, "strength": 0.7}})
    path.write_bytes(forged.to_bytes())
    (found,) = findings(folder_store)[:1]
    assert (found.trouble, found.path) == (Trouble.RECORD, str(path.relative_to(root)))
    assert "its fields make the key" in found.reason


def test_a_record_that_says_other_things_than_the_manifest_is_found(folder_store, published, root):
    for update in ({"logical": published[2].logical}, {"files": {"a": 1}}):
        forged = published[1].model_copy(update=update)
        record_path(root, published[1]).write_bytes(forged.to_bytes())
        (found,) = findings(folder_store)
        assert found.trouble is Trouble.OBJECT
        assert record_path(root, published[1]).name in found.reason


def test_a_gap_in_the_numbers_of_records_is_found(
    folder_store, published, root, make_payload, circumstances
):
    folder_store.publish(published[1].action, make_payload(1), circumstances, replace=True)
    record_path(root, published[1]).unlink()
    assert troubles(folder_store) == {
        (Trouble.RECORD, str(record_path(root, published[1]).relative_to(root)))
    }


def test_a_marked_object_a_file_too_many_and_a_collected_object_are_told(
    folder_store, published, root
):
    one, two, three = (object_folder(root, record) for record in published[:3])
    (one / "extra.bin").write_bytes(b"x")
    (two / "damaged.json").write_bytes(seal({"reason": "a reader saw it"}))
    shutil.rmtree(three)
    assert troubles(folder_store) == {
        (Trouble.OBJECT, str((one / "extra.bin").relative_to(root))),
        (Trouble.OBJECT, str((two / "damaged.json").relative_to(root))),
        (Trouble.COLLECTED, str(record_path(root, published[2]).relative_to(root))),
    }


def test_torn_and_left_checkpoints_attempts_and_strange_files_are_told(
    folder_store, published, root, make_action, make_payload
):
    torn, left = make_action(9).key, published[0].key
    folder_store.put_progress("invert_image", torn, 20, make_payload())
    folder_store.put_progress("invert_image", left, 20, make_payload())
    (root / f"progress/invert_image/{torn}/00000020/preview.png").write_bytes(b"")
    folder_store.add_attempt("invert_image", torn, {"message": "too dark"})
    flip(root / f"attempts/invert_image/{torn}/0001.json", random.Random(0))
    unfinished = object_folder(root, published[0]) / "preview.png#1"
    unfinished.write_bytes(b"half")
    (root / "actions/invert_image/notes").mkdir()
    (root / "actions/invert_image/notes/a.txt").write_text("a")
    (root / "objects/zz").mkdir()
    (root / "objects/zz/b.txt").write_text("b")
    (root / "photos").mkdir()
    (root / "photos/c.txt").write_text("c")
    assert troubles(folder_store) == {
        (Trouble.CHECKPOINT, f"progress/invert_image/{torn}/00000020"),
        (Trouble.CHECKPOINT, f"progress/invert_image/{left}"),
        (Trouble.ATTEMPT, f"attempts/invert_image/{torn}/0001.json"),
        (Trouble.LEFTOVER, str(unfinished.relative_to(root))),
        (Trouble.LEFTOVER, "actions/invert_image/notes/a.txt"),
        (Trouble.LEFTOVER, "objects/zz/b.txt"),
        (Trouble.LEFTOVER, "photos"),
    }


def test_verifying_changes_nothing_but_marks_what_is_damaged(folder_store, published, root):
    flip(object_folder(root, published[0]) / "lora.safetensors", random.Random(3))
    record_path(root, published[1]).unlink()
    before = snapshot(root)
    assert len(findings(folder_store)) == 2
    after = snapshot(root)
    [mark] = after.keys() - before.keys()
    assert mark == object_folder(root, published[0]).relative_to(root) / "damaged.json"
    assert all(after[path] == state for path, state in before.items() if path != mark.parent)
    record = published[0]
    assert folder_store.lookup(record.stage, record.key).status == "known"  # no hit any more
    assert len(findings(folder_store)) == 2
    assert snapshot(root) == after


def swap(one, other):
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


@pytest.mark.slow
def test_two_hundred_faults_are_found_by_verifying_and_on_use_and_healed(
    folder_store, published, root, make_payload, circumstances, check_payload
):
    draw = random.Random(7)
    places = [file for file in FILES if file != "latents.zarr/zarr.json"] + ["record"]
    faults = [fault for fault in FAULTS if fault.__name__ != "replace_by_a_folder"] + [swap]
    for trial in range(200):
        fault, place = faults[trial % len(faults)], draw.choice(places)
        hurt, other = draw.sample(published, 2)
        paths = [
            record_path(root, record) if place == "record" else object_folder(root, record) / place
            for record in (hurt, other)
        ]
        fault(*paths) if fault is swap else fault(paths[0], draw)
        told = f"trial {trial}: {fault.__name__} of {place}"
        assert findings(folder_store), told
        for number, record in enumerate(published):
            found = folder_store.lookup(record.stage, record.key)
            if record not in (hurt, other):
                assert found.status == "hit", told
            if record is hurt and place == "record":
                assert found is None, told
            elif record is hurt:
                with pytest.raises(ArtifactCorrupt):
                    folder_store.read(found.record)
            if record in (hurt, other):
                again = folder_store.publish(record.action, make_payload(number), circumstances)
                check_payload(folder_store.read(again), make_payload(number))
        if place == "record":
            # Nothing is written over a record: the next number counts from now on.
            for record, path in zip((hurt, other), paths, strict=True):
                path.write_bytes(record.to_bytes())
                path.with_name("0002.json").unlink(missing_ok=True)
        if trial % 10 == 9:
            assert findings(folder_store) == [], told
