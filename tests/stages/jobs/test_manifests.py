"""Tables, lists and folders of pictures as people have them, read as jobs."""

import io
import json
import os
import pickle
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Drag, ImagePoint
from stages.jobs.edit import Job
from stages.jobs.importers import (
    import_csv,
    import_drag100,
    import_dragbench,
    import_folder,
    import_json,
    import_parquet,
)
from stages.jobs.importers.points import drags_of
from stages.jobs.reader import load_job

FIRST, SECOND = [4, 5, 20, 5], [30, 31, 30.5, 40]
EDIT = {"id": "a", "image": "in/cat.png", "prompt": "a cat"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with three pictures, one of them of a name with accents, and a mask."""
    root = tmp_path / "set"
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ("in/cat.png", "in/dog.png", unicodedata.normalize("NFC", "Café.png"), "mask.png"):
        picture(root / name)
    return root


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PNG)
    return path


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "gray").save(file, "PNG")
    return file.getvalue()


PNG = _png()


def numbers(job: Job) -> dict[str, list[list[float]]]:
    assert not job.bad, [str(bad) for bad in job.bad]
    return {edit.id: edit.points for edit in job.edits}


HEAD = "id,image,prompt,handle_x,handle_y,target_x,target_y"
ROWS = ("a,in/cat.png,a cat,4,5,20,5", "a,,,30,31,30.5,40", "b,in/dog.png,,4,5,20,5")
TABLE = "\n".join((HEAD, *ROWS)) + "\n"
TWO = {"a": [FIRST, SECOND], "b": [FIRST]}

TABLES = {
    "with commas": TABLE,
    "of Windows": "\ufeff" + TABLE.replace("\n", "\r\n"),
    "with tabs in UTF-16, as Excel writes Unicode": TABLE.replace(",", "\t").encode("utf-16"),
    "with semicolons and decimal commas": TABLE.replace(",", ";").replace("30.5", "30,5"),
    "that names its mark": "sep=;\r\n" + TABLE.replace(",", ";"),
    "with other names": TABLE.replace(HEAD, "ID,File Name,Caption,x1,y1,x2,y2"),
    "with sources": TABLE.replace("handle_", "source-"),
    "of pandas, with its index": "".join(
        f"{'' if at == 0 else at},{row}\n" for at, row in enumerate((HEAD, *ROWS))
    ),
    "with empty columns": TABLE.replace("\n", ",,\n"),
    "with quotes": TABLE.replace("a cat", '"a cat, ""red"""').replace("in/cat.png", '"in/cat.png"'),
    "with backslashes": TABLE.replace("in/", "in\\"),
    "with points in a cell": (
        'id,image,prompt,points\na,in/cat.png,a cat,"[[4,5],[20,5],[30,31],[30.5,40]]"\n'
        'b,in/dog.png,,"[[4,5],[20,5]]"\n'
    ),
    "with drags as they are typed": (
        'id,image,prompt,drags\na,in/cat.png,a cat,"4,5->20,5; 30,31->30.5,40"\n'
        'b,in/dog.png,,"4,5->20,5"\n'
    ),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_is_read(folder, table):
    path = folder / "edits.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    done = import_csv(path)
    job = load_job(done.job)
    assert numbers(job) == TWO
    assert job.edits[0].prompt.startswith("a cat")
    assert (done.images, done.drags, done.skipped) == (2, 3, ())
    assert done.notes == (("not used: column_1",) if "column_1" in str(done.notes) else ())


BAD_ROWS = {
    # name: (row, what is said of it)
    "no number": ("a,in/cat.png,,4,five,20,5", "line 3: 'five' is not a coordinate"),
    "a comma for thousands, or not": (
        'a,in/cat.png,,"1,234",5,20,5',
        "'1,234' is 1.234 or 1234: write it without comma",
    ),
    "one cell empty": ("a,in/cat.png,,4,,20,5", "handle_y is empty"),
    "no picture": ("a,,,4,5,20,5", "it has no image"),
    "a picture that is not there": ("a,cow.png,,4,5,20,5", "'cow.png' does not exist"),
    "a picture on the web": ("a,https://x.org/a.png,,4,5,20,5", "it is a URL"),
    "a picture by another case": ("a,IN/Cat.png,,4,5,20,5", "did you mean 'in/cat.png'?"),
    "a picture elsewhere": ("a,../secret.png,,4,5,20,5", "lies outside"),
    "another picture of the same id": ("b,in/cat.png,,4,5,20,5", "another image than in line 2"),
    "a text without quotes": (
        "a,in/cat.png,a cat, red,4,5,20,5",
        "line 3: it has 8 cells, and the head 7: put texts",
    ),
    "infinity": ("a,in/cat.png,,inf,5,20,5", "is not a coordinate"),
}


@pytest.mark.parametrize(("row", "said"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_skipped_with_one_line(folder, row, said):
    picture(folder.parent / "secret.png")
    (folder / "edits.csv").write_text(f"{HEAD}\n{ROWS[2]}\n{row}\n")
    done = import_csv(folder / "edits.csv")
    (line,) = done.skipped
    assert said in line
    assert line.isprintable()
    assert [edit.id for edit in load_job(done.job).edits] == ["b"]


POINTS = {
    "in turn": {"points": [[4, 5], [20, 5], [30, 31], [30.5, 40]]},
    "x and y": {"points": [{"x": 4, "y": 5}, {"x": 20, "y": 5}, {"X": 30, "Y": 31}, [30.5, 40]]},
    "two lists": {"handle_points": [[4, 5], [30, 31]], "target_points": [[20, 5], [30.5, 40]]},
    "sources": {"source": [[4, 5], [30, 31]], "target": [[20, 5], [30.5, 40]]},
    "pairs": {"drags": [[[4, 5], [20, 5]], [[30, 31], [30.5, 40]]]},
    "quadruples": {"drags": [FIRST, SECOND]},
    "flat": {"points": [*FIRST, *SECOND]},
    "objects": {
        "drags": [
            {"handle": [4, 5], "target": [20, 5]},
            {"source": {"x": 30, "y": 31}, "target": {"x": 30.5, "y": 40}},
        ]
    },
    "objects of columns": {
        "drags": [dict(zip(("x1", "y1", "x2", "y2"), row, strict=True)) for row in (FIRST, SECOND)]
    },
    "texts": {"drags": ["4,5->20,5", "30,31 → 30.5,40"]},
}


@pytest.mark.parametrize("given", POINTS.values(), ids=POINTS)
def test_points_are_read_however_they_are_written(given):
    drags, used = drags_of(given)
    assert [[*drag["handle"], *drag["target"]] for drag in drags] == [FIRST, SECOND]
    assert used == tuple(given)


NO_POINTS = {
    "odd": ({"points": [[1, 2], [3, 4], [5, 6]]}, "not pairs of handle and target"),
    "of three": ({"drags": [[1, 2, 3]]}, "is not a drag"),
    "of unlike lists": ({"handles": [[1, 2]], "targets": [[1, 2], [3, 4]]}, "of one length"),
    "an object without ends": ({"drags": [{"x": 1}]}, "is not a drag"),
    "a point of words": ({"points": [["a", "b"], [1, 2]]}, "'a' is not a coordinate"),
    "a truth value": ({"points": [[True, 2], [1, 2]]}, "a bool is not a coordinate"),
    "a number": ({"drags": 7}, "drags are int, not a list"),
    "broken JSON": ({"points": "[[1, 2"}, "is not a list in JSON"),
    "no target": ({"id": "a", "handle_x": 1, "handle_y": 2}, "it has id, handle_x, handle_y, and"),
}


@pytest.mark.parametrize(("given", "said"), NO_POINTS.values(), ids=NO_POINTS)
def test_points_that_are_none_are_refused_in_one_line(given, said):
    with pytest.raises(InvalidEdit) as refusal:
        drags_of(given)
    assert said in str(refusal.value)


A = EDIT | {"points": [[4, 5], [20, 5], [30, 31], [30.5, 40]]}
B = {"id": "b", "image": "in/dog.png", "drags": [FIRST]}
LISTS = {
    "an array": json.dumps([A, B], indent=2),
    "of Windows": "\ufeff" + json.dumps([A, B]),
    "in UTF-16": json.dumps([A, B]).encode("utf-16"),
    "in an object": json.dumps({"version": 1, "edits": [A, B]}),
    "by id": json.dumps({each["id"]: {k: each[k] for k in each if k != "id"} for each in (A, B)}),
    "one after another, indented": f"{json.dumps(A, indent=1)}\n{json.dumps(B, indent=1)}\n",
    "one a line": f"{json.dumps(A)}\n{json.dumps(B)}\n",
    "with backslashes": json.dumps([A | {"image": "in\\cat.png"}, B]),
    "with another folder's names": json.dumps([A | {"image": "./in/../in/cat.png"}, B]),
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_json_is_read(folder, tmp_path, text):
    path = folder / "edits.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = import_json(path, tmp_path / "job")
    assert numbers(load_job(done.job)) == TWO
    assert (done.images, done.drags, done.skipped) == (2, 3, ())


def test_our_own_edits_in_an_array_lose_nothing(folder):
    line = B | {
        "prompt": "a dog",
        "drags": [{"handle": [4, 5], "target": [20, 5]}],
        "mask": "mask.png",
        "tags": ["x", "y"],
        "settings": {"seed": 3},
    }
    (folder / "edits.json").write_text(json.dumps([line]))
    done = import_json(folder / "edits.json")
    assert json.loads((folder / "edits.jsonl").read_text()) == line
    assert done.notes == ()


def test_names_with_accents_are_those_of_the_files(folder):
    name = unicodedata.normalize("NFD", "Café.png")
    (folder / "edits.json").write_text(json.dumps([A | {"image": name, "id": "Café au lait"}]))
    done = import_json(folder / "edits.json")
    (edit,) = load_job(done.job).edits
    assert edit.id == "Cafe_au_lait"
    assert edit.image_path.is_file()
    assert "changed: 'Café au lait' to 'Cafe_au_lait'" in done.notes[0]


def test_ids_become_legal_and_unique(folder):
    given = ["a/b", "A_B", "a b", 12345678, None, "ねこ", "x" * 300, 7.0]
    (folder / "edits.json").write_text(json.dumps([B | {"id": each} for each in given]))
    job = load_job(import_json(folder / "edits.json").job)
    assert not job.bad
    assert job.order[:6] == ("a_b", "A_B-2", "a_b-3", "12345678", "dog", "_")
    assert job.order[7] == "7"
    assert len(set(job.order)) == len(given)


def test_what_is_not_used_is_named(folder):
    (folder / "edits.json").write_text(json.dumps([B | {"width": 512, "points": None, "seed": 1}]))
    assert import_json(folder / "edits.json").notes == ("not used: width, seed",)


NOT_CSV = {
    "a workbook": (b"PK\x03\x04..[Content_Types].xml", "is an Excel workbook: save it as CSV"),
    "JSON": (b'[{"id": "a"}]', "is a JSON array: `adaptivedrag import json edits.csv"),
    "JSON lines": (b'{"id": "a"}\n{"id": "b"}\n', "is JSON: `adaptivedrag import json edits.csv"),
    "Latin-1": ("id,image,prompt\na,b,café\n".encode("latin-1"), "save it as UTF-8 (in Excel, CSV"),
    "without a head": (b"a,a,4,5,20,5\n", "has no head of several columns, each named once"),
    "without drags": (b"id,image,x,y\na,in/cat.png,1,2\n", "it has id, image, x, y, and no drag"),
    "nothing": (b"", "has no head of several columns"),
    "a quote without end": (HEAD.encode() + b'\na,"in/cat.png,,1,2,3,4\n', "cannot be read as CSV"),
}


@pytest.mark.parametrize(("data", "said"), NOT_CSV.values(), ids=NOT_CSV)
def test_what_is_no_table_is_refused_in_one_line(folder, data, said):
    (folder / "edits.csv").write_bytes(data)
    with pytest.raises(InvalidEdit) as refusal:
        import_csv(folder / "edits.csv")
    assert said in str(refusal.value)
    assert str(refusal.value).isprintable()


NOT_JSON = {
    "a table": (TABLE.encode(), "is CSV: `adaptivedrag import csv edits.json"),
    "Parquet": (b"PAR1....", "is Parquet: `adaptivedrag import parquet edits.json"),
    "broken": (b'[{"id": "a"},\n', "is not JSON: Expecting value: line 2 column 1"),
    "numbers": (b"[1, 2]", "item 1: it is int, not an object"),
    "nothing": (b" ", "has no edit that can be imported: it is empty"),
    "deep": (b"[" * 100_000, "is not JSON"),
}


@pytest.mark.parametrize(("data", "said"), NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_refused_in_one_line(folder, data, said):
    (folder / "edits.json").write_bytes(data)
    with pytest.raises(InvalidEdit) as refusal:
        import_json(folder / "edits.json")
    assert said in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_edits_that_somebody_wrote_are_never_replaced(folder):
    (folder / "edits.json").write_text(json.dumps([A]))
    done = import_json(folder / "edits.json")
    assert import_json(folder / "edits.json").job == done.job  # the same again
    done.job.write_text('edits = "edits.jsonl"\nmodel = "pocket"\n')
    for again in (import_json, import_csv):
        (folder / "edits.csv").write_text(TABLE)
        with pytest.raises(InvalidEdit, match="may have been edited: name another folder"):
            again(folder / ("edits.json" if again is import_json else "edits.csv"))
    assert "pocket" in done.job.read_text()


def test_a_folder_of_pictures_becomes_a_skeleton(folder):
    (folder / "in" / "cat.txt").write_text("\ufeffa cat\n", "utf-8")
    picture(folder / ".hidden" / "no.png")
    picture(folder / "deep" / "in" / "Cat 1.JPG")
    picture(folder / "deep.in" / "Cat 1.png")
    done = import_folder(folder)
    job = load_job(done.job)
    assert job.order == ("Cafe", "mask", "deep.in.Cat_1", "deep.in.Cat_1-2", "in.cat", "in.dog")
    assert (done.images, done.drags) == (6, 0)
    assert done.notes[0].startswith("6 of 6 edits have no drags yet: write them in edits.jsonl")
    assert {bad.reason for bad in job.bad} == {
        "drags is empty: give at least one handle and target"
    }
    lines = [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]
    assert lines[4] == EDIT | {"id": "in.cat", "drags": [], "tags": ["in"]}
    lines[4]["drags"] = [{"handle": [4, 5], "target": [6, 7]}]
    (folder / "edits.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [edit.id for edit in load_job(done.job).edits] == ["in.cat"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InvalidEdit, match="has no picture that can be imported"):
        import_folder(tmp_path)
    with pytest.raises(InvalidEdit, match="is not a folder"):
        import_folder(tmp_path / "none")


def linked(tmp_path: Path, *files: Path) -> Path:
    """Return a dataset whose files are links, as snapshots of the hub are."""
    root = tmp_path / "snapshots" / "rev" / "cat"
    root.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate(files):
        file.rename(tmp_path / "blobs" / str(number))
        (root / file.name).symlink_to(f"../../../blobs/{number}")
    return root.parent


def test_links_are_followed_where_that_is_asked_for(tmp_path):
    (tmp_path / "points.json").write_text('{"points": [[4, 5], [20, 5]]}')
    root = linked(tmp_path, picture(tmp_path / "original.jpg"), tmp_path / "points.json")
    (root / "round").symlink_to(root)
    for importer in (import_drag100, import_folder):
        with pytest.raises(InvalidEdit, match="--follow-links"):
            importer(root, tmp_path / importer.__name__)
    done = import_drag100(root, tmp_path / "drag100", follow_links=True)
    assert numbers(load_job(done.job)) == {"cat": [FIRST]}
    done = import_folder(root, tmp_path / "folder", follow_links=True)
    assert load_job(done.job).order == ("cat.original",)
    (root / "list.json").write_text(json.dumps([A | {"image": "cat/original.jpg"}]))
    done = import_json(root / "list.json", tmp_path / "json", follow_links=True)
    assert not load_job(done.job).bad


def test_a_sample_whose_content_is_elsewhere_is_named_with_what_fetches_it(tmp_path):
    picture(tmp_path / "cat_0" / "original.jpg")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "cat_0" / "points.json").write_text(pointer)
    with pytest.raises(InvalidEdit, match="run `git lfs pull`"):
        import_drag100(tmp_path)


def region_sample(folder: Path, points: object) -> None:
    folder.mkdir(parents=True)
    (folder / "original_image.png").write_bytes(PNG)
    mask = np.ones((48, 64), np.uint8)
    for name, each in (("meta_data.pkl", [[4, 5], [20, 5]]), ("meta_data_region.pkl", points)):
        meta = {"prompt": "a cat", "points": each, "mask": mask}
        (folder / name).write_bytes(pickle.dumps(meta))


def rectangle(x: int, y: int, by: int, to: type = list) -> list[object]:
    """Return a dragged rectangle as its points, handle and target in turn."""
    cells = [(x + col, y + row) for row in range(10) for col in range(10)]
    return [to(each) for at in cells for each in (at, (at[0] + by, at[1]))]


@pytest.mark.parametrize("to", [list, tuple, np.array])
def test_regions_become_drags_that_are_spread_over_them(tmp_path, to):
    region_sample(tmp_path / "art_0", rectangle(2, 2, 20, to) + rectangle(30, 30, -20, to))
    done = import_dragbench(tmp_path, tmp_path / "out", regions=True)
    (edit,) = load_job(done.job).edits
    assert (edit.id, edit.tags, len(edit.drags)) == ("art_0", ("art",), 16)
    moves = [drag.target.x - drag.handle.x for drag in edit.drags]
    assert sorted(set(moves)) == [-20, 20]
    assert 6 <= moves.count(20) <= 10
    corners = {(2, 2), (39, 39)}
    assert corners <= {(drag.handle.x, drag.handle.y) for drag in edit.drags}
    points = import_dragbench(tmp_path, tmp_path / "points")
    assert load_job(points.job).edits[0].drags == (Drag(ImagePoint(4, 5), ImagePoint(20, 5)),)


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2], [float("nan"), 3]], [[1, 2, 3]] * 4])
def test_regions_that_are_none_are_refused(tmp_path, points):
    region_sample(tmp_path / "art_0", points)
    with pytest.raises(InvalidEdit, match="art_0: "):
        import_dragbench(tmp_path, regions=True)


def test_few_points_of_a_region_are_all_taken(tmp_path):
    region_sample(tmp_path / "art_0", [(1, 2), (3, 4), (1, 2), (3, 4), (5, 6), (7, 8)])
    done = import_dragbench(tmp_path, tmp_path / "out", regions=True)
    assert done.drags == 2


def write_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_is_read_with_paths(folder):
    rows = [
        {"id": "a", "image": "in/cat.png", "points": [[4.0, 5.0], [20.0, 5.0]]},
        {"id": "a", "image": "in/cat.png", "points": [[30.0, 31.0], [30.5, 40.0]]},
        {"id": "b", "image": "in/dog.png", "points": [[4.0, 5.0], [20.0, 5.0]]},
    ]
    done = import_parquet(write_parquet(folder / "edits.parquet", rows))
    assert numbers(load_job(done.job)) == TWO


def test_parquet_is_read_with_pictures_as_the_hub_has_them(tmp_path):
    image = {"bytes": PNG, "path": "cat.png"}
    first = {"image": image, "caption": "a cat", "handle": [4, 5], "target": [20, 5], "label": 1}
    second = {"image": image, "handle": [4, 5], "target": [20, 5], "mask": {"bytes": PNG}}
    write_parquet(tmp_path / "data" / "train-0.parquet", [first | {"id": "a/b"}])
    write_parquet(tmp_path / "data" / "train-1.parquet", [second | {"id": "c"}])
    done = import_parquet(tmp_path / "data", tmp_path / "job")
    job = load_job(done.job)
    assert numbers(job) == {"a_b": [FIRST], "c": [FIRST]}
    assert job.edits[0].image_path == tmp_path / "job" / "images" / "a_b.png"
    assert job.edits[1].mask_path == tmp_path / "job" / "user_mask" / "c.png"
    assert done.notes[0] == "not used: label"


def test_parquet_that_is_none_is_refused_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InvalidEdit, match="cannot be read as Parquet"):
        import_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidEdit, match=r"holds no \.parquet file"):
        import_parquet(picture(tmp_path / "empty" / "a.png").parent)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidEdit, match=r"pip install 'adaptivedrag\[parquet\]'"):
        import_parquet(tmp_path / "a.parquet")


