"""Changes in an edits file: what is not touched keeps its bytes, and nobody's work is lost."""

import json

import pytest

from stages.jobs.edits_file import Change, lines_of, merge

CAT = {"id": "cat", "image": "a.png", "prompt": "a cat", "drags": []}
ODD = b'{ "id":"odd",  "image":"b.png","note":"kept", "drags":[],"weight":1.50}'
FILE = json.dumps(CAT).encode() + b"\r\n\r\n" + ODD + b"\r\n{broken\r\n" + b'{"id": 7}'


def edits(data: bytes) -> list:
    return [line.edit for line in lines_of(data)]


def test_lines_that_are_not_touched_keep_their_bytes_and_their_order():
    assert merge(FILE, []).data == FILE
    merged = merge(FILE, [Change("cat", CAT, {**CAT, "prompt": 'a "dog" 🐕\n'})])
    first, *others = merged.data.splitlines(keepends=True)
    assert json.loads(first) == {**CAT, "prompt": 'a "dog" 🐕\n'}
    assert "🐕".encode() in first
    assert first.endswith(b"\r\n")
    assert b"".join(others) == FILE.partition(b"\r\n")[2]


def test_a_changed_edit_keeps_its_unknown_keys_and_their_places():
    drags = [{"handle": [1, 2], "target": [3, 4]}]
    known = {"id": "odd", "image": "b.png", "drags": []}
    data = merge(FILE, [Change("odd", known, {**known, "drags": drags, "tags": ["x"]})]).data
    odd = edits(data)[1]
    assert [*odd] == ["id", "image", "note", "drags", "weight", "tags"]
    assert (odd["note"], odd["drags"], odd["weight"]) == ("kept", drags, 1.5)


def test_a_new_edit_comes_last_under_an_id_that_is_free():
    new = {"id": "Cat", "image": "c.png", "drags": []}
    merged = merge(FILE, [Change("new", None, new), Change("other", None, new)])
    assert merged.names == {"new": "Cat-2", "other": "Cat-3"}
    assert merged.data.startswith(FILE + b"\r\n")
    assert edits(merged.data)[-1] == {**new, "id": "Cat-3"}
    assert merge(b"", [Change("new", None, new)]).data == json.dumps(new).encode() + b"\n"


def test_two_writers_change_one_edit_and_both_changes_are_kept_where_they_agree():
    drags = [{"handle": [1, 1], "target": [9, 9]}]
    ours = Change("cat", CAT, {**CAT, "drags": drags})
    theirs = Change("cat", CAT, {**CAT, "prompt": "their cat"})
    merged = merge(merge(FILE, [theirs]).data, [ours])
    assert not merged.conflicts
    assert edits(merged.data)[0] == {**CAT, "drags": drags, "prompt": "their cat"}
    assert merge(merged.data, [ours]).data == merged.data


def test_a_clash_leaves_what_is_there_and_is_named():
    theirs = merge(FILE, [Change("cat", CAT, {**CAT, "prompt": "theirs"})]).data
    both = Change("cat", CAT, {**CAT, "prompt": "ours", "tags": ["kept"]})
    merged = merge(theirs, [both])
    (conflict,) = merged.conflicts
    assert (conflict.name, conflict.key) == ("cat", "prompt")
    assert conflict.reason == "prompt of cat was changed elsewhere meanwhile"
    assert edits(merged.data)[0] == {**CAT, "prompt": "theirs", "tags": ["kept"]}


def test_an_edit_is_removed_only_as_it_was_read():
    gone = merge(FILE, [Change("cat", CAT, None)])
    assert gone.data == FILE.partition(b"\r\n")[2]
    assert merge(gone.data, [Change("cat", CAT, None)]).data == gone.data
    changed = merge(gone.data, [Change("cat", CAT, {**CAT, "prompt": "ours"})])
    assert [each.reason for each in changed.conflicts] == ["cat is gone from the file"]
    tagged = merge(FILE, [Change("cat", CAT, {**CAT, "tags": ["theirs"]})]).data
    kept = merge(tagged, [Change("cat", CAT, None)])
    assert [each.key for each in kept.conflicts] == ["tags"]
    assert kept.data == tagged


@pytest.mark.parametrize("taken", ["odd", "ODD", "a/b", ""])
def test_an_id_that_is_taken_or_illegal_is_refused(taken):
    merged = merge(FILE, [Change("cat", CAT, {**CAT, "id": taken})])
    assert [each.key for each in merged.conflicts] == ["id"]
    assert merged.data == FILE


def test_lines_without_an_id_of_their_own_are_told_apart():
    twice = json.dumps(CAT).encode() + b"\n"
    data = twice + twice + b'{"image": "a.png"}\n'
    names = [line.name for line in lines_of(data)]
    assert len(set(names)) == 3
    assert all(name.startswith("#") for name in names)
    merged = merge(data, [Change(names[1], CAT, {**CAT, "id": "other"})])
    assert [line.name for line in lines_of(merged.data)][:2] == ["cat", "other"]
