"""What people say of results, edit by edit: thumbs up or down, and notes; JSON lines in a file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from adaptivedrag.errors import InvalidEdit
from stages.jobs.complaints import one_line, printable
from stages.jobs.edit import Job

Thumb: TypeAlias = Literal["up", "down"]
THUMBS: tuple[Thumb, ...] = get_args(Thumb)
_NAMED = 3


@dataclass(frozen=True)
class Vote:
    """What is said of one edit.

    Attributes:
        vote: None if only a note was written, or neither.
    """

    vote: Thumb | None = None
    note: str = ""


def votes_of(job: Job, path: Path) -> dict[str, Vote]:
    """Return the votes of a file on edits of a job; see `read_votes`.

    Raises:
        InvalidEdit: if the file cannot be used, or names edits that the job does not have.
    """
    votes = read_votes(path)
    if absent := sorted(votes.keys() - {*job.order}):
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        names = ", ".join(map(repr, absent[:_NAMED])) + more
        raise InvalidEdit(f"{path} names {names}, not in {job.path}: remove those lines")
    return votes


def read_votes(path: Path) -> dict[str, Vote]:
    """Return the votes of a file by the ids of edits.

    A line is an object with an "id"; "vote" is "up", "down" or null, "note" a text. Other keys are
    not read, so that any such file can name edits.

    Raises:
        InvalidEdit: if the file cannot be read, a line is no such object, or two lines say
            different things of one edit.
    """
    from stages.jobs.importers.text import read_text

    found: dict[str, Vote] = {}
    # Not `splitlines`: JSON may hold U+2028 and the like as they are.
    for number, line in enumerate(read_text(path).removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        name, vote = _parse(f"{path}, line {number}", line)
        if found.setdefault(name, vote) != vote:
            raise InvalidEdit(f"{path} says different things of {name!r}: keep one line of it")
    return found


def _parse(place: str, line: str) -> tuple[str, Vote]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidEdit(
            f'{place}: not JSON ({one_line(error)}): a line is {{"id": …, "vote": "up"}}'
        ) from None
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
        raise InvalidEdit(f'{place}: {printable(raw)} has no "id" that is a text: name an edit')
    for complaint in _complaints(raw):
        raise InvalidEdit(f"{place}: {complaint}")
    return raw["id"], Vote(raw.get("vote"), raw.get("note") or "")


def _complaints(raw: dict[str, Any]) -> Iterator[str]:
    vote, note = raw.get("vote"), raw.get("note")
    if vote not in (None, *THUMBS):
        yield f'vote {printable(vote)} is unknown: write "up", "down" or null'
    if not isinstance(note, str | None):
        yield f"note {printable(note)} is no text: put it in quotes"
