"""Every input of `hostile_cases`: one clear line, nothing else touched, the other edits go on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from support import hostile_cases as cases

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactStore
from flows.outcomes import last_failed, last_seconds
from stages.failures import Failure
from stages.jobs.edit import Job
from stages.jobs.importers import import_drag100, import_dragbench
from stages.jobs.reader import load_job
from stages.reports.results import Results

_touched: list[str] | None = None
"""Absolute paths that were opened, made, moved or deleted while this is a list."""

_PATHS = {"open": 1, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.link": 2}
"""Events, and how many of their arguments are paths."""

_PACKAGES = str(Path(PIL.__file__).parents[1])
_LIBRARIES = (
    *(sys.prefix, sys.base_prefix, _PACKAGES),
    *(str(Path(__file__).parents[3]), "/usr/lib", "/proc"),
)


def _note(event: str, arguments: tuple) -> None:
    if _touched is not None and event in _PATHS:
        paths = (a for a in arguments[: _PATHS[event]] if not isinstance(a, int | None))
        _touched.extend(os.path.abspath(os.fsdecode(path)) for path in paths)


sys.addaudithook(_note)


@contextmanager
def touching(*allowed: Path) -> Iterator[None]:
    """Assert that nothing is touched in the block but these folders, and the libraries' own."""
    global _touched
    _touched = []
    try:
        yield
        inside = (*_LIBRARIES, *map(str, allowed))
        assert _touched
        assert {path for path in _touched if not path.startswith(inside)} == set()
    finally:
        _touched = None


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def is_one_clear_line(text: str, said: str) -> bool:
    return said in text and text.isprintable() and len(text) < 700


@pytest.fixture(scope="module")
def hostile_job(tmp_path_factory) -> Job:
    """The job of all bad lines, read once."""
    place = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        path = cases.write_job(place / "job")
        with touching(place / "job", place / "cache"):
            return load_job(path)


@pytest.mark.parametrize("name", cases.LINES)
def test_a_hostile_line_gets_one_clear_line(hostile_job, name):
    number = list(cases.LINES).index(name) + 2
    (bad,) = [bad for bad in hostile_job.bad if bad.line == number]
    assert is_one_clear_line(str(bad), cases.LINES[name][1]), str(bad)
    assert bad.field.isprintable()
    assert len(bad.field) < 200


def test_the_other_edits_go_on(hostile_job):
    assert [edit.id for edit in hostile_job.edits] == ["cat", "dog"]
    assert len(hostile_job.bad) == len(cases.LINES) >= 60


@pytest.mark.parametrize(("toml", "said"), cases.JOBS.values(), ids=cases.JOBS)
def test_a_hostile_job_file_gets_one_clear_line(hostile_job, toml, said):
    path = hostile_job.path.with_name("other.toml")
    path.write_bytes(toml)
    with pytest.raises(InvalidEdit) as refusal:
        load_job(path)
    assert is_one_clear_line(str(refusal.value), said), str(refusal.value)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe.png", "."])
def test_a_job_file_that_is_none_is_not_waited_for(hostile_job, name):
    with pytest.raises(InvalidEdit, match="is not a regular file"):
        load_job(hostile_job.path.parent / name)


def sample(folder: Path, data: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "meta_data.pkl").write_bytes(data)
    (folder / "original_image.png").write_bytes(cases.png(64, 48, bytes(65 * 48)))


def test_a_hostile_pickle_gets_one_clear_line_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = tmp_path / "bench"
    sample(bench / "a" / "good", cases.meta(cases.POINTS))
    for number, (data, _) in enumerate(cases.PICKLES.values()):
        sample(bench / "a" / f"bad-{number:03d}", data)
    with touching(bench):
        done = import_dragbench(bench)
    assert (done.images, len(done.skipped)) == (1, len(cases.PICKLES))
    for number, (skipped, (name, (_, said))) in enumerate(
        zip(done.skipped, cases.PICKLES.items(), strict=True)
    ):
        assert f"bad-{number:03d}" in skipped
        assert is_one_clear_line(skipped, said), (name, skipped)
    assert not (tmp_path / "hacked").exists()


