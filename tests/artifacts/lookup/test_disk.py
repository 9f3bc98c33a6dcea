"""A process beside this one finds what this one would, whatever becomes of it."""

import os
import shutil
import signal
import time
from select import select

import pytest

from artifacts import ArtifactStore, Helper, StoreUnavailable
from artifacts.layout import object_folder
from artifacts.lookup.disk import _ENOUGH, SETTLED_NS, stamps, unchanged, whole

SIZES = {"manifest.json": 3, "latents/c": 5}


@pytest.fixture
def folders(tmp_path):
    """Folders of all sorts, and what is expected in each."""
    for number in range(8):
        (tmp_path / f"{number}" / "latents").mkdir(parents=True)
        (tmp_path / f"{number}" / "manifest.json").write_bytes(b"abc")
        (tmp_path / f"{number}" / "latents" / "c").write_bytes(b"abcde")
    (tmp_path / "1" / "damaged.json").write_bytes(b"")
    (tmp_path / "2" / "latents" / "c").write_bytes(b"abc")
    (tmp_path / "3" / "manifest.json").unlink()
    (tmp_path / "4" / "latents" / "c").unlink()
    (tmp_path / "4" / "latents" / "c").mkdir()
    (tmp_path / "5" / "more").write_bytes(b"is none of our business")
    return [(f"{number}", SIZES) for number in (*range(8), "gone")]


FOUND = [True, False, False, False, False, True, True, True, False]


def ask(helper, tmp_path, folders):
    return helper.whole(str(tmp_path), folders, "damaged.json")


def test_both_find_the_same(tmp_path, folders):
    assert whole(str(tmp_path), folders, "damaged.json") == FOUND
    with Helper() as helper:
        assert ask(helper, tmp_path, folders)() == FOUND


def test_both_find_the_same_changes(tmp_path, folders):
    files = [(folder, name) for folder, sizes in folders for name in sizes]
    assert stamps(str(tmp_path), files) == [None] * len(files)  # they are too new
    time.sleep(SETTLED_NS / 1e9 + 0.1)
    before = [
        (*file, stamp) for file, stamp in zip(files, stamps(str(tmp_path), files), strict=True)
    ]
    (tmp_path / "0" / "manifest.json").write_bytes(b"ABC")
    (tmp_path / "1" / "beside").touch()
    changed = {
        ("0", "manifest.json"),
        *((folder, name) for folder in ("1", "gone") for name in SIZES),
    }
    expected = [file not in {*changed, ("3", "manifest.json")} for file in files]
    of_another = ("6", "manifest.json", before[files.index(("7", "manifest.json"))][2])
    before, expected = [*before, of_another], [*expected, False]
    assert unchanged(str(tmp_path), before) == expected
    with Helper() as helper:
        assert helper.unchanged(str(tmp_path), before)() == expected


def test_urgent_questions_come_first(tmp_path, folders):
    with Helper() as helper:
        helper._process.send_signal(signal.SIGSTOP)
        patient = [ask(helper, tmp_path, folders * 20) for _ in range(10)]
        urgent = helper.unchanged(str(tmp_path), [("0", "manifest.json", "")])
        helper._process.send_signal(signal.SIGCONT)
        assert urgent() == [False]
        assert patient[-1].found is None
        assert [answer() for answer in patient] == [FOUND * 20] * 10


def test_with_enough_questions_before_them_others_are_answered_here(tmp_path, folders):
    with Helper() as helper:
        helper._process.send_signal(signal.SIGSTOP)
        answers = [ask(helper, tmp_path, folders) for _ in range(_ENOUGH + 2)]
        assert [answer.found for answer in answers] == [*[None] * _ENOUGH, FOUND, FOUND]
        helper._process.send_signal(signal.SIGCONT)
        assert [answer() for answer in answers] == [FOUND] * len(answers)


def test_what_cannot_be_looked_at_here_is_said_where_it_is_needed(tmp_path, folders):
    with Helper() as helper:
        helper._process.send_signal(signal.SIGSTOP)
        answers = [ask(helper, tmp_path, folders) for _ in range(_ENOUGH)]
        wrong = ask(helper, tmp_path, [("0", {"n" * 300: 1})])
        with pytest.raises(OSError, match="name too long"):
            wrong()
        helper._process.send_signal(signal.SIGCONT)
        assert [answer() for answer in answers] == [FOUND] * len(answers)


def test_after_its_death_all_is_found_here(tmp_path, folders):
    with Helper() as helper:
        helper._process.send_signal(signal.SIGSTOP)
        answers = [ask(helper, tmp_path, folders) for _ in range(3)]
        helper._process.kill()
        helper._process.wait()
        answers += [ask(helper, tmp_path, folders) for _ in range(3)]
        assert [answer() for answer in answers] == [FOUND] * 6


def test_it_looks_while_this_process_goes_on(tmp_path, folders):
    with Helper() as helper:
        answer = ask(helper, tmp_path, folders)
        assert select([helper._process.stdout], [], [], 60)[0]
        for number in range(8):
            (tmp_path / f"{number}" / "manifest.json").unlink(missing_ok=True)
        assert answer() == FOUND


