"""Evaluates jobs: judges their results and the controls, compares, and writes the tables.

    OUT/results.md         tables with intervals, comparisons, protocols, and what is missing
    OUT/results.json       the same with the values of every edit and pair
    OUT/rows/<row>.csv     one line per edit of each row
    OUT/pictures/<row>.png the best, the middle and the worst of each job's results

What was judged before is read from the store, so that an evaluation resumes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from adaptivedrag.config import Runtime
from adaptivedrag.errors import AdaptiveDragError, ModelUnavailable, UnsupportedModel
from artifacts import ArtifactCorrupt, ArtifactStore, Record
from flows.outcomes import ALL_DONE, INTERRUPTED, SOME_FAILED, InvalidRequest
from flows.preflight import check_device
from flows.terminal.console import step_bar
from stages.evaluate import (
    CONTROLS,
    PASTE,
    RECONSTRUCT,
    Candidate,
    Instruments,
    Judge,
    NoRegion,
    NotTheScene,
    OtherSize,
    pasted,
    reconstruction,
)
from stages.images import Pixels
from stages.jobs.edit import Edit, Job, by_variant
from stages.pipeline import RESULT as RESULT_STAGE
from stages.pipeline import WITNESS
from stages.planning.plan import EditPlan, Status, plan_edits
from stages.reports.extremes import write_extremes
from stages.reports.place import writing
from stages.reports.score_tables import (
    NO_CONTENT,
    NO_REGION,
    Evaluation,
    MissingResult,
    Row,
    ScoredEdit,
    arrived,
    as_csv,
    as_json,
    as_markdown,
)
from stages.workbench import Workbench

RESULT = RESULT_STAGE.name
WITHOUT_MODEL = (ModelUnavailable, UnsupportedModel)
"""Errors that are the same for all edits."""
MISSING_KINDS: Mapping[type[Exception], str] = {
    OtherSize: "other size",
    NotTheScene: "not the scene",
    NoRegion: NO_REGION,
    ArtifactCorrupt: "damaged",
}


@dataclass(frozen=True)
class Evaluated:
    """What came of an evaluation.

    Attributes:
        report: the page of tables.
        interrupted: whether a run was interrupted, so that later rows were not begun.
        prefect_is_silent: as `RunSummary` has it.
    """

    evaluation: Evaluation
    report: Path
    interrupted: bool = False
    prefect_is_silent: bool = False

    @property
    def exit_code(self) -> int:
        """0 nothing is missing, 1 something is, 130 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        return ALL_DONE if self.evaluation.complete else SOME_FAILED


def evaluate_job(
    job: Job,
    *,
    store_location: str | Path,
    against: Job | None = None,
    out: Path,
    dift: str | None = None,
    device: str = "cpu",
    console: Console,
) -> Evaluated:
    """Judge the results of a job beside the controls, and beside another job on the same edits.

    Each variant of a job has a row of its own.

    Args:
        against: a job to compare with; its results are in the same store.
        dift: the model whose features MD compares; see `Instruments`.

    Raises:
        InvalidRequest: if two jobs or variants have the same name, or one that of a control.
        ModelUnavailable, StoreUnavailable, ReportUnwritable: the message is one line.
    """
    jobs = [*by_variant(job).values(), *(by_variant(against).values() if against else ())]
    if len({each.name for each in jobs}) < len(jobs):
        names = ", ".join(each.name for each in jobs)
        raise InvalidRequest(f"Two of {names} have one name: rename a file or a variant.")
    if taken := {each.name for each in jobs} & {*CONTROLS}:
        raise InvalidRequest(f"A job is called {min(taken)!r}, as a control is: rename its file.")
    job = jobs[0]
    jury = Jury.open(job, store_location, dift, device, console)
    rows = [jury.job_row(each) for each in jobs]
    for each, row in zip(jobs, rows, strict=True):
        jury.show(each, row, out)
    rows += jury.control_rows(job)
    evaluation = jury.evaluation(job.name, rows, job.name)
    return Evaluated(evaluation, write_evaluation(evaluation, out))


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


