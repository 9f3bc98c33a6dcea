"""The commands that keep house, on results that were published by hand."""

import json
import os
import time
from pathlib import Path

import pytest
from support.finished_job import finish, write_job
from support.tiny_models import shared_model
from test_cli import call, loaded_by

from artifacts import ArtifactStore
from artifacts.lookup.disk import SETTLED_NS
from stages.evaluate import Candidate, Instruments, Judge, reconstruction
from stages.jobs.reader import load_job
from stages.planning.housekeeping import job_actions
from stages.planning.models import diffusion_files
from stages.planning.plan import Status, plan_edits, plan_job

ALL_OTHER = '[train_lora]\nsteps = 7\n[extract_superpixels]\nsource = "rgb"\n'
EVERYTHING = ("store", "gc", "--at-most", "0B", "--grace", "0s")
TICK = 0.02
"""Seconds after which a file system's clock has gone on."""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store():
    return ArtifactStore.open(".adaptivedrag")


@pytest.fixture
def cats(tmp_path, store) -> Path:
    return make_job(tmp_path / "cats", store)


@pytest.fixture
def others(tmp_path, store) -> Path:
    """A job over the same images that differs from `cats` in its last stage."""
    return make_job(tmp_path / "others", store, "[sample_image]\nreference_control = false\n")


def make_job(folder: Path, store: ArtifactStore, toml: str = "") -> Path:
    path = write_job(folder, edits=2, toml=toml)
    for number, edit in enumerate(load_job(path).edits):
        finish(edit, store, shade=100 + number + len(toml))
    return path


def results(job: Path, store: ArtifactStore) -> set[Status]:
    return {edit.stages["sample_image"].status for edit in plan_job(load_job(job), store).edits}


def break_payload(store: ArtifactStore, job: Path) -> str:
    """Flip a byte of the first edit's image; return the path below the store."""
    record = plan_job(load_job(job), store).edits[0].stages["sample_image"].record
    folder = Path(f"objects/{record.object[:2]}/{record.object}")
    name = next(name for name in record.files if name.endswith(".png"))
    path = ".adaptivedrag" / folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return f"{folder}/{name}"


def judge(store: ArtifactStore, job: Path) -> None:
    """Evaluate a job's results, its reconstruction and a control, without any model."""
    judge = Judge(store, Instruments(None, "cpu", None, None, ()))
    for plan in plan_job(load_job(job), store).edits:
        records = (
            plan.stages["sample_image"].record,
            finish(reconstruction(plan.edit), store)["sample_image"],
        )
        for record in records:
            judge.judge(plan.edit, Candidate.of_record(store, record))
        judge.judge(plan.edit, Candidate.of_control("do nothing", plan.edit))


def test_the_help_loads_nothing_heavy():
    assert loaded_by("store", "--help") == loaded_by("store", "gc", "--help") == []


def test_keeping_house_loads_neither_torch_nor_prefect(cats):
    # A model is checked once, with torch; that is remembered of files that have settled.
    time.sleep(SETTLED_NS / 1e9)
    diffusion_files.cache_clear()
    diffusion_files(str(shared_model()))
    assert not {"torch", "prefect"} & set(loaded_by("store", "verify"))
    assert not {"torch", "prefect"} & set(loaded_by("store", "gc", "--keep", cats))
    assert not {"torch", "prefect"} & set(loaded_by("store", "du", cats))
    assert not {"torch", "prefect"} & set(loaded_by("store", "export", cats, "copy"))


def test_a_whole_store_is_verified(cats, store):
    judge(store, cats)
    ended = call("store", "verify")
    assert ended.exit_code == 0, ended.output
    assert ": 0 damaged, 0 notes" in ended.output


def test_damage_is_named_and_ends_with_1(cats, store):
    path = break_payload(store, cats)
    ended = call("store", "verify")
    assert ended.exit_code == 1
    assert f"object: {path}: has changed: its sha256 is another" in ended.output.splitlines()
    assert ": 1 damaged, 0 notes" in ended.output


def test_notes_are_no_failure(cats, store):
    time.sleep(TICK)
    call(*EVERYTHING)
    ended = call("store", "verify")
    assert ended.exit_code == 0, ended.output
    assert "collected: actions/sample_image/" in ended.output
    assert ": 0 damaged, 0 notes" not in ended.output


def test_a_dry_run_says_what_would_go_and_touches_nothing(cats, others, store):
    time.sleep(TICK)
    ended = call("store", "gc", "--keep", cats, "--dry-run", "--grace", "0s")
    assert ended.exit_code == 0, ended.output
    assert ended.output.count("made by sample_image") == 2
    assert "Would go: 2 objects, " in ended.output
    assert results(others, store) == {Status.HIT}


