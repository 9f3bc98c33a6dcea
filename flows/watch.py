"""What connects the work of a run to the process that asked for it: what to show, when to stop."""

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from adaptivedrag.errors import Stopped
from artifacts import ArtifactStore
from flows.outcomes import RunSummary, last_seconds, new_run_id
from flows.progress import Progress
from flows.shards import StageSeconds
from flows.time_limits import TimeLimit
from stages.planning.plan import EditPlan, Status, plan_edits

if TYPE_CHECKING:
    from stages.jobs.edit import Edit, Job


class StoppedEarly(Stopped):
    """No more work is to be started; the message says why."""


class Interrupted(StoppedEarly):
    """The user or the system wants this process to end."""


class Stop:
    """A wish or a reason to stop, heard by those at work at their next step."""

    def __init__(self, limits: Sequence[TimeLimit] = ()) -> None:
        """Start without the wish, and with the time that there is."""
        self._wish = threading.Event()
        self._limits = tuple(limits)
        self._over = ""

    def ask(self) -> None:
        """Ask all work to stop."""
        self._wish.set()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._wish.is_set()

    def check(self) -> None:
        """Leave the work at hand if that was asked for, or time is up.

        Raises:
            StoppedEarly: if so; `Interrupted` if it was asked for.
        """
        if self._wish.is_set():
            raise Interrupted("interrupted")
        # For good: a clock that is set back gives no time back.
        self._over = self._over or next((each.said for each in self._limits if each.is_over), "")
        if self._over:
            raise StoppedEarly(self._over)


@dataclass
class Watch:
    """One run as seen from outside.

    Attributes:
        todo: ids of the edits for which there is anything to do.
        path: of the job's file.
        out: folder of the results, where there is one.
        finished: set when the work is over and `summary` is written; Prefect may go on talking.
    """

    progress: Progress
    seconds: StageSeconds
    todo: frozenset[str]
    path: str
    out: Path | None = None
    run_id: str = field(default_factory=new_run_id)
    stop: Stop = field(default_factory=Stop)
    finished: threading.Event = field(default_factory=threading.Event)
    summary: RunSummary | None = None


def watch_over(
    job: "Job",
    store: ArtifactStore,
    stages: Sequence[str],
    *,
    edits: Sequence["Edit"] | None = None,
    forced: Collection[str] = (),
    retry: bool = False,
    console: Console | None = None,
    out: Path | None = None,
    limits: Sequence[TimeLimit] = (),
    plans: Sequence[EditPlan] | None = None,
) -> Watch:
    """Plan edits of a job, all by default, and return a watch over what is still to do.

    There is nothing to do for what is quarantined, unless with `retry` or where stages are forced.

    Args:
        forced: stages that are done again where they are done.
        limits: after which the run stops.
        plans: of those edits, if they are known already.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    edits = job.edits if edits is None else edits
    plans = plan_edits(edits, store) if plans is None else plans
    if not forced:  # then what is done waits for nothing
        plans = [plan for plan in plans if not plan.done]
    if not (retry or forced):
        plans = [plan for plan in plans if not plan.quarantined]
    waiting = {stage: _waiting(plans, stage, stage in forced) for stage in stages}
    todo = frozenset[str]().union(*waiting.values())
    seconds = StageSeconds(last_seconds(store, job) if todo else {})
    each = {stage: seconds.of(stage) for stage in stages}
    progress = Progress(waiting, each, _shares(edits), console)
    return Watch(progress, seconds, todo, str(job.path), out, stop=Stop(limits))


def _waiting(plans: Sequence[EditPlan], stage: str, force: bool) -> list[str]:
    """Return the ids of the edits that a stage has to run for."""
    return [
        plan.edit.id
        for plan in plans
        if stage in plan.to_make or (force and plan.stages[stage].status is not Status.OFF)
    ]


def _shares(edits: Sequence["Edit"]) -> dict[str, float]:
    """Return one over the number of edits of the same image, for each edit."""
    counts = Counter(edit.image.digest for edit in edits)
    return {edit.id: 1 / counts[edit.image.digest] for edit in edits}
