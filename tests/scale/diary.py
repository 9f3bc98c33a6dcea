"""What happened in the stages of all processes: lines of the diary of `waiting_stages`."""

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """A stage of an edit began or ended.

    Attributes:
        at: by the clock that all processes of a machine share.
        was_there: whether the store had the result when the stage began.
    """

    at: float
    pid: int
    event: str
    stage: str
    key: str
    was_there: bool
    edit: str


def notes(diary: Path) -> list[Note]:
    """Read a diary; a last line that is not whole yet is left out."""
    text = diary.read_text() if diary.exists() else ""
    return [_note(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _note(line: str) -> Note:
    at, pid, event, stage, key, was_there, edit = line.split()
    return Note(float(at), int(pid), event, stage, key, was_there == "1", edit)


def wait_until_ended(diary: Path, executions: int, seconds: float) -> list[Note]:
    """Wait until a number of executions of stages have ended; return what was noted.

    Raises:
        TimeoutError: if that takes longer than some seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = notes(diary)
        if sum(note.event == "ended" for note in found) >= executions:
            return found
        time.sleep(1)
    raise TimeoutError(f"not {executions} executions in {seconds:g} s")
