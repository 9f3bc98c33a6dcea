"""How a run ended: failures as values, its summary, its exit code, and what the store keeps of it.

The summary in the store is the only account of a run: neither the exit code nor `--retry-failed`
ever asks Prefect.
"""

import itertools
import json
import math
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from artifacts import ArtifactCorrupt, ArtifactStore
from artifacts.places.parallel import at_once
from flows.shards import SHARED_STAGES
from stages import STAGE_NAMES
from stages.planning.plan import StagePlan, Status, plan_edits
from stages.reports.wording import count

if TYPE_CHECKING:
    from stages.jobs.edit import BadEdit, Edit, Job
    from stages.planning.plan import EditPlan

SUMMARY = "summary.json"
AT_WORK = "at-work.json"
RUNS_ASKED = 3
ALL_DONE, SOME_FAILED, NOT_STARTED, STOPPED_EARLY, INTERRUPTED = 0, 1, 2, 3, 130


class InvalidRequest(ValueError):
    """An option of a run has no meaning; the message names it, its value and what is allowed."""


@dataclass(frozen=True)
class Failure:
    """Why an edit has no image: the stage that failed, the type of the error and its message."""

    id: str
    stage: str
    kind: str
    message: str

    @classmethod
    def of_earlier(cls, edit_id: str, staged: StagePlan | None) -> "Failure | None":
        """Tell the failure of an edit that is quarantined at a stage; None if it is not."""
        if staged is None or staged.status is not Status.QUARANTINED or not staged.failure:
            return None
        return cls(edit_id, staged.stage, staged.failure.kind, staged.failure.reason)

    def __str__(self) -> str:
        return f"{self.id}: {self.stage}: {self.kind}: {self.message}"


@dataclass(frozen=True)
class Made:
    """What became of one item of a stage: `failure` is None if its artifact is in the store."""

    stage: str
    key: str
    id: str
    seconds: float = 0.0
    failure: Failure | None = None
    memory_saved_by: tuple[str, ...] = ()


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
        memory_saved_by: what was done at last where memory was short, per stage.
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
    memory_saved_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stopped: str = ""
    interrupted: bool = False
    prefect_is_silent: bool = False
    report: Path | None = None

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