def test_a_special_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InvalidEdit, match="is not a regular file"):
        import_csv(tmp_path / "pipe.csv")
    with pytest.raises(InvalidEdit, match="does not exist"):
        import_csv(tmp_path / "none.csv")


def test_rows_of_one_id_may_each_hold_its_picture(tmp_path):
    image = {"bytes": PNG, "path": "cat.png"}
    ends = [{"handle": each[:2], "target": each[2:]} for each in (FIRST, SECOND)]
    rows = [{"id": "a", "image": image, "mask": {"bytes": PNG}} | each for each in ends]
    other = {"bytes": PNG + b"more", "path": None}
    path = write_parquet(tmp_path / "a.parquet", [*rows, rows[0] | {"image": other}])
    done = import_parquet(path, tmp_path / "job")
    assert numbers(load_job(done.job)) == {"a": [FIRST, SECOND]}
    (line,) = done.skipped
    assert "row 3: id 'a' has another image than in a.parquet, row 1" in line


@pytest.mark.parametrize(
    ("image", "name"),
    [({"bytes": PNG, "path": "in/cat.png"}, "cat"), ({"bytes": PNG}, "a.parquet_row_1")],
)
def test_an_edit_without_id_has_the_name_of_its_picture_or_its_row(tmp_path, image, name):
    drag = {"handle": [4, 5], "target": [20, 5]}
    path = write_parquet(tmp_path / "a.parquet", [{"image": image, **drag}])
    done = import_parquet(path, tmp_path / "job")
    assert (load_job(done.job).order, done.notes) == ((name,), ())