@dataclass(frozen=True)
class Jury:
    """Judges rows over the edits of one dataset.

    Attributes:
        unmade: one line for each control that could not be made, with why.
    """

    dataset: Job
    store: ArtifactStore
    judge: Judge
    bench: Workbench
    console: Console
    unmade: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        dataset: Job,
        store_location: str | Path,
        dift: str | None,
        device: str,
        console: Console,
    ) -> "Jury":
        """Open the store, and find what pictures are measured with.

        Raises:
            ModelUnavailable, StoreUnavailable: if either is not there.
            NotReady: if the device cannot be used.
        """
        check_device(device)
        store = ArtifactStore.open(store_location)
        judge = Judge(store, Instruments.find(dift, device))
        return cls(dataset, store, judge, Workbench(store, Runtime(device)), console)

    def evaluation(self, name: str, rows: Sequence[Row], reference: str) -> Evaluation:
        """Return rows with their protocols, and what could not be measured."""
        instruments = self.judge.instruments
        lacking = [*instruments.unavailable, *self.unmade]
        if any(instruments.dift_files(edit) is None for edit in self.dataset.edits):
            lacking.append(
                "MD and m-MD of photographs need Stable Diffusion 2.1, as the public protocol "
                "has it: name its directory or hub id with --dift"
            )
        return Evaluation(name, tuple(rows), reference, instruments.in_words, tuple(lacking))

    def job_row(self, job: Job) -> Row:
        """Judge the results of a job, edit by edit as the dataset has them."""
        plans = {plan.edit.id: plan for plan in self._plans(job.edits)}
        dataset = {edit.id: edit for edit in self.dataset.edits}

        def find(edit: Edit) -> tuple[Candidate, EditPlan]:
            plan = plans[edit.id]
            if not plan.done:
                raise _Missing(*_why_missing(plan))
            ours = dataset.get(edit.id, edit)
            if (edit.image.digest, edit.drags) != (ours.image.digest, ours.drags):
                raise _Missing("another edit", f"not the edit of this id in {self.dataset.path}")
            record = plan.stages[RESULT].record
            assert record is not None
            witness = plan.stages[WITNESS.name].record
            return Candidate.of_record(self.store, record, witness), plan

        absent = [name for name in self.dataset.order if name not in job.order]
        unmade = [MissingResult(each.id, "cannot be done", each.reason) for each in job.bad]
        unmade += [MissingResult(name, "not in the job", str(job.path)) for name in absent]
        seeds = tuple(sorted({edit.config.seed for edit in job.edits}))
        return replace(self._row(job.name, job.edits, find, unmade), seeds=seeds)

    def show(self, job: Job, row: Row, out: Path) -> None:
        """Save a picture of the best, the middle and the worst results of a job's row."""
        edits = {edit.id: edit for edit in job.edits}

        def result(name: str) -> tuple[Edit, Pixels | None]:
            (plan,) = plan_edits([edits[name]], self.store)
            record = plan.stages[RESULT].record
            try:
                return edits[name], self.store.read(record)["image"] if record else None
            except ArtifactCorrupt:  # judged before it was damaged; the next run makes it again
                return edits[name], None

        with writing(out):
            write_extremes(row, result, out / "pictures" / f"{_file_name(row.name)}.png")

    def control_rows(self, job: Job) -> list[Row]:
        """Judge the controls on all edits of the dataset, with the settings of a job.

        One that needs a model that is not here, or cannot be used, is left out and noted.
        """
        settings = {edit.id: edit for edit in job.edits}
        rows = []
        for name in CONTROLS:
            try:
                rows.append(self._control_row(name, settings))
            except WITHOUT_MODEL as error:
                self.unmade.append(f"{name}: {error}")
        return rows

    def _control_row(self, name: str, settings: Mapping[str, Edit]) -> Row:
        made = {RECONSTRUCT: self._reconstructed, PASTE: self._pasted}

        def find(edit: Edit) -> tuple[Candidate, None]:
            if name not in made:
                return Candidate.of_control(name, edit), None
            record = made[name](settings.get(edit.id, edit))
            return Candidate.of_record(self.store, record), None

        return replace(self._row(name, self.dataset.edits, find), control=True)

    def _pasted(self, edit: Edit) -> Record:
        """Return the image in which the content is laid on at its place."""
        (plan,) = plan_edits([pasted(edit)], self.store)
        try:
            return self._finished(plan)
        except WITHOUT_MODEL:
            raise
        except AdaptiveDragError as error:
            raise _Missing(NO_CONTENT, str(error)) from error

    def _reconstructed(self, edit: Edit) -> Record:
        """Return the image that sampling without a drag gives; it is made once per image."""
        plain = reconstruction(edit)
        (plan,) = plan_edits([plain], self.store)
        if plan.stages["train_lora"].status not in (Status.HIT, Status.KNOWN, Status.OFF):
            raise _Missing("not made", "needs train_lora: run the job first")
        return self._finished(plan)

    def _finished(self, plan: EditPlan) -> Record:
        while not plan.done:
            self.bench.advance(plan)
        return plan.records[RESULT]

    def _plans(self, edits: Sequence[Edit]) -> list[EditPlan]:
        """Plan edits, and ask for reasons only where something is missing."""
        plans = plan_edits(edits, self.store)
        undone = [plan.edit for plan in plans if not plan.done]
        explained = plan_edits(undone, self.store, explain=True) if undone else ()
        return [*(plan for plan in plans if plan.done), *explained]

    def _row(
        self,
        name: str,
        edits: Sequence[Edit],
        find: Callable[[Edit], tuple[Candidate, EditPlan | None]],
        unmade: Sequence[MissingResult] = (),
    ) -> Row:
        scored, missing = dict[str, ScoredEdit](), list(unmade)
        # Edits of one image in a row: what is known of the image serves them all.
        in_turn = sorted(edits, key=lambda each: each.image.digest)
        with step_bar(name, self.console) as advance:
            for number, edit in enumerate(in_turn, start=1):
                try:
                    scored[edit.id] = self._scored(edit, *find(edit))
                except _Missing as gone:
                    missing.append(MissingResult(edit.id, gone.kind, str(gone)))
                except WITHOUT_MODEL:
                    raise
                except (AdaptiveDragError, ArtifactCorrupt) as error:
                    kind = MISSING_KINDS.get(type(error), "cannot be judged")
                    missing.append(MissingResult(edit.id, kind, str(error)))
                advance(number, len(edits))
        self.console.out(f"{name}: {len(scored)} judged, {len(missing)} missing")
        in_order = tuple(scored[edit.id] for edit in edits if edit.id in scored)
        return Row(name, in_order, tuple(missing))

    def _scored(self, edit: Edit, candidate: Candidate, plan: EditPlan | None) -> ScoredEdit:
        judgment = self.judge.judge(edit, candidate)
        measures = dict(judgment.measures)
        shorter = min(edit.image.width, edit.image.height)
        if plan is not None and plan.drag:
            measures["tracked_distance"] = [point["distance"] for point in plan.drag["points"]]
        for by in ("tracked", "witness", "true"):
            if f"{by}_distance" in measures:
                measures[f"{by}_arrived"] = arrived(measures[f"{by}_distance"], shorter)
        kind = judgment.kind or next(iter(edit.tags), "")
        return ScoredEdit(edit.id, edit.image.digest, kind, len(edit.drags), measures)


