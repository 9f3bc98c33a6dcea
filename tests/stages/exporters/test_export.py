import io
import itertools
import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from support.finished_job import finish, write_job
from support.killed_exports import export, killed_export

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactStore
from artifacts.layout import object_folder
from stages.evaluate import Candidate, Instruments, Judge
from stages.exporters import FORMATS, Exported, Limit, export_job
from stages.exporters.rle import run_lengths
from stages.exporters.target import JOURNAL, MANIFEST
from stages.jobs.edit import Edit, Job
from stages.jobs.importers import import_folder, import_json, import_parquet
from stages.jobs.reader import load_job
from stages.jobs.votes import Vote
from stages.pipeline import REGION, RESULT, WITNESS
from stages.planning.plan import EditPlan, plan_edits
from stages.reports.place import ReportUnwritable

VOTES = {"edit-0": Vote("up", "<b>bright</b>\u2028 🌞"), "edit-3": Vote("down")}
TWO = Limit(edits=2)


class Made:
    """Five edits, four of them finished; the source of two is a JPEG, and one has a mask."""

    def __init__(self, folder: Path) -> None:
        write_job(folder, edits=5)
        cat = Image.open(folder / "cat.png")
        cat.convert("L").point(lambda value: 255 * (value > 90)).save(folder / "mask.png")
        cat.save(folder / "cat.jpg")
        lines = [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]
        lines[1] |= {"image": "cat.jpg", "tags": [], "prompt": "half 🌗 </script>"}
        lines[2] |= {"mask": "mask.png", "drags": lines[2]["drags"] + lines[1]["drags"]}
        (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.folder, self.store = folder, ArtifactStore.open(folder / "store")
        for number, edit in enumerate(self.job.edits[:4]):
            finish(edit, self.store, shade=100 + number)

    @property
    def job(self) -> Job:
        return load_job(self.folder / "job.toml")

    def export(self, out: Path, form: str = "webdataset", limit: Limit = TWO, **more) -> Exported:
        more = {"votes": VOTES} | more
        return export_job(self.job, self.store, out, form, limit=limit, **more)

    def plan(self, name: str) -> EditPlan:
        (plan,) = plan_edits([edit for edit in self.job.edits if edit.id == name], self.store)
        return plan

    def stored(self, name: str) -> dict[str, bytes]:
        """Return the pictures of an edit as the store has them."""
        plan, found = self.plan(name), {}
        for column, stage, part in (("edited", RESULT, "image"), ("mask", REGION, "picture")):
            record = plan.stages[stage.name].record
            found[column] = self.store.verified(record).files[f"{part}.png"]
        return found

    def retag(self, number: int, *tags: str) -> None:
        """Give an edit other tags, which no stage reads."""
        path = self.folder / "edits.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[number]["tags"] = tags
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """A job for tests that do not change it."""
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def own(tmp_path) -> Made:
    """A job to spoil."""
    return Made(tmp_path / "own")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def shards(out: Path) -> list[dict]:
    return json.loads((out / "export.json").read_text("utf-8"))["shards"]


def rows(out: Path, form: str) -> list[dict]:
    return [row for shard in shards(out) for row in FORMATS[form].rows(out / shard["name"])]


def picture(out: Path, value: object) -> bytes:
    if isinstance(value, dict):
        return value["bytes"]
    return (out / value).read_bytes() if isinstance(value, str) else value


def given(edit: Edit) -> tuple:
    return edit.id, edit.image.digest, edit.points, edit.prompt, edit.tags


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_taken_away_is_what_was_made_and_gives_the_same_edits(made, tmp_path, form):
    out = tmp_path / "out"
    exported = made.export(out, form)
    assert (exported.edits, exported.shards, exported.written) == (4, 2, 2)
    assert exported.left_out == {"edit-4": "not done yet"}
    found = {row["id"]: row for row in rows(out, form)}
    assert [*found] == ["edit-0", "edit-1", "edit-2", "edit-3"]
    for name, row in found.items():
        stored = made.stored(name)
        assert {column: picture(out, row[column]) for column in stored} == stored
        mask = np.asarray(Image.open(io.BytesIO(stored["mask"]))) > 0
        assert (coco.decode(row["mask_rle"]) > 0).tolist() == mask.tolist()
        assert row["mask_share"] == round(mask.mean(), 4)
    first = found["edit-0"]
    assert (first["vote"], first["note"]) == ("up", VOTES["edit-0"].note)
    assert (first["verdict"], first["tracker"], first["distance"]) == ("stalled", "reached", 19.0)
    assert first["relative"] == round(19 / 20, 4)
    assert first["outside"] > 0
    assert [row["mask_of"] for row in found.values()] == ["method", "method", "user", "method"]
    assert picture(out, first["image"]) == (made.folder / "cat.png").read_bytes()
    back = load_job(import_folder(out, tmp_path / "back").job)
    assert not back.bad
    assert [*map(given, back.edits)] == [*map(given, made.job.edits[:4])]
    assert [edit.mask_path is not None for edit in back.edits] == [False, False, True, False]


def test_every_line_has_the_same_types(made, tmp_path):
    """Readers take them from the first lines, and null and an empty list have none."""
    made.export(tmp_path / "out", "imagefolder")
    files = sorted((tmp_path / "out").rglob("metadata.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert len({tuple((key, type(value)) for key, value in line.items()) for line in lines}) == 1
    assert [key for key, value in lines[1].items() if value in (None, [])] == []
    assert lines[1]["tags"] == "[]"
    back = load_job(import_json(files[0], tmp_path / "back", files[0].parent).job)
    assert [*map(given, back.edits)] == [*map(given, made.job.edits[:2])]


def test_parquet_says_which_columns_are_pictures(made, tmp_path):
    from pyarrow.parquet import ParquetFile

    made.export(tmp_path / "out", "parquet", Limit(bytes=10**9))
    (file,) = (tmp_path / "out").rglob("*.parquet")
    schema = ParquetFile(file).schema_arrow
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert [*features] == schema.names
    assert {
        name for name, kind in features.items() if "_type" in kind and kind["_type"] == "Image"
    } == {"image", "edited", "mask"}
    assert features["points"] == [[{"dtype": "float64", "_type": "Value"}]]
    back = load_job(import_parquet(file.parent, tmp_path / "back").job)
    assert [*map(given, back.edits)] == [*map(given, made.job.edits[:4])]


def test_a_shard_holds_no_more_than_it_may(made, tmp_path):
    limit = Limit(bytes=12_000)
    for form in ("imagefolder", "webdataset"):
        made.export(tmp_path / form, form, limit)
        several = [each for each in shards(tmp_path / form) if len(each["edits"]) > 1]
        assert several
        padding = 10_240 if form == "webdataset" else 0  # the end of any tar file
        assert all(each["size"] <= limit.bytes + padding for each in several)
        made.export(tmp_path / f"one-{form}", form, Limit(bytes=1))
        assert [len(each["edits"]) for each in shards(tmp_path / f"one-{form}")] == [1, 1, 1, 1]


def stamps(out: Path) -> dict[Path, tuple[int, int]]:
    """Return when finished shards were written, and as which files."""
    found = [path for shard in out.glob("train/0*") for path in (shard, *shard.rglob("*.png"))]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


@pytest.mark.parametrize(("form", "step"), [("imagefolder", 17), ("parquet", 5)])
def test_an_export_that_is_killed_goes_on_to_the_same_bytes(made, tmp_path, form, step):
    job, numbers = made.folder / "job.toml", itertools.count(1, step)
    export(job, tmp_path / "whole", form)
    whole = tree(tmp_path / "whole")
    for number in numbers:
        out = tmp_path / f"out-{number}"
        if not killed_export(number, job, out, form):
            break
        before = stamps(out)
        export(job, out, form)
        assert tree(out) == whole
        assert stamps(out) | before == stamps(out)
    assert number > 3 * step


class Interrupted(Exception):
    """Ends an export between two edits."""


def interrupt(written: int, _edits: int) -> None:
    if written == 3:
        raise Interrupted


def test_a_finished_export_is_checked_and_left_as_it_is(made, tmp_path):
    out = tmp_path / "out"
    made.export(out)
    before, bytes_before = stamps(out), tree(out)
    assert made.export(out).written == 0
    assert (stamps(out), tree(out)) == (before, bytes_before)
    (out / "README.md").write_text("a card for the hub")
    assert made.export(out).written == 0
    shard = out / "train" / "00002.tar"
    shard.write_bytes(shard.read_bytes().replace(b"half", b"hole").replace(b"edit-3", b"edit-4"))
    with pytest.raises(InvalidEdit, match=r"00002\.tar is damaged .* delete it and export again"):
        made.export(out)
    shard.unlink()
    with pytest.raises(InvalidEdit, match=r"00002\.tar is missing"):
        made.export(out)


def test_an_export_of_other_results_is_refused_with_what_differs(own, tmp_path):
    out, begun = tmp_path / "out", tmp_path / "begun"
    own.export(out)
    with pytest.raises(Interrupted):
        own.export(begun, on_edit=interrupt)
    assert not (begun / MANIFEST).exists()
    other = VOTES | {"edit-3": Vote("up")}
    with pytest.raises(InvalidEdit, match="other results: edit-3 has another row: name another"):
        own.export(out, votes=other)
    assert own.export(begun, votes=other).written == 1  # it was not written before
    own.retag(0, "new")
    finish(own.job.edits[4], own.store)
    with pytest.raises(InvalidEdit, match="edit-0 has another row, edit-4 is new"):
        own.export(out)
    lines = (own.folder / "edits.jsonl").read_text().splitlines(keepends=True)
    (own.folder / "edits.jsonl").write_text("".join(lines[1:4]))
    with pytest.raises(InvalidEdit, match="results: edit-0 is no longer there"):
        own.export(out, votes={"edit-3": Vote("down")})


def test_other_terms_are_refused(made, tmp_path):
    with pytest.raises(Interrupted):
        made.export(tmp_path / "begun", on_edit=interrupt)
    made.export(tmp_path / "finished")
    for out in (tmp_path / "begun", tmp_path / "finished"):
        with pytest.raises(InvalidEdit, match='an export with format "webdataset", not "parquet"'):
            made.export(out, "parquet")
        with pytest.raises(InvalidEdit, match=r'with limit {"edits": 2}, not {"bytes": 100}'):
            made.export(out, limit=Limit(bytes=100))


def test_a_folder_of_something_else_is_refused(made, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(InvalidEdit, match="holds other things"):
        made.export(tmp_path / "photos")
    (tmp_path / "photos" / MANIFEST).write_text('{"shards": []}')
    with pytest.raises(InvalidEdit, match=r"export\.json is of no export"):
        made.export(tmp_path / "photos")
    (tmp_path / "photos" / MANIFEST).rename(tmp_path / "photos" / JOURNAL)
    with (tmp_path / "photos" / JOURNAL).open("a") as file:
        file.write("\n[]\n")
    with pytest.raises(InvalidEdit, match=r"unfinished\.jsonl is of no export"):
        made.export(tmp_path / "photos")
    assert len((tmp_path / "photos" / JOURNAL).read_text().splitlines()) == 2
    with pytest.raises(ReportUnwritable, match="cannot be written"):
        made.export(tmp_path / "photos" / "cat.png" / "out")


def test_two_processes_do_not_write_one_export(made, tmp_path):
    def again(_written: int, _edits: int) -> None:
        with pytest.raises(InvalidEdit, match="another process exports"):
            made.export(tmp_path / "out")

    assert made.export(tmp_path / "out", on_edit=again).written == 2


def test_what_is_damaged_or_has_changed_is_left_out_with_the_reason(own, tmp_path):
    job, record = own.job, own.plan("edit-3").stages[RESULT.name].record
    path = own.folder / "store" / object_folder(record.object) / "image.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (own.folder / "cat.jpg").rename(own.folder / "cat.JPG")
    out, votes = tmp_path / "out", {}
    over = []
    found = export_job(
        job, own.store, out, "parquet", limit=TWO, votes=votes, on_edit=lambda *n: over.append(n)
    )
    assert found.edits == 2
    assert over == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "sample_image is damaged (image.png has changed" in found.left_out["edit-3"]
    assert "cat.jpg changed after it was planned" in found.left_out["edit-1"]
    again = export_job(job, own.store, out, "parquet", limit=TWO, votes=votes)
    assert (again.written, again.left_out.keys()) == (0, found.left_out.keys())
    (own.folder / "cat.png").unlink()
    with pytest.raises(InvalidEdit, match=r"nothing .* edit-0: .*cat\.png changed after"):
        export_job(job, own.store, tmp_path / "none", "parquet", limit=TWO, votes=votes)


def test_a_disk_that_is_full_costs_nothing_that_is_written(made, tmp_path):
    out, (soft, hard) = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(Interrupted):
        made.export(out, on_edit=interrupt)
    before = stamps(out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ReportUnwritable, match=r"out cannot be written \(File too large\)"):
            made.export(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (out / "train").iterdir()] == ["00001.tar"]
    assert made.export(out).written == 1
    assert stamps(out) | before == stamps(out)
    made.export(tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.parametrize(("form", "module"), [("parquet", "pyarrow.parquet"), ("webdataset",) * 2])
def test_a_missing_library_is_named_before_anything_is_written(
    made, tmp_path, monkeypatch, form, module
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidEdit, match=rf"pip install 'adaptivedrag\[{form}\]'"):
        made.export(tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


def test_what_eval_has_kept_is_taken_along(own, tmp_path):
    plan, judge = own.plan("edit-0"), Judge(own.store, Instruments(None, "cpu", None, None, ()))
    result, witness = (plan.stages[stage.name].record for stage in (RESULT, WITNESS))
    judged = judge.judge(plan.edit, Candidate.of_record(own.store, result, witness))
    own.export(tmp_path / "out", "parquet")
    first, second, *_ = rows(tmp_path / "out", "parquet")
    assert json.loads(first["scores"]) == {
        n: v for n, v in judged.measures.items() if n != "witness_distance"
    }
    assert second["scores"] == "{}"


def test_nothing_is_taken_away_of_a_job_that_is_not_run(made, tmp_path):
    store = ArtifactStore.absent(tmp_path / "store")
    with pytest.raises(
        InvalidEdit, match=r"nothing of .*job\.toml can be taken away: edit-0: not done yet"
    ):
        export_job(made.job, store, tmp_path / "out", "parquet", limit=TWO, votes={})
    assert not (tmp_path / "out").exists()


def test_run_lengths_are_those_of_coco():
    draw = np.random.default_rng(0)
    for shape, share in itertools.product([(1, 1), (7, 5), (90, 130)], (0, 1, 0.5, 0.01)):
        mask = draw.random(shape) < share
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert run_lengths(mask) == {**expected, "counts": expected["counts"].decode()}