def test_settings_without_a_value_in_parquet_are_left_out(folder):
    settings = {"seed": 3, "train_lora": {"rank": None}, "working_size": None}
    row = {"id": "a", "image": "in/cat.png", "points": [[4, 5], [20, 5]], "settings": settings}
    rows = [row, row | {"id": "b", "settings": {"train_lora": {"rank": 4}}}]
    job = load_job(import_parquet(write_parquet(folder / "edits.parquet", rows)).job)
    assert not job.bad
    assert [edit.config.seed for edit in job.edits] == [3, 0]
    assert job.edits[1].config.train_lora.rank == 4


NAN = float("nan")


def test_nan_is_no_value(folder):
    columns = dict.fromkeys(("handle_x", "handle_y", "target_x", "target_y"), NAN)
    row = {"id": NAN, "image": "in/cat.png", "prompt": NAN, "tags": [NAN], "mask": NAN, **columns}
    (folder / "edits.json").write_text(json.dumps([row]))
    done = import_json(folder / "edits.json")
    written = json.loads((folder / "edits.jsonl").read_text())
    assert written == {"id": "cat", "image": "in/cat.png", "prompt": "", "drags": []}
    assert len(done.notes) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": True}, "prompt is bool, not a text"),
        ({"prompt": 5}, "prompt is int, not a text"),
        ({"prompt": ["a"]}, "prompt is list, not a text"),
        ({"prompt": "a" * 2001}, "prompt has 2001 characters, and 2000 are taken"),
        ({"id": True}, "id is bool, not a text"),
        ({"Image": "in/cat.png"}, "'image' and 'Image' are one name: rename one"),
    ],
)
def test_what_cannot_be_meant_is_skipped_with_one_line(folder, change, said):
    (folder / "edits.json").write_text(json.dumps([B, B | {"id": "c"} | change]))
    (line,) = import_json(folder / "edits.json").skipped
    assert line.startswith(f"item 2: {said}")


