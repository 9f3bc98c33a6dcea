"""How a run ended: its summary, its exit code, and what the store keeps of it.

The summary in the store is the only account of a run: neither the exit code nor `--retry-failed`
ever asks Prefect.
"""

import itertools
import json
import os
import platform
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from artifacts import ArtifactCorrupt, ArtifactStore, Key
from artifacts.places.parallel import at_once
from flows.beat import BEAT
from stages.failures import Failure
from stages.pipeline import BY_NAME
from stages.reports.wording import count

if TYPE_CHECKING:
    from flows.progress import Standing
    from stages.jobs.edit import BadEdit, Job
    from stages.planning.plan import EditPlan

SUMMARY = "summary.json"
AT_WORK = "at-work.json"
RUNS_ASKED = 3
ALL_DONE, SOME_FAILED, NOT_STARTED, STOPPED_EARLY, INTERRUPTED = 0, 1, 2, 3, 130
BUG = 1
"""As Python ends with an error that nobody expects."""


class InvalidRequest(ValueError):
    """An option of a run has no meaning; the message names it, its value and what is allowed."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        done: edits whose image is in the store.
        failed: edits that failed, or are quarantined since they failed in an earlier run.
        unfinished: edits that neither failed nor are done, since the run stopped early or was
            told to run some stages only.
        made: artifacts made by this run, per stage.
        stage_seconds: median seconds of an artifact, per stage.
        verdicts: how many edits the witness found where, in this run.
        warnings: what stages warned of in this run, with the ids of the edits.
        memory_saved_by: the last measures against short memory, per stage.
        seconds: wall time.
        stopped: why the run stopped early, "" if it did not.
        prefect_is_silent: whether Prefect's client still waits for a server that does not answer;
            a process that ends in the usual way then waits for minutes with it.
    """

    run_id: str
    job: str
    path: str
    started: str
    seconds: float = 0.0
    done: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    bad: tuple["BadEdit", ...] = ()
    unfinished: tuple[str, ...] = ()
    made: Mapping[str, int] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    memory_saved_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stopped: str = ""
    interrupted: bool = False
    prefect_is_silent: bool = False
    report: str | None = None

    @classmethod
    def not_run(cls, job: "Job", error: BaseException) -> Self:
        """Return the summary of a run that an error ended before it could give its own."""
        return cls(
            run_id="",
            job=job.name,
            path=str(job.path),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            bad=job.bad,
            unfinished=tuple(edit.id for edit in job.edits),
            stopped=" ".join(f"{type(error).__name__}: {error}".split()),
        )

    @property
    def exit_code(self) -> int:
        """0 all done, 1 any edit failed or was bad, 3 stopped early, 130 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        if self.stopped:
            return STOPPED_EARLY
        return SOME_FAILED if self.failed or self.bad else ALL_DONE

    def __str__(self) -> str:
        parts = [f"{len(self.done)} done"]
        if self.failed or self.bad:
            parts.append(f"{len(self.failed) + len(self.bad)} failed")
        if self.unfinished:
            parts.append(f"{len(self.unfinished)} unfinished")
        made = sum(self.made.values())
        parts.append(f"{count(made, 'artifact')} made in {self.seconds:.1f} s")
        return ", ".join(parts)


def new_run_id() -> str:
    """Return a name for a run: UTC, so that names sort by time, and a random end."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def record_run(store: ArtifactStore, summary: RunSummary) -> None:
    """Write the summary into the store.

    Raises:
        StoreUnavailable: if it cannot be written.
    """
    document = asdict(summary) | {"exit_code": summary.exit_code, "report": None}
    document["bad"] = [asdict(edit) for edit in summary.bad]
    data = json.dumps(document, indent=1, default=str).encode()
    store.put_run(summary.run_id, SUMMARY, data)


def retract_summary(store: ArtifactStore, run_id: str) -> None:
    """Take back how a run ended, since it begins again.

    Raises:
        StoreUnavailable: if the store does not work.
    """
    if store.get_run(run_id, SUMMARY):
        store.put_run(run_id, SUMMARY, b"")


class Ended(BaseModel):
    """How a run ended, as far as others need to know."""

    exit_code: int
    done: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    unfinished: tuple[str, ...] = ()
    made: dict[str, int] = {}
    verdicts: dict[str, int] = {}
    stopped: str = ""
    interrupted: bool = False

    def __str__(self) -> str:
        counts = {"done": self.done, "failed": self.failed, "unfinished": self.unfinished}
        parts = [f"{len(ids)} {word}" for word, ids in counts.items() if ids]
        return "; ".join(filter(None, [", ".join(parts), self.stopped]))


def ended(store: ArtifactStore, run_id: str) -> Ended | None:
    """Return how a run ended; None if it has not said so.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    document = _read_run(store, Ended, SUMMARY, run_id)
    return Ended(**document) if document else None


def got_on(store: ArtifactStore, run_id: str) -> bool:
    """Return whether a run has done anything, or failed to, before what it was last at.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    return bool(_read_run(store, _Note, AT_WORK, run_id).get("taken"))


def note_at_work(
    store: ArtifactStore,
    run_id: str,
    path: str,
    ids: Sequence[str],
    stage: str,
    standing: "Standing",
    keys: Sequence[Key] = (),
    taken: int = 0,
) -> None:
    """Note what a run of the job at a path is about to do, over its earlier note.

    Args:
        keys: of what it is about to make.
        taken: how many pieces of work it has done before, or failed to do.

    Raises:
        StoreUnavailable: if it cannot be written.
    """
    document = {
        "path": path,
        "ids": list(ids),
        "stage": stage,
        "host": platform.node(),
        "process": os.getpid(),
        "per_hour": standing.per_hour,
        "left": standing.total - standing.done - standing.failed,
        "ends": standing.ends,
        "keys": list(keys),
        "taken": taken,
    }
    store.put_run(run_id, AT_WORK, json.dumps(document, default=str).encode())


