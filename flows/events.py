"""Events of a run as JSON lines: what it began, made, failed at, and how it ended.

Each line is appended whole, so several runs may write to one file, and it can be read at any time.
docs/monitoring.md says what the fields mean.
"""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adaptivedrag.devices import free_memory, gpu_of
from artifacts import Record
from flows.outcomes import InvalidRequest, RunSummary
from stages.failures import Failure
from stages.planning.plan import EditPlan
from stages.planning.work import WorkItem

SCHEMA = 1
FOLDER = "ADAPTIVEDRAG_EVENTS"
"""Variable that names a folder, where each run of this process has a file; a worker sets it."""


def events_file(run_id: str) -> Path | None:
    """Return the file of a run in the folder that the environment names, if it names one."""
    folder = os.environ.get(FOLDER)
    return Path(folder) / f"{run_id}.jsonl" if folder else None


def check_appendable(path: Path) -> None:
    """Make sure that events can be appended to a file, before anything is done.

    Raises:
        InvalidRequest: if they cannot.
    """
    try:
        _append(path, b"")
    except OSError as error:
        raise InvalidRequest(f"--events {path} cannot be written: {error.strerror}") from error


class Events:
    """The events of a run, written to a file or nowhere."""

    def __init__(self, path: Path | None, run_id: str, say: Callable[[str], object]) -> None:
        """Write nothing yet.

        Args:
            say: takes a line for the user where an event cannot be written; none costs the run.
        """
        self._path, self._run_id, self._say = path, run_id, say
        self._done = set[str]()
        self._is_silent = False

    def began(self, job: Path, device: str, edits: int) -> None:
        """Tell what the run is going to do."""
        self._add("run_began", job=str(job), host=platform.node(), device=device, edits=edits)

    def made(self, item: WorkItem, record: Record, device: str) -> None:
        """Tell of an artifact, and of the memory that a device has left."""
        if self._path is None:
            return
        self._add(
            "artifact_made",
            stage=item.stage.name,
            key=item.key,
            edits=list(item.sharers),
            seconds=record.circumstances.seconds,
            device=record.circumstances.device,
            gpu=gpu_of(device),
            peak_memory=record.circumstances.peak_memory,
            free_memory=free_memory(device),
        )

    def done(self, plan: EditPlan) -> None:
        """Tell once that an edit is done."""
        if plan.edit.id not in self._done:
            self._done.add(plan.edit.id)
            self._add("edit_done", edit=plan.edit.id, verdict=plan.verdict)

    def failed(self, failure: Failure) -> None:
        """Tell that an edit has failed, and why."""
        told = asdict(failure)
        self._add("edit_failed", edit=told.pop("id"), **told)

    def ended(self, summary: RunSummary) -> None:
        """Tell how the run ended."""
        self._add(
            "run_ended",
            exit_code=summary.exit_code,
            seconds=summary.seconds,
            done=len(summary.done),
            failed=len(summary.failed) + len(summary.bad),
            unfinished=len(summary.unfinished),
            stopped=summary.stopped,
        )

    def _add(self, event: str, **fields: Any) -> None:
        if self._path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        known = {"schema": SCHEMA, "time": now, "run": self._run_id, "event": event}
        line = json.dumps(known | fields)
        # A line that found no room may have left its beginning: the next one starts on a new line.
        start = "\n" if self._is_silent else ""
        try:
            _append(self._path, f"{start}{line}\n".encode())
        except OSError as error:
            if not self._is_silent:
                self._say(f"Events cannot be written to {self._path} ({error}); the run goes on")
            self._is_silent = True
        else:
            self._is_silent = False


def _append(path: Path, data: bytes) -> None:
    """Append bytes at once; the file is opened each time, since it may have been moved away.

    A pipe that nobody reads, or that is full, takes none and keeps nobody waiting.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)
    try:
        if os.write(file, data) < len(data):
            raise OSError("no room left")
    finally:
        os.close(file)