LEFT_OUT = {
    "a second list": ({"edits": [B], "images": [1], "version": 2}, "images, version"),
    "beside edits by id": ({"version": 2, "edits": {"b": B}}, "version"),
    "of a drag": (
        [B | {"drags": [{"from": [1, 2], "to": [3, 4], "label": "x", "Handle": [1, 2]}]}],
        "drags[].label, drags[].handle",
    ),
}


@pytest.mark.parametrize(("value", "named"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_keys_that_are_dropped_are_named(folder, value, named):
    (folder / "edits.json").write_text(json.dumps(value))
    assert import_json(folder / "edits.json").notes == (f"not used: {named}",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '[{"id": "a", "image": "x", "id": "b"}]', "key 'id' is there twice: keep one"),
        ("a.json", "{}", "item 1: it is empty"),
        ("a.csv", HEAD, "has one line, which is its head: write the edits below it"),
        ("a.csv", f"{HEAD}\na,in/cat.png,4,5", "line 2: it has 4 cells, and the head 7: leave"),
    ],
)
def test_a_file_without_an_edit_is_refused_in_one_line(folder, name, text, said):
    (folder / name).write_text(text)
    with pytest.raises(InvalidEdit) as refusal:
        (import_csv if name == "a.csv" else import_json)(folder / name)
    assert said in str(refusal.value)