def test_what_was_written_within_the_grace_period_stays(cats, others, store):
    for flags in ((), ("--dry-run",)):
        ended = call("store", "gc", "--keep", cats, *flags)
        assert ended.exit_code == 0, ended.output
        assert f"{'Would go' if flags else 'Deleted'}: nothing" in ended.output
        assert "Too recent to delete (see --grace): 2 objects, " in ended.output
    assert results(others, store) == {Status.HIT}


def test_one_call_deletes_what_may_go_and_is_older_than_the_grace_period(cats, others, store):
    time.sleep(TICK)
    ended = call("store", "gc", "--keep", cats, "--grace", "0s")
    assert ended.exit_code == 0, ended.output
    assert "Deleted: 2 objects, " in ended.output
    assert "Too recent" not in ended.output
    assert (results(others, store), results(cats, store)) == ({Status.KNOWN}, {Status.HIT})


def test_only_the_old_go(cats, others, store):
    long_ago = time.time() - 40 * 86400
    for plan in plan_job(load_job(others), store).edits:
        record = plan.stages["sample_image"].record
        for folder in (
            Path(f".adaptivedrag/objects/{record.object[:2]}/{record.object}"),
            Path(f".adaptivedrag/actions/sample_image/{record.key[:2]}/{record.key}"),
        ):
            for path in folder.rglob("*"):
                os.utime(path, (long_ago, long_ago))
    assert "Would go: 2 objects, " in call("store", "gc", "--older-than", "30d", "--dry-run").output
    assert "Would go: nothing" in call("store", "gc", "--older-than", "6w", "--dry-run").output


def test_times_are_read_as_everywhere(cats):
    ended = call("store", "gc", "--grace", "1h30m", "--older-than", "1w2d", "--dry-run")
    assert ended.exit_code == 0, ended.output + ended.stderr


def test_a_size_is_what_is_left(cats, store):
    whole = json.loads(call("store", "du", "--json").output)["total"]["size"]

    time.sleep(TICK)

    def would_go(size: str) -> str:
        ended = call("store", "gc", "--at-most", size, "--grace", "0s", "--dry-run")
        assert ended.exit_code == 0, ended.output
        return ended.output.splitlines()[-1]

    assert would_go(f"{whole}B") == would_go("1.5 MB") == "Would go: nothing"
    assert would_go(f"{whole - 1}B").startswith("Would go: 1 object, ")
    assert would_go(f"{whole / 2000:.3f} kB") == would_go(f"{whole / 2048:.6f}KiB")
    assert would_go(f"{whole / 2000:.3f} kB") not in ("Would go: nothing", would_go("0B"))


def test_forgotten_results_are_misses(cats, store):
    time.sleep(TICK)
    ended = call(*EVERYTHING, "--forget")
    assert " records, " in ended.output
    assert {edit.stages["train_lora"].status for edit in plan_job(load_job(cats), store).edits} == {
        Status.MISS
    }


def test_the_evaluation_of_a_kept_job_is_kept_and_that_of_another_is_not(cats, others, store):
    judge(store, cats)
    judge(store, others)
    before = {record.key for record in store.records_of("evaluate")}
    time.sleep(TICK)
    call("store", "gc", "--keep", cats, "--grace", "0s")
    kept = {key for key in before if store.lookup("evaluate", key).status == "hit"}
    # Of two edits each: the results' own judgments, and shared ones of reconstruction and control.
    assert (len(before), len(kept)) == (8, 6)
    edits = load_job(cats).edits
    assert kept == job_actions(edits, store).keys & before
    assert all(plan.done for plan in plan_edits([reconstruction(edit) for edit in edits], store))


def test_bytes_are_counted_by_stage_and_by_job(cats, others, store):
    shown = call("store", "du", cats, others)
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.output.splitlines()]
    assert ["sample_image", "4", "0", "4"] in [row[:4] for row in rows]
    assert "Total: " in shown.output
    counted = json.loads(call("store", "du", cats, others, "--json").output)
    first, second = counted["jobs"][str(cats)], counted["jobs"][str(others)]
    assert first["size"] + second["size"] > counted["total"]["size"]
    assert 0 < first["own"] < first["size"]
    assert counted["total"]["size"] == sum(
        file.stat().st_size for file in Path(".adaptivedrag/objects").rglob("*") if file.is_file()
    )


