"""How much of a job is done, and what failed."""

import itertools
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from artifacts import ArtifactStore, StoreUnavailable
from flows.beat import Watch
from flows.job_status import (
    JobStatus,
    at_work_lines,
    silent_lines,
    status_document,
    status_headline,
    status_of,
)
from flows.outcomes import InvalidRequest
from flows.terminal.console import console, say, say_list, say_table
from flows.terminal.jobs import cause_lines, load, note_absence, note_bad
from stages.failures import Attempt
from stages.jobs.edit import Edit, Job, find_edit
from stages.jobs.selection import Selection
from stages.planning.plan import plan_edits
from stages.reports.plan_tables import counts_table
from stages.reports.wording import count

WATCH_SECONDS = 5.0
WATCH_SHARE = 10
"""A watch waits at least this many times as long as it reads, by the faster of two looks."""


def show_status(
    path: Path, name: str | None, select: Selection, store: str, *, watch: bool, as_json: bool
) -> None:
    """Print how much of a job is done and what failed, or how one edit of it failed.

    Args:
        watch: print it again when it has changed, until the job is over, those at work are gone, or
            somebody presses Ctrl-C.

    Raises:
        InvalidRequest: if an edit is to be watched, or is wanted as JSON.
    """
    if name is not None and (watch or as_json):
        raise InvalidRequest("--watch and --json are for a whole job: name no edit")
    job = load(path, select)
    if name is not None:
        _say_attempts(find_edit(job, name), ArtifactStore.open_to_read(store))
    elif watch:
        with suppress(KeyboardInterrupt):
            watch_status(job, store, _is_over, as_json=as_json)
    else:
        opened = ArtifactStore.open_to_read(store)
        status = status_of(job, opened)
        if as_json:
            say(json.dumps(status_document(status, opened), indent=2))
        else:
            _say_status(status, opened)


def _is_over(status: JobStatus) -> bool:
    if status.is_deserted:
        left = count(status.left, "edit")
        say(f"Nobody is at work any more, and {left} left: run it again", stderr=True)
    return status.is_over or status.is_deserted


def watch_status(
    job: Job, store: str, is_over: Callable[[JobStatus], bool], *, as_json: bool = False
) -> None:
    """Say how far a job is whenever that has changed, until it is over.

    A terminal shows the latest alone. A store that is away for a while is said, and waited for.

    Raises:
        StoreUnavailable: if it is not there to begin with.
    """
    said, watch = "", Watch()
    before = 0.0  # the first look loads code, too
    for look in itertools.count():
        clock = time.monotonic()
        try:
            opened = ArtifactStore.open_to_read(store)
            status = status_of(job, opened, watch)
            taken = time.monotonic() - clock  # without what a server takes
            said = _say_changed(status, opened, said, as_json=as_json)
            if is_over(status):
                break
        except StoreUnavailable as error:
            if not look:
                raise
            taken, trouble = 0.0, f"{error}; trying again"
            if trouble != said:
                say(trouble, stderr=True)
            said = trouble
        time.sleep(max(WATCH_SECONDS, WATCH_SHARE * min(taken, before)))
        before = taken


def _say_changed(status: JobStatus, store: ArtifactStore, said: str, *, as_json: bool) -> str:
    """Say how far a job is, unless that was said last; return what was said."""
    target = console()
    if target.is_interactive and not as_json:
        target.clear()
        _say_status(status, store)
        return ""
    line = json.dumps(status_document(status, store)) if as_json else status_headline(status)
    if line != said:
        say(line if as_json else f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}")
    return line


def _say_status(status: JobStatus, store: ArtifactStore) -> None:
    say(status_headline(status))
    say_list("At work", at_work_lines(status))
    say_list("No sign of life of", silent_lines(status))
    say_table(counts_table(status.plan))
    note_absence(store)
    say_list("Failed", cause_lines(status.failures))
    if status.failures:
        say(f"Tracebacks: adaptivedrag status {status.plan.job.path} EDIT")
    note_bad(status.plan.job)


def _say_attempts(edit: Edit, store: ArtifactStore) -> None:
    """Print the failed attempts at what an edit still needs, each with its traceback."""
    (plan,) = plan_edits([edit], store)
    documents = [
        (stage, document)
        for stage in plan.to_make
        if (staged := plan.stages[stage]).failure and staged.key
        for document in store.attempts(stage, staged.key)
    ]
    for stage, document in documents:
        attempt = Attempt.from_document(document)
        say(f"{attempt.time} {stage}: {attempt.kind}: {attempt.message}")
        say(attempt.traceback)
    if not documents:
        say(f"{edit.id}: {'done' if plan.done else 'not done, and no failure is recorded'}")