def test_white_space_in_prompts_is_joined(folder):
    (folder / "edits.json").write_text(json.dumps([B | {"prompt": " a\tdog\r\n in  grass\n"}]))
    (edit,) = load_job(import_json(folder / "edits.json").job).edits
    assert edit.prompt == "a dog in grass"


@pytest.mark.parametrize(
    ("text", "prompt", "said"),
    [
        ("a café".encode("utf-16"), "a café", ""),
        ("a café".encode("utf-8-sig"), "a café", ""),
        ("a café".encode("latin-1"), "", "cat.txt is not UTF-8 at byte 5: save it as UTF-8"),
        (b"a" * 2001, "", "prompt has 2001 characters"),
        (b"a: b, c = {", "a: b, c = {", ""),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
def test_texts_beside_pictures_are_prompts(tmp_path, text, prompt, said, suffix):
    picture(tmp_path / "cat.png").with_suffix(suffix).write_bytes(text)
    done = import_folder(tmp_path)
    assert json.loads((tmp_path / "edits.jsonl").read_text())["prompt"] == prompt
    assert [note for note in done.notes if "has no prompt" in note] == (
        [done.notes[0]] if said else []
    )
    assert said.replace(".txt", suffix) in done.notes[0]


def test_pictures_that_are_passed_over_are_named(tmp_path):
    for name in ("a.jfif", "b.pgm", "c.pbm", "d.dng"):
        picture(tmp_path / name)
    done = import_folder(tmp_path)
    assert done.images == 3
    assert done.skipped == ("d.dng is passed over: .dng is not read: convert it",)