@dataclass(frozen=True)
class AtWork:
    """What a run is at that has left no summary yet; one that was killed leaves none.

    Attributes:
        process: its number on its host.
        since: when it began with this, by the store's clock.
        seen: when it last showed a sign of life, likewise.
        per_hour: edits that it finishes in an hour, where it knows.
        left: edits that it has still to do.
        ends: when it will end, where it knows.
        silent: seconds without a sign of life.
    """

    run_id: str
    host: str
    process: int
    stage: str
    ids: tuple[str, ...]
    since: datetime
    seen: datetime
    per_hour: float | None
    left: int
    ends: datetime | None
    silent: float = 0.0


def notes_at_work(store: ArtifactStore, job: "Job") -> tuple[AtWork, ...]:
    """Return what the runs of a job are at that have not said how they ended.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    found = []
    for run_id, note in _notes(store, job):
        if since := store.run_written(run_id, AT_WORK):
            seen = max(since, store.run_written(run_id, BEAT) or since)
            known = {name: note[name] for name in ("host", "process", "stage", "ids")}
            known |= {name: note[name] for name in ("per_hour", "left", "ends")}
            found.append(AtWork(run_id, since=since, seen=seen, **known))
    return tuple(found)


@dataclass(frozen=True)
class Deaths:
    """How often runs of a job stopped silently while they worked on something.

    A kill, a machine that went down, or an edit that takes its process with it: too little memory,
    a crash in a library; or one that is still at work.

    Attributes:
        edits: by edit. A stage that the edits of an image share counts for all of them.
        alone: by key, where nothing else was at hand.
    """

    edits: Counter[str]
    alone: Counter[Key]


def deaths_in(store: ArtifactStore, job: "Job") -> Deaths:
    """Count what the runs of a job were at that have not said how they ended.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    images = {edit.id: edit.image.digest for edit in job.edits}
    of_image: defaultdict[str, list[str]] = defaultdict(list)
    for own, image in images.items():
        of_image[image].append(own)
    edits, alone = Counter[str](), Counter[Key]()
    for _, document in _notes(store, job):
        stage = BY_NAME.get(document["stage"])
        for edit_id in images.keys() & {*document["ids"]}:
            is_shared = stage is not None and stage.per_image
            edits.update(of_image[images[edit_id]] if is_shared else [edit_id])
        alone.update(document["keys"] if len(document["keys"]) == 1 else ())
    return Deaths(edits, alone)


def _notes(store: ArtifactStore, job: "Job") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the notes of those runs of a job that have no summary, with their ids."""
    read = partial(_read_run, store, _Note, AT_WORK)
    runs = store.runs(having=AT_WORK, lacking=SUMMARY)
    for run_id, document in zip(runs, at_once(read, runs, store.backend.parallel), strict=True):
        if document.get("path") == str(job.path):
            yield run_id, document


def last_failed(store: ArtifactStore, job: "Job", plans: Iterable["EditPlan"]) -> frozenset[str]:
    """Return the edits that failed, or were bad, in the latest run with a verdict on them.

    And those with a failed attempt at what they still need: a killed worker leaves no verdict.
    """
    wanted = {edit.id for edit in job.edits}
    failed = {plan.edit.id for plan in plans if plan.failed}
    for document in _summaries(store, str(job.path)):
        newly_failed = {each["id"] for each in (*document["failed"], *document["bad"])} & wanted
        failed |= newly_failed
        wanted -= newly_failed | set(document["done"])
        if not wanted:
            break
    return frozenset(failed)


def last_seconds(store: ArtifactStore, job: "Job") -> dict[str, float]:
    """Return how long an artifact of each stage took in the job's earlier runs, where known."""
    seconds: dict[str, float] = {}
    for document in itertools.islice(_summaries(store, str(job.path)), RUNS_ASKED):
        seconds = {**document["stage_seconds"], **seconds}
    return seconds


class _Note(BaseModel):
    """What a run was at."""

    path: str
    ids: tuple[str, ...]
    stage: str
    host: str = "an unknown machine"
    process: int = 0
    per_hour: float | None = None
    left: int = 0
    ends: datetime | None = None
    keys: tuple[Key, ...] = ()
    taken: int = 0


class _Told(BaseModel):
    id: str


class _Summary(BaseModel):
    """The keys that we read of a run's summary."""

    path: str
    done: tuple[str, ...]
    failed: tuple[_Told, ...]
    bad: tuple[_Told, ...]
    stage_seconds: dict[str, float] = {}


def _summaries(store: ArtifactStore, path: str) -> Iterator[dict[str, Any]]:
    """Yield the summaries of the job's runs, the latest first."""
    read = partial(_read_run, store, _Summary, SUMMARY)
    for document in at_once(read, reversed(store.runs()), store.backend.parallel):
        if document.get("path") == path:
            yield document


def _read_run(
    store: ArtifactStore, form: type[BaseModel], name: str, run_id: str
) -> dict[str, Any]:
    """Read a file of a run; one that was cut off counts as empty."""
    try:
        data = store.get_run(run_id, name)
        return form.model_validate_json(data).model_dump() if data else {}
    except (ValueError, ArtifactCorrupt):
        return {}
