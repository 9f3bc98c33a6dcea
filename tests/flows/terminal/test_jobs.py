"""What is noted about a job, and how its edits are found."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.finished_job import write_job

from adaptivedrag.errors import InvalidEdit
from flows.terminal.jobs import bad_lines, load, note_inputs
from stages.jobs.edit import BadEdit, find_edit


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of twelve edits, each of a gray image with a mask."""
    path = write_job(tmp_path / "cats", edits=12)
    lines = [json.loads(line) for line in path.with_name("edits.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        Image.new("L", (96, 64), 10 * number).save(path.with_name(f"{number}.png"))
        line |= {"image": f"{number}.png", "mask": "mask.png"}
    Image.new("L", (96, 64), 255).save(path.with_name("mask.png"))
    path.with_name("edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_of_many_notes_the_first_are_shown(job, capsys):
    note_inputs(load(job))
    lines = capsys.readouterr().out.splitlines()
    converted, masks = lines[:12], lines[12:]
    assert converted[0] == "Converted:"
    assert converted[1].startswith("  0.png: ")
    assert converted[-1] == "  and 2 more"
    whole = "the mask is the whole image: it holds nothing"
    assert masks == ["Masks:", f"  edit-0, edit-1, edit-2 and 9 more: {whole}"]


def test_an_edit_is_found_or_the_nearest_id_is_named(job):
    found = load(job)
    assert find_edit(found, "edit-3") is found.edits[3]
    with pytest.raises(InvalidEdit, match=r"has no edit 'edit_3': did you mean 'edit-\d+'\?"):
        find_edit(found, "edit_3")


def test_a_bad_edit_is_found_with_its_reason(job):
    with job.with_name("edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "0.png", "drags": []}\n')
    with pytest.raises(InvalidEdit, match=r"edit worse \(line 13\): drags is empty"):
        find_edit(load(job), "worse")


def bad(name: str, field: str, reason: str) -> BadEdit:
    return BadEdit(name, 1, field, reason)


def test_what_is_wrong_throughout_costs_few_lines():
    empty = [bad(f"e{n}", "drags", "drags is empty: give some") for n in range(1000)]
    outside = [bad(f"o{n}", f"drags[{n}].handle", f"({n}, 900) is outside") for n in range(40)]
    lines = bad_lines([*empty, *outside, bad("x", "image", "image is missing: add it")])
    assert lines[0] == "1000 edits (e0, e1, e2 and 997 more): drags is empty: give some"
    assert lines[1] == "o0 (line 1): (0, 900) is outside"
    assert lines[11].startswith("and 30 more with such a mistake in drags.handle")
    assert lines[12:] == ["x (line 1): image is missing: add it"]