class _Missing(Exception):
    """There is no result to judge; the message says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _why_missing(plan: EditPlan) -> tuple[str, str]:
    """Return a word for why a result is missing, and the reason in full."""
    if plan.stages[RESULT].status is Status.KNOWN:
        return "damaged", "its bytes are gone or damaged: run the job again"
    first = plan.stages[plan.to_make[0]]
    if first.made_otherwise:
        return "other settings", f"{first.stage} was made with others: {first.why}"
    return "not made", f"{first.stage} {first.why or first.status}: run the job"


def write_evaluation(evaluation: Evaluation, out: Path) -> Path:
    """Write all tables to a folder; return the page of them.

    Raises:
        ReportUnwritable: if it cannot be written.
    """
    for row in evaluation.rows:
        write_row(row, out)
    report = out / "results.md"
    with writing(out):
        (out / "results.json").write_text(as_json(evaluation), "utf-8")
        report.write_text(as_markdown(evaluation), "utf-8")
    return report


def write_row(row: Row, out: Path) -> None:
    """Write the table of one row.

    Raises:
        ReportUnwritable: if it cannot be written.
    """
    with writing(out):
        (out / "rows").mkdir(parents=True, exist_ok=True)
        (out / "rows" / f"{_file_name(row.name)}.csv").write_text(as_csv(row), "utf-8")
