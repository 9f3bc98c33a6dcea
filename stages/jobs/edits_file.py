"""Writing in an edits file that others write in too: what is not changed keeps its bytes.

A change says what was there before. It is made if that is still so, whatever else the file has
become meanwhile; if not, it is a conflict, which leaves the file's own value in place.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from artifacts import digest_bytes
from stages.jobs.complaints import printable
from stages.jobs.edit import BadEdit
from stages.jobs.ids import Ids
from stages.jobs.lines import parse_line

Fields: TypeAlias = Mapping[str, Any]
"""What an edit says of itself, by key; as a change, those keys that may be changed."""

FIELDS = ("id", "image", "prompt", "drags", "mask", "tags")
"""The keys that a change may set; all others of a line stay as they are."""
_BOM = b"\xef\xbb\xbf"
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_GONE = object()


@dataclass(frozen=True)
class Line:
    """A line of the file.

    Attributes:
        name: tells it from the others: its id, or a digest where that is missing or not its own.
        text: its bytes, with the end of the line.
        edit: its JSON, or why it has none.
    """

    name: str
    text: bytes
    edit: dict[str, Any] | BadEdit


@dataclass(frozen=True)
class Change:
    """What is to become of an edit.

    Attributes:
        name: of its line.
        before: its `FIELDS` when they were read; None for an edit that is new.
        after: what they are to be; None for an edit that is to go.
    """

    name: str
    before: Fields | None
    after: Fields | None


@dataclass(frozen=True)
class Conflict:
    """A change that was not made, because somebody else was faster.

    Attributes:
        key: which is no more what it was; "" for the whole edit.
        reason: one line.
    """

    name: str
    key: str
    reason: str


@dataclass(frozen=True)
class Merged:
    """A file with changes.

    Attributes:
        names: of the lines of new edits, and of those whose id changed, by the names in the
            changes: another one where an id was taken meanwhile.
    """

    data: bytes
    names: Mapping[str, str] = field(default_factory=dict)
    conflicts: Sequence[Conflict] = ()


def lines_of(data: bytes) -> list[Line]:
    """Return the lines of an edits file that are not blank."""
    return [line for line in _lines(data) if line.text.strip()]


def merge(data: bytes, changes: Sequence[Change]) -> Merged:
    """Make changes in the bytes of an edits file, one after the other."""
    merger = _Merger(data)
    for change in changes:
        if change.before is None:
            merger.add(change)
        elif change.after is None:
            merger.remove(change)
        else:
            merger.change(change)
    return Merged(merger.data, merger.names, merger.conflicts)


def _lines(data: bytes) -> list[Line]:
    texts = _LINE.findall(data.removeprefix(_BOM))
    edits = [parse_line(number, text.strip()) for number, text in enumerate(texts, start=1)]
    counts, seen, found = Counter(map(_id_of, edits)), Counter[str](), []
    for text, edit in zip(texts, edits, strict=True):
        name = _id_of(edit)
        if not name or counts[name] > 1:
            name = f"#{digest_bytes('line', text.strip())[:16]}"
            seen[name] += 1
            name += f"-{seen[name]}" if seen[name] > 1 else ""
        found.append(Line(name, text, edit))
    return found


def _id_of(edit: Fields | BadEdit) -> str:
    name = None if isinstance(edit, BadEdit) else edit.get("id")
    return name if isinstance(name, str) else ""


class _Merger:
    """An edits file in which changes are made."""

    def __init__(self, data: bytes) -> None:
        self.names: dict[str, str] = {}
        self.conflicts: list[Conflict] = []
        self._lines = {line.name: line for line in _lines(data)}
        self._bom = _BOM if data.startswith(_BOM) else b""
        self._end = b"\r\n" if data.partition(b"\n")[0].endswith(b"\r") else b"\n"
        self._ids = Ids()
        for line in self._lines.values():
            if name := _id_of(line.edit):
                self._ids.claim(name)

    @property
    def data(self) -> bytes:
        """The bytes of the file; a last line that had no end gets one where another follows."""
        *texts, last = [line.text for line in self._lines.values()] or [b""]
        whole = [text if text.endswith(b"\n") else text + self._end for text in texts]
        return self._bom + b"".join([*whole, last])

    def add(self, change: Change) -> None:
        """Add an edit at the end, under its id or one like it that is free."""
        assert change.after is not None
        own = self._ids.claim(str(change.after.get("id", "")))
        edit = {**change.after, "id": own}
        self.names[change.name] = own
        self._lines[own] = Line(own, _text(edit, self._end), edit)

    def remove(self, change: Change) -> None:
        """Remove an edit that is as it was."""
        line = self._lines.get(change.name)
        if line is not None and not self._clash(change, line.edit):
            del self._lines[change.name]

    def change(self, change: Change) -> None:
        """Change those keys of an edit that are as they were."""
        line = self._lines.get(change.name)
        if line is None or isinstance(line.edit, BadEdit):
            self._complain(change, "", f"{change.name} is gone from the file")
            return
        clash = self._clash(change, line.edit)
        new = dict(line.edit)
        for key, wanted in _wanted(change):
            if key not in clash:
                new[key] = wanted
        new = {key: value for key, value in new.items() if value is not _GONE}
        if new != line.edit:
            ending = line.text[len(line.text.rstrip(b"\r\n")) :]
            self._lines[change.name] = Line(line.name, _text(new, ending), new)
            self.names[change.name] = _id_of(new)

    def _clash(self, change: Change, edit: Fields | BadEdit) -> set[str]:
        """Return the keys that cannot be changed, and complain of each."""
        if isinstance(edit, BadEdit):
            return set()
        assert change.before is not None
        found = set()
        for key, wanted in _wanted(change):
            there = edit.get(key, _GONE)
            if there not in (change.before.get(key, _GONE), wanted):
                how = "removed" if there is _GONE else "changed"
                self._complain(change, key, f"{key} of {change.name} was {how} elsewhere meanwhile")
                found.add(key)
            elif key == "id" and wanted not in (there, _GONE, self._ids.claim(str(wanted))):
                self._complain(change, key, f"id {printable(wanted)} is taken, or no legal id")
                found.add(key)
        return found

    def _complain(self, change: Change, key: str, reason: str) -> None:
        self.conflicts.append(Conflict(change.name, key, reason))


def _wanted(change: Change) -> Iterator[tuple[str, Any]]:
    """Yield what changes; to remove an edit changes all of it."""
    assert change.before is not None
    after = change.after or {}
    for key in FIELDS:
        wanted = after.get(key, _GONE)
        if change.after is None or wanted != change.before.get(key, _GONE):
            yield key, wanted


def _text(edit: Fields, ending: bytes) -> bytes:
    # Half of a surrogate pair can be sent as JSON; the reader says what is wrong with "?".
    return json.dumps(edit, ensure_ascii=False).encode("utf-8", "replace") + ending