def test_samples_that_are_links_or_pipes_are_skipped_unread(tmp_path):
    bench, secret = tmp_path / "bench", tmp_path / "secret"
    secret.write_bytes(cases.meta(cases.POINTS))
    sample(bench / "a" / "good", cases.meta(cases.POINTS))
    for name in ("link", "pipe", "device"):
        (bench / "a" / name).mkdir()
    (bench / "a" / "link" / "meta_data.pkl").symlink_to(secret)
    (bench / "a" / "device" / "meta_data.pkl").symlink_to("/dev/zero")
    os.mkfifo(bench / "a" / "pipe" / "meta_data.pkl")
    done = import_dragbench(bench)
    assert done.images == 1
    assert [("outside" in line, "regular" in line) for line in done.skipped] == [
        (True, False),
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"points": [[1e999, 2], [3, 4]]}', "is not a coordinate"),
        ('{"points": [[%s, 2], [3, 4]]}' % ("9" * 400), "is not a coordinate"),
        ('{"points": ' + "[" * 100_000, "does not hold points"),
        ('{"points": [[NaN, 2], [3, 4]]}', "is not a coordinate"),
        ("[]", "does not hold points"),
        ('{"points": [' + "[1, 2], " * 200_000 + "[1, 2]]}", "more than 1 MiB"),
    ],
)
def test_hostile_points_get_one_clear_line(tmp_path, text, said):
    (tmp_path / "bad_1").mkdir()
    (tmp_path / "bad_1" / "points.json").write_text(text)
    (tmp_path / "bad_1" / "original.jpg").write_bytes(cases.png(64, 48))
    with pytest.raises(InvalidEdit) as refusal:
        import_drag100(tmp_path)
    assert is_one_clear_line(str(refusal.value), said), str(refusal.value)


def test_an_import_writes_through_no_link_of_the_dataset(tmp_path):
    bench, precious = tmp_path / "bench", tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    sample(bench / "a" / "good", cases.meta(cases.POINTS))
    sample(bench / "a" / "masked", cases.meta(cases.POINTS, np.eye(4)))
    (bench / "user_mask").symlink_to(precious)
    for name in ("edits.jsonl", "job.toml"):
        (bench / name).symlink_to(precious / "file")
    done = import_dragbench(bench)
    assert done.images == 1
    assert "is a link out of" in done.skipped[0]
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "precious"
    assert [edit.id for edit in load_job(done.job).edits] == ["a.good"]


def test_the_report_of_a_hostile_job_shows_all_and_runs_nothing(hostile_job, tmp_path):
    """Text of users is text: in the page no markup, in the table no formula begins a line."""
    store = ArtifactStore.open(tmp_path / "store")
    job = replace(hostile_job, edits=(), name="<script>alert(1)</script>\udcff")
    name = hostile_job.edits[0].id
    failure = Failure(name, "train_lora", "Error", "<script>alert(1)</script>")
    Results.open(job, store, tmp_path / "out").finish((), [failure])
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "</script>alert" not in page
    lines = (tmp_path / "out" / "results.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == len(cases.LINES)
    assert all(line.startswith("{") and line.isprintable() for line in lines)


def test_a_folder_whose_name_is_no_text_is_planned_and_told_of(tmp_path):
    folder = os.fsencode(tmp_path) + b"/odd\xff"
    path = cases.write_job(Path(os.fsdecode(folder)))
    line = [sys.executable, "-m", "cli", "plan", path, "--store", tmp_path / "store"]
    done = subprocess.run(line, capture_output=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 1
    assert done.stderr == b""
    assert b"There is no store at" in done.stdout
    assert b"sample_image" in done.stdout
    assert b"odd\\udcff" in done.stdout


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"path": 3}',
        b'{"path": "%s"}',
        b'{"path": "%s", "failed": [{}], "bad": [], "done": []}',
        b'{"path": "%s", "failed": [], "bad": [], "done": [[]], "stage_seconds": {"a": "x"}}',
    ],
)
def test_a_damaged_summary_of_a_run_tells_nothing(hostile_job, tmp_path, data):
    store = ArtifactStore.open(tmp_path / "store")
    store.put_run("run", "summary.json", data.replace(b"%s", str(hostile_job.path).encode()))
    assert last_failed(store, hostile_job, ()) == frozenset()
    assert last_seconds(store, hostile_job) == {}
