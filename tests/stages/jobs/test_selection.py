import json
from pathlib import Path

import pytest
from support.finished_job import write_job

from adaptivedrag.errors import InvalidEdit
from stages.jobs.edit import Job
from stages.jobs.reader import load_job
from stages.jobs.selection import Selection, select_edits
from stages.jobs.votes import Vote, read_votes

VOTES = [
    {"id": "edit-0", "vote": "up", "note": "the <b>best</b> 🌞\u2028of all"},
    {"id": "edit-1", "vote": "down", "note": ""},
    {"id": "edit-2", "vote": None, "note": "look again"},
    {"id": "edit-3", "vote": "up"},
]


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Job:
    """Five edits, the even ones with the tag "even", and one that cannot be done."""
    path = write_job(tmp_path_factory.mktemp("job"), edits=5)
    bad = {"id": "bad", "image": "none.png", "drags": [], "tags": ["odd", "@home"]}
    with (path.parent / "edits.jsonl").open("a") as file:
        file.write(json.dumps(bad) + "\n")
    return load_job(path)


def write(folder: Path, *lines: object, begin: str = "") -> Path:
    path = folder / "votes.jsonl"
    texts = (
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    )
    path.write_text(begin + "\n".join(texts) + "\n", "utf-8")
    return path


def ids(job: Job, selection: Selection) -> list[str]:
    chosen = select_edits(job, selection)
    assert chosen.order == job.order
    return [edit.id for edit in (*chosen.edits, *chosen.bad)]


def test_edits_are_selected_by_id_tag_or_all_of_several_patterns(job):
    assert ids(job, ["edit-[13]"]) == ["edit-1", "edit-3"]
    assert ids(job, ["odd"]) == ["edit-1", "edit-3", "bad"]
    assert ids(job, ("edit-4", "edit-0", "@home")) == ["edit-0", "edit-4", "bad"]
    assert ids(job, ()) == ids(job, ["*"])
    assert [edit.id for edit in load_job(job.path, select=["edit-2"]).edits] == ["edit-2"]
    with pytest.raises(InvalidEdit, match="matches 'dog'"):
        select_edits(job, ["edit-0", "dog"])


def test_a_file_of_votes_selects_the_edits_that_it_names(job, tmp_path):
    path = write(tmp_path, *VOTES, "", begin="\ufeff")
    assert ids(job, [f"@{path}"]) == ["edit-0", "edit-1", "edit-2", "edit-3"]
    assert ids(job, [f"@{path}:up"]) == ["edit-0", "edit-3"]
    assert ids(job, [f"@{path}:down", "edit-4"]) == ["edit-1", "edit-4"]
    assert read_votes(path)["edit-0"] == Vote("up", VOTES[0]["note"])
    rows = tmp_path / "results.jsonl"  # any file of JSON lines with ids, in which lines may repeat
    rows.write_text('{"id": "bad", "status": "bad"}\n{"id": "bad", "reason": "none"}\n')
    assert ids(job, [f"@{rows}"]) == ["bad"]


@pytest.mark.parametrize(
    ("lines", "vote", "complaint"),
    [
        ((), "", "names no edit: nothing is selected"),
        (({"id": "edit-0", "vote": "down"},), ":up", "gives no edit a vote 'up'"),
        (("id,vote", "edit-0,up"), "", "votes.jsonl, line 1: not JSON"),
        (('["edit-0"]',), "", 'line 1: list has no "id" that is a text'),
        (({"id": 7},), "", 'has no "id"'),
        (({"id": "edit-0", "vote": 1},), "", 'vote 1 is unknown: write "up", "down" or null'),
        (({"id": "edit-0", "note": []},), "", "note list is no text"),
        (({"id": "edit-0"}, {"id": "edit-0", "vote": "up"}), "", "different things of 'edit-0'"),
        (
            [{"id": name} for name in ("edit-0", "a", "c", "b", "d")],
            "",
            "votes.jsonl names 'a', 'b', 'c' and 1 more, not in",
        ),
    ],
)
def test_a_file_that_cannot_select_says_why(job, tmp_path, lines, vote, complaint):
    path = write(tmp_path, *lines)
    with pytest.raises(InvalidEdit) as refused:
        select_edits(job, [f"@{path}{vote}"])
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(job, tmp_path):
    with pytest.raises(InvalidEdit, match=r"none\.jsonl"):
        select_edits(job, [f"@{tmp_path / 'none.jsonl'}:up"])