def test_every_answer_can_be_had_in_any_order_and_again(tmp_path, folders):
    with Helper() as helper:
        answers = [ask(helper, tmp_path, folders[number:]) for number in range(9)]
        for number in (3, 8, 0, 3, 5):
            assert answers[number]() == FOUND[number:]
    assert answers[8]() == [False]


def test_questions_and_answers_larger_than_a_pipe_arrive(tmp_path, folders):
    many = folders * 20_000
    with Helper() as helper:
        first, second = ask(helper, tmp_path, many), ask(helper, tmp_path, many[1:])
        assert second() == (FOUND * 20_000)[1:]
        assert first() == FOUND * 20_000


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_it_may_die_at_any_time(tmp_path, folders, when):
    with Helper() as helper:

        def kill(moment):
            if moment == when:
                os.kill(helper._process.pid, signal.SIGKILL)
                helper._process.wait()

        kill("before")
        first = ask(helper, tmp_path, folders * 2_000)
        kill("between")
        assert first() == FOUND * 2_000
        kill("after")
        assert ask(helper, tmp_path, folders)() == FOUND


def test_of_something_unforeseen_it_dies_at_once(tmp_path, folders):
    with Helper() as helper:
        answer = ask(helper, tmp_path, [("\0", SIZES)])
        assert helper._process.wait(60) == 1
        with pytest.raises(ValueError, match="null"):
            answer()


def test_ctrl_c_is_not_for_it(tmp_path, folders):
    with Helper() as helper:
        assert ask(helper, tmp_path, folders)() == FOUND
        helper._process.send_signal(signal.SIGINT)
        assert ask(helper, tmp_path, folders)() == FOUND
    assert helper._process.returncode == 0


def test_no_process_is_left(tmp_path, folders):
    with Helper() as helper:
        ask(helper, tmp_path, folders)
    assert helper._process.returncode == 0


def test_after_an_error_nobody_waits_for_it(tmp_path, folders):
    helper = Helper()

    def fail():
        with helper:
            os.kill(helper._process.pid, signal.SIGSTOP)
            ask(helper, tmp_path, folders)
            raise ValueError("for the test")

    with pytest.raises(ValueError, match="for the test"):
        fail()
    assert helper._process.returncode == -signal.SIGKILL


def test_pipes_may_be_small(tmp_path, folders, monkeypatch):
    monkeypatch.setattr("artifacts.lookup.disk._PIPE", (1 << 31) - 1)
    with Helper() as helper:
        assert helper._process
        assert ask(helper, tmp_path, folders * 20_000)() == FOUND * 20_000


def test_where_none_can_be_started_all_is_found_all_the_same(tmp_path, folders, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Helper() as helper:
        assert helper._process is None
        assert ask(helper, tmp_path, folders)() == FOUND


def test_what_cannot_be_looked_at_is_said_here(tmp_path, folders):
    folders += [("0", {"n" * 300: 1})]
    with pytest.raises(OSError, match="name too long"):
        whole(str(tmp_path), folders, "damaged.json")
    with Helper() as helper:
        answer = ask(helper, tmp_path, folders)
        with pytest.raises(OSError, match="name too long"):
            answer()
        assert ask(helper, tmp_path, folders[:-1])() == FOUND
        assert helper._process.poll() is None


def test_lookups_are_the_same_with_it(tmp_path, make_action, make_payload, circumstances):
    store = ArtifactStore.open(tmp_path / "store")
    records = [
        store.publish(make_action(number), make_payload(number), circumstances)
        for number in range(6)
    ]
    store.mark_damaged(records[2].object, "for the test")
    keys = [make_action(number).key for number in range(7)] * 2
    alone = store.lookup_many(records[0].stage, keys)
    with store.helper() as helper:
        found = store.lookup_many(records[0].stage, keys, helper)
        assert found == alone
    assert [each.status for each in found.values()].count("known") == 1


def test_the_error_of_a_store_names_the_whole_path(
    tmp_path, make_action, make_payload, circumstances
):
    store = ArtifactStore.open(tmp_path / "store")
    record = store.publish(make_action(), make_payload(), circumstances)
    object_ = tmp_path / "store" / object_folder(record.object)
    shutil.rmtree(object_)
    object_.symlink_to(object_)
    with pytest.raises(StoreUnavailable, match=rf"^{object_}/.*symbolic links"):
        store.lookup_many(record.stage, [record.key])
    with store.helper() as helper:
        found = store.lookup_many(record.stage, [record.key], helper)[record.key]
        with pytest.raises(StoreUnavailable, match=rf"^{object_}/.*symbolic links"):
            _ = found.status


def test_the_first_keys_are_looked_for_while_later_ones_are_made(
    tmp_path, make_action, make_payload, circumstances, monkeypatch
):
    monkeypatch.setattr("artifacts.store._PART", 2)
    store = ArtifactStore.open(tmp_path / "store")
    for number in range(6):
        store.publish(make_action(number), make_payload(number), circumstances)
    keys = [make_action(number).key for number in (0, 1, 2, 0, 3, 4, 5, 6)]
    alone = store.lookup_many(make_action().stage, keys)
    questions = []

    def made():
        for key in keys:
            questions.append(helper._number)
            yield key

    with Helper() as helper:
        assert store.lookup_many(make_action().stage, made(), helper) == alone
    assert questions == [0, 0, 1, 1, 1, 2, 2, 3]
