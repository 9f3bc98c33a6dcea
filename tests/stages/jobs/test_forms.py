"""Edits and jobs in another form than ours: one line that names it and what takes it."""

import io
import json
import zipfile

import pytest
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from stages.jobs.reader import load_job

EDIT = {"id": "a", "image": "a.png", "drags": [{"handle": [4, 5], "target": [6, 7]}]}
LINE = json.dumps(EDIT)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


EDITS = {
    # name: (edits.jsonl, what the one line says)
    "a JSON array": (json.dumps([EDIT, EDIT]), "is a JSON array", "import json edits.jsonl"),
    "an indented array": (json.dumps([EDIT], indent=2), "is a JSON array", "import json"),
    "an indented object": (json.dumps(EDIT, indent=2), "is indented JSON", "import json"),
    "a table": ("id,image,x,y\na,a.png,1,2\n", "is CSV", "import csv edits.jsonl"),
    "a table of Excel": ("sep=;\nid;image\n", "is CSV", "import csv"),
    "a table with tabs": ("id\timage\na\ta.png\n", "is CSV", "import csv"),
    "UTF-16": ((LINE + "\n").encode("utf-16"), "is UTF-16", "save it as UTF-8"),
    "UTF-16 without a mark": (LINE.encode("utf-16-le"), "is UTF-16", "save it as UTF-8"),
    "YAML": ("- id: a\n  image: a.png\n", "is YAML", "write it as JSON"),
    "YAML with a header": ("---\nid: a\n", "is YAML", "write it as JSON"),
    "TOML": ('[[edits]]\nid = "a"\n', "is TOML", "write the edits as JSON"),
    "a job": ('model = "pocket"\n', "is TOML", "write the edits as JSON"),
    "a web page": ("<!DOCTYPE html>\n<html>", "is a web page", "download it again"),
    "XML": ("<edits>\n</edits>", "is XML", "write it as JSON"),
    "Parquet": (b"PAR1\x15\x04", "is Parquet", "import parquet edits.jsonl"),
    "Excel": (workbook(), "is an Excel workbook", "import csv"),
    "a zip archive": (b"PK\x03\x04" + bytes(40), "is a zip archive", "unpack it"),
    "gzip": (b"\x1f\x8b\x08\0\0\0", "is compressed by gzip", "unpack it"),
    "a pickle": (b"\x80\x04}q\0.", "is a pickle", "write it as JSON"),
    "Python's own notation": ("{'id': 'a'}\n{'id': 'b'}\n", "Python dictionaries", "json.dumps"),
    "a pointer": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "is a pointer of Git LFS",
        "git lfs pull",
    ),
    "text": ("once upon a time\nthere was a cat\n", "no line of", "broken JSON at column 1"),
}


@pytest.mark.parametrize(("data", "form", "remedy"), EDITS.values(), ids=EDITS)
def test_edits_of_another_form_cost_one_line(tmp_path, data, form, remedy):
    (tmp_path / "edits.jsonl").write_bytes(data if isinstance(data, bytes) else data.encode())
    (tmp_path / "job.toml").write_text("")
    with pytest.raises(InvalidEdit) as refusal:
        load_job(tmp_path / "job.toml")
    assert form in str(refusal.value)
    assert remedy in str(refusal.value)
    assert str(refusal.value).isprintable()


JOBS = {
    # name: (job file, what the one line says)
    "JSON": ('{"model": "pocket"}', "it is JSON: write it as TOML"),
    "indented JSON": ('{\n "model": "pocket"\n}', "it is JSON: write it as TOML"),
    "YAML": ("model: pocket\nseed: 1\n", "it is YAML: write it as TOML"),
    "YAML with a header": ("---\nmodel: pocket\n", "it is YAML: write it as TOML"),
    "UTF-16": ('model = "pocket"'.encode("utf-16"), "it is UTF-16: save it as UTF-8"),
    "edits": (f"{LINE}\n{LINE}\n", 'write edits = "job.toml" in a job.toml'),
    "many edits": (f"{LINE}\n" * 400, 'write edits = "job.toml" in a job.toml'),
    "a JSON array": (json.dumps([EDIT]), "`adaptivedrag import json job.toml --out DIR`"),
    "a table": ("id,image,x,y\n", "`adaptivedrag import csv job.toml --out DIR`"),
    "Parquet": (b"PAR1\x15\x04" + bytes(1 << 15), "`adaptivedrag import parquet job.toml"),
    "Excel": (workbook(), "it is an Excel workbook"),
    "a mistake in TOML": ('model = "pocket', "fix it"),
}


@pytest.mark.parametrize(("data", "said"), JOBS.values(), ids=JOBS)
def test_a_job_of_another_form_costs_one_line(tmp_path, data, said):
    (tmp_path / "job.toml").write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InvalidEdit) as refusal:
        load_job(tmp_path / "job.toml")
    assert said in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("lines", [f"{LINE}\r\n", f"\ufeff{LINE}\n", f"\n\n{LINE}", LINE])
def test_lines_of_json_are_read_however_they_end(tmp_path, lines):
    (tmp_path / "edits.jsonl").write_bytes(lines.encode())
    (tmp_path / "job.toml").write_text("")
    assert load_job(tmp_path / "job.toml").order == ("a",)


def test_one_broken_line_is_not_another_form(tmp_path):
    (tmp_path / "edits.jsonl").write_text(f'{{"id": "b"\n{LINE}\n')
    (tmp_path / "job.toml").write_text("")
    job = load_job(tmp_path / "job.toml")
    assert (len(job.edits), len(job.bad)) == (1, 1)


OTHER_FORMS = {
    # name: (what an edit has for its drags, the field that is named)
    "points": ({"points": [[4, 5], [6, 7]]}, "drags"),
    "pairs": ({"drags": [[[4, 5], [6, 7]]]}, "drags[0]"),
    "quadruples": ({"drags": [[4, 5, 6, 7]]}, "drags[0]"),
    "points with names": ({"drags": [{"handle": {"x": 4, "y": 5}, "target": [6, 7]}]}, "handle"),
    "another name": ({**EDIT, "file_name": "a.png"}, "file_name"),
}


@pytest.mark.parametrize(("given", "field"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_an_edit_in_another_form_is_refused_with_what_takes_it(tmp_path, given, field):
    line = json.dumps({"id": "a", "image": "a.png", **given})
    (tmp_path / "edits.jsonl").write_text(line)
    (tmp_path / "job.toml").write_text("")
    (bad,) = load_job(tmp_path / "job.toml").bad
    assert field in bad.field
    assert "`adaptivedrag import json` takes other forms" in bad.reason


def test_a_folder_for_a_job_is_refused_with_what_to_name(tmp_path):
    with pytest.raises(InvalidEdit, match="a folder: name a file in it, such as job"):
        load_job(tmp_path)
