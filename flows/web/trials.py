"""Making one edit while its page looks on; a failure is said there, and harms nothing else."""

import threading
from dataclasses import dataclass, field
from typing import Any

from adaptivedrag.errors import Stopped
from artifacts import ArtifactStore
from flows.outcomes import InvalidRequest
from flows.preflight import check_ready
from stages.images import Pixels
from stages.jobs.edit import Edit, Job
from stages.pipeline import RESULT
from stages.planning.plan import EditPlan, JobPlan, plan_edits
from stages.reports.rows import row_of
from stages.reports.verdicts import sentence
from stages.workbench import Workbench


@dataclass
class Trial:
    """How far an edit is.

    Attributes:
        stage: at work; "" before the first and after the last.
        steps: how many of how many of them are done.
        reason: why it failed; "" if it did not.
    """

    edit: Edit
    stage: str = ""
    steps: tuple[int, int] = (0, 0)
    reason: str = ""
    is_over: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def on_step(self, step: int, steps: int) -> None:
        """Note a step, and leave if that was asked for."""
        self.steps = step, steps
        if self.stop.is_set():
            raise Stopped("it was stopped; trying it again goes on from there")


class Trials:
    """Makes one edit at a time, in a thread of its own."""

    def __init__(self, bench: Workbench) -> None:
        """Make edits at a bench, which keeps its models."""
        self._bench = bench
        self._begin = threading.Lock()
        self.latest: Trial | None = None

    def begin(self, edit: Edit) -> Trial:
        """Begin to make an edit.

        Raises:
            InvalidRequest: if another one is being made.
        """
        with self._begin:
            if self.latest and not self.latest.is_over:
                raise InvalidRequest(f"{self.latest.edit.id} is being made: wait, or stop it")
            trial = self.latest = Trial(edit)
        threading.Thread(target=self._make, args=(trial,), daemon=True).start()
        return trial

    def stop(self) -> None:
        """Ask the edit that is being made to stop at its next step."""
        if self.latest:
            self.latest.stop.set()

    def _make(self, trial: Trial) -> None:
        try:
            self._advance(trial)
        # Whatever it is, the page says it and goes on.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            trial.reason = f"{trial.stage}: {reason}" if trial.stage else reason
        trial.is_over = True

    def _advance(self, trial: Trial) -> None:
        edit, store = trial.edit, self._bench.store
        (plan,) = plan_edits([edit], store)
        job = Job(edit.id, edit.image_path, (edit,), (), (edit.id,))
        check_ready(JobPlan(job, (plan,)), store, self._bench.runtime.device)
        while plan.to_make:
            trial.stage, trial.steps = plan.to_make[0], (0, 0)
            trial.on_step(0, 0)
            self._bench.advance(plan, on_step=trial.on_step)
        trial.stage = ""


def outcome_of(plan: EditPlan) -> dict[str, Any]:
    """Return what a page says of an edit that was made, as JSON; {} if it is not done."""
    if not plan.done:
        return {}
    return {"verdict": plan.verdict, "sentence": sentence(row_of(plan, None))}


def result_of(plan: EditPlan, store: ArtifactStore) -> Pixels:
    """Return the image of an edit that is done, uint8 sRGB (height, width, 3)."""
    pixels: Pixels = store.read(plan.records[RESULT.name])[RESULT.result]
    return pixels
