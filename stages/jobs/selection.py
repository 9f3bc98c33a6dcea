"""Which edits of a job are meant: by id, by tag, or by a file that names them."""

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from adaptivedrag.errors import InvalidEdit
from stages.jobs.edit import BadEdit, Edit, Job
from stages.jobs.votes import THUMBS, votes_of

Selection: TypeAlias = list[str] | tuple[str, ...]
"""Patterns, of which any may match: ids with * and ?, tags, @FILE, @FILE:up or @FILE:down."""


def select_edits(job: Job, selection: Selection) -> Job:
    """Keep the edits that any of the patterns means, good and bad; all if there is no pattern.

    A pattern that means an edit by its id means its variants, too.

    @FILE means the edits that its lines name, such as a file of votes from the page; with :up or
    :down those with that vote.

    Raises:
        InvalidEdit: if a pattern means none, or a file names edits that the job does not have.
    """
    if not selection:
        return job
    ids = {name for pattern in selection for name in _meant(job, pattern)}
    edits = tuple(edit for edit in job.edits if edit.id in ids)
    bad = tuple(edit for edit in job.bad if edit.id in ids)
    return replace(job, edits=edits, bad=bad)


def _meant(job: Job, pattern: str) -> set[str]:
    def matches(edit: Edit | BadEdit) -> bool:
        named = any(fnmatchcase(name, pattern) for name in (edit.id, edit.base_id))
        return named or pattern in edit.tags

    every: list[Edit | BadEdit] = [*job.edits, *job.bad]
    if ids := {edit.id for edit in every if matches(edit)}:
        return ids
    if pattern.startswith("@"):
        return _named(job, *_file_and_vote(pattern.removeprefix("@")))
    raise InvalidEdit(f"no id and no tag of {job.path} matches {pattern!r}")


def _file_and_vote(name: str) -> tuple[Path, str | None]:
    vote = next((each for each in THUMBS if name.endswith(f":{each}")), None)
    return Path(name.removesuffix(f":{vote}")), vote


def _named(job: Job, path: Path, vote: str | None) -> set[str]:
    ids = {name for name, said in votes_of(job, path).items() if vote in (None, said.vote)}
    if not ids:
        what = f"gives no edit a vote {vote!r}" if vote else "names no edit"
        raise InvalidEdit(f"{path} {what}: nothing is selected")
    return ids