def test_a_bad_edit_leaves_the_json_readable(cats):
    with cats.with_name("edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "cat.png", "drags": []}\n')
    ended = call("store", "du", cats, "--json")
    assert "worse (line 3)" in ended.stderr
    assert json.loads(ended.stdout)["jobs"]


def test_a_job_moves_to_another_store_and_back(cats, others, store, tmp_path):
    judge(store, cats)
    made = job_actions(load_job(cats).edits, store).made
    there = call("store", "export", cats, "there")
    assert there.exit_code == 0, there.output
    assert there.output.startswith(f"{len(made)} copied (")
    assert (
        f"0 copied (0 bytes), {len(made)} there, 0 without bytes, 0 failed"
        in call("store", "export", cats, "there").output
    )
    copied = ArtifactStore.open("there")
    assert results(cats, copied) == {Status.HIT}
    assert results(others, copied) == {Status.MISS}
    ended = call("store", "import", "there", "--store", "third")
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith(f"{len(made)} copied (")
    assert job_actions(load_job(cats).edits, ArtifactStore.open("third")).made == made


def test_a_copy_of_damage_fails_and_the_rest_is_copied(cats, store):
    break_payload(store, cats)
    made = job_actions(load_job(cats).edits, store).made
    for command in (("export", cats, "one"), ("import", ".adaptivedrag", "--store", "two")):
        ended = call("store", *command)
        assert ended.exit_code == 1
        assert "damaged: image.png has changed" in ended.output
        assert f"{len(made) - 1} copied (" in ended.output
        assert "1 failed" in ended.output


def test_an_unreadable_record_is_not_passed_over_by_an_import(cats):
    record = next(Path(".adaptivedrag/actions/build_mask").rglob("0001.json"))
    record.write_bytes(b"{}")
    ended = call("store", "import", ".adaptivedrag", "--store", "two")
    assert ended.exit_code == 1
    assert f"build_mask {record.parent.name}: missing: " in ended.output


def test_what_was_collected_is_copied_as_a_record(cats, store):
    time.sleep(TICK)
    call(*EVERYTHING)
    ended = call("store", "export", cats, "there")
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith("0 copied (0 bytes), 0 there, ")
    assert results(cats, ArtifactStore.open("there")) == {Status.KNOWN}


CANNOT_START = {
    "no store to verify": (("verify", "--store", "none"), "none: no such folder"),
    "no store to collect": (("gc", "--store", "none"), "none: no such folder"),
    "no store to count": (("du", "--store", "none"), "none: no such folder"),
    "no store to export": (("export", "cats/job.toml", "x", "--store", "none"), "no such folder"),
    "no store to import": (("import", "none"), "none: no such folder"),
    "a folder that is no store": (("verify", "--store", "cats"), "there is no store here"),
    "no job to keep": (("gc", "--keep", "none.toml"), "none.toml does not exist"),
    "no job to count": (("du", "none.toml"), "none.toml does not exist"),
    "no job to export": (("export", "none.toml", "x"), "none.toml does not exist"),
    "a duration of no unit": (("gc", "--older-than", "30"), "--older-than '30' cannot be read"),
    "a duration of another unit": (("gc", "--older-than", "30x"), "write it as 30d"),
    "no duration": (("gc", "--grace", ""), "--grace '' cannot be read"),
    "a duration before now": (("gc", "--older-than", "-1d"), "--older-than '-1d' cannot be read"),
    "a duration beyond time": (("gc", "--grace", "999999999999w"), "--grace '999999999999w'"),
    "a size of no unit": (("gc", "--at-most", "50"), "write it as 500MB, 50GB or 64GiB"),
    "a size of another unit": (("gc", "--at-most", "30x"), "--at-most '30x' cannot be read"),
    "a size with commas": (("gc", "--at-most", "5,000GB"), "--at-most '5,000GB' cannot be read"),
    "nothing to export": (("export", "fresh/job.toml", "x"), "has no results of fresh/job.toml"),
    "nothing to keep": (("gc", "--keep", "fresh/job.toml"), "has no results of it; all would go"),
    "an edit to keep that cannot be read": (
        ("gc", "--keep", "bad/job.toml"),
        "the results of worse cannot be found and would go",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), CANNOT_START.values(), ids=CANNOT_START)
def test_what_cannot_start_ends_with_2_one_line_and_nothing_made(
    arguments, message, cats, store, tmp_path
):
    write_job(tmp_path / "fresh", toml=ALL_OTHER)
    bad = write_job(tmp_path / "bad", edits=1)
    with bad.with_name("edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "cat.png", "drags": []}\n')
    before = set(Path().rglob("*"))
    ended = call("store", *arguments)
    assert ended.exit_code == 2, ended.output
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert set(Path().rglob("*")) - before <= {Path("cache/adaptivedrag"), Path("cache")} | set(
        Path("cache").rglob("*")
    )