def chosen_stages(
    only: str | None, from_stage: str | None, force: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the stages that may run, and those of them that are done again where they are done.

    Raises:
        InvalidRequest: for the name of no stage, or both options.
    """
    if only and from_stage:
        raise InvalidRequest("--only and --from exclude each other: give one.")
    named = only or from_stage
    if named is not None and named not in STAGE_NAMES:
        raise InvalidRequest(f"There is no stage {named!r}; stages: {', '.join(STAGE_NAMES)}.")
    if only:
        stages: tuple[str, ...] = (only,)
    else:
        stages = STAGE_NAMES[STAGE_NAMES.index(from_stage) if from_stage else 0 :]
    return stages, () if not force else stages[:1] if from_stage else stages


def new_run_id() -> str:
    """Return a name for a run: UTC, so that names sort by time, and a random end."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def conclude(
    summary: RunSummary,
    edits: Sequence["Edit"],
    store: ArtifactStore,
    seconds: float,
    plans: Sequence["EditPlan"] | None = None,
) -> RunSummary:
    """Complete a run's summary with what the store says is done; nothing else is asked.

    Args:
        plans: of all edits that have not failed, if they are known already.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    failed = {failure.id: failure for failure in summary.failed}
    if plans is None:
        plans = plan_edits([edit for edit in edits if edit.id not in failed], store)
    undone = [plan for plan in plans if not plan.done]
    for plan in undone:
        if earlier := Failure.of_earlier(plan.edit.id, plan.quarantined):
            failed[plan.edit.id] = earlier
    unfinished = tuple(plan.edit.id for plan in undone if plan.edit.id not in failed)
    others = {*failed, *unfinished}
    return replace(
        summary,
        done=tuple(plan.edit.id for plan in plans if plan.edit.id not in others),
        failed=tuple(failed[edit.id] for edit in edits if edit.id in failed),
        unfinished=unfinished,
        seconds=round(seconds, 3),
    )


def record_run(store: ArtifactStore, summary: RunSummary) -> None:
    """Write the summary into the store.

    Raises:
        StoreUnavailable: if it cannot be written.
    """
    document = asdict(summary) | {"exit_code": summary.exit_code, "report": None}
    document["bad"] = [asdict(edit) for edit in summary.bad]
    data = json.dumps(document, indent=1, default=str).encode()
    store.put_run(summary.run_id, SUMMARY, data)


def note_at_work(store: ArtifactStore, run_id: str, path: str, edit_id: str, stage: str) -> None:
    """Keep what a run of the job at a path is about to do, over what it did before.

    Raises:
        StoreUnavailable: if it cannot be written.
    """
    document = {"path": path, "id": edit_id, "stage": stage}
    store.put_run(run_id, AT_WORK, json.dumps(document).encode())


def fatal_edits(store: ArtifactStore, job: "Job") -> Counter[str]:
    """Count for each edit the runs of its job that were at it and have not said how they ended.

    A kill, a machine that went down, or an edit that takes its process with it: too little memory,
    a crash in a library; or one that is still at work. A stage that the edits of an image share
    counts for all of them.
    """
    images = {edit.id: edit.image.digest for edit in job.edits}
    of_image: defaultdict[str, list[str]] = defaultdict(list)
    for own, image in images.items():
        of_image[image].append(own)
    deaths: Counter[str] = Counter()
    read = partial(_read_run, store, _AtWork, AT_WORK)
    ended = store.runs(having=AT_WORK, lacking=SUMMARY)
    for document in at_once(read, ended, store.backend.parallel):
        edit_id = document.get("id")
        if document.get("path") == str(job.path) and edit_id in images:
            is_shared = document["stage"] in SHARED_STAGES
            deaths.update(of_image[images[edit_id]] if is_shared else [edit_id])
    return deaths


def last_failed(store: ArtifactStore, job: "Job") -> frozenset[str]:
    """Return the edits that failed, or were bad, in the latest run with a verdict on them.

    And those with a failed attempt at what they still need: a killed worker leaves no verdict.
    """
    wanted = {edit.id for edit in job.edits}
    failed = {plan.edit.id for plan in plan_edits(job.edits, store) if plan.failed}
    for document in _summaries(store, str(job.path)):
        newly_failed = {each["id"] for each in (*document["failed"], *document["bad"])} & wanted
        failed |= newly_failed
        wanted -= newly_failed | set(document["done"])
        if not wanted:
            break
    return frozenset(failed)


def only_failed(store: ArtifactStore, job: "Job") -> "Job":
    """Return the job with its `last_failed` edits alone."""
    failed = last_failed(store, job)
    return replace(job, edits=tuple(edit for edit in job.edits if edit.id in failed))


def last_seconds(store: ArtifactStore, job: "Job") -> dict[str, float]:
    """Return how long an artifact of each stage took in the job's earlier runs, where known."""
    seconds: dict[str, float] = {}
    for document in itertools.islice(_summaries(store, str(job.path)), RUNS_ASKED):
        seconds = {**document["stage_seconds"], **seconds}
    return seconds


class _AtWork(BaseModel):
    """What a run was at."""

    path: str
    id: str
    stage: str


class _Told(BaseModel):
    id: str


class _Summary(BaseModel):
    """What is read of a run's summary."""

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
    """Return what is read of a file of a run; one that was cut off says nothing."""
    try:
        data = store.get_run(run_id, name)
        return form.model_validate_json(data).model_dump() if data else {}
    except (ValueError, ArtifactCorrupt):
        return {}


def allowed_failures(limit: str | int | None, fail_fast: bool, total: int) -> int | None:
    """Return how many of `total` edits may fail before a run stops; None for any number.

    Args:
        limit: a count, or a share such as "5%".

    Raises:
        InvalidRequest: if the limit is neither.
    """
    if fail_fast:
        return 0
    if limit is None:
        return None
    text = str(limit).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    is_share = text.endswith("%")
    if not (0 <= value <= (100 if is_share else math.inf)) or (not is_share and value % 1):
        raise InvalidRequest(f"max-failures is {text!r}: give a count, or a share such as 5%.")
    return math.floor(total * value / 100) if is_share else int(value)
