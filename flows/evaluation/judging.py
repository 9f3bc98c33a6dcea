"""Evaluates jobs: judges their results and the controls, compares, and writes the tables.

    OUT/results.md         tables with intervals, comparisons, protocols, and what is missing
    OUT/results.json       the same with the values of every edit and pair
    OUT/rows/<row>.csv     one line per edit of each row
    OUT/pictures/<row>.png the best, the middle and the worst of each job's results

What was judged before is read from the store, so that an evaluation resumes.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptivedrag.config import BuildMaskConfig, EditConfig, Runtime, overlaid
from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from adaptivedrag.methods.optimization import Optimization
from adaptivedrag.presets import preset as find_preset
from artifacts import ArtifactCorrupt, ArtifactStore, Digest, Record, digest_json
from flows.outcomes import ALL_DONE, INTERRUPTED, SOME_FAILED, InvalidRequest
from flows.run_job import run
from flows.terminal.console import step_bar
from stages.evaluate import (
    CONTROLS,
    RECONSTRUCT,
    Candidate,
    Instruments,
    Judge,
    NoRegion,
    NotTheScene,
    OtherSize,
    reconstruction,
)
from stages.jobs.edit import Edit, Job
from stages.jobs.images import Pixels
from stages.jobs.reader import load_job, read_settings
from stages.jobs.toml import toml_document
from stages.pipeline import STAGES, recipe
from stages.planning.plan import EditPlan, Status, plan_edits
from stages.reports.extremes import write_extremes
from stages.reports.report import writing
from stages.reports.score_tables import (
    NO_REGION,
    SHORT,
    Evaluation,
    MissingResult,
    Row,
    ScoredEdit,
    arrived,
    as_csv,
    as_json,
    as_markdown,
    from_csv,
)
from stages.stage import Settings
from stages.workbench import Workbench

RESULT = STAGES[-1].name
ROWS = "ablation.toml"
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

    Args:
        against: a job to compare with; its results are in the same store.
        dift: the model whose features MD compares; see `Instruments`.

    Raises:
        InvalidRequest: if both jobs have the same name.
        ModelUnavailable, StoreUnavailable, ReportUnwritable: the message is one line.
    """
    jobs = [job] if against is None else [job, against]
    if against is not None and against.name == job.name:
        raise InvalidRequest(f"Both jobs are called {job.name!r}: rename one of the files.")
    panel = _Panel.open(job, store_location, dift, device, console)
    rows = [panel.job_row(each) for each in jobs]
    for each, row in zip(jobs, rows, strict=True):
        panel.show(each, row, out)
    rows += panel.control_rows()
    evaluation = panel.evaluation(job.name, rows, job.name)
    return Evaluated(evaluation, _write(evaluation, rows, out))


def evaluate_ablation(
    directory: Path,
    *,
    preset: str = "paper",
    only: Sequence[str] = (),
    finished: Path | None = None,
    store_location: str | Path,
    out: Path,
    dift: str | None = None,
    device: str = "cpu",
    console: Console,
) -> Evaluated:
    """Run what is missing of the paper's Tables 1 and 2 on a dataset, and judge it.

    Each row becomes a job file `DIR/<row>.toml`, over the settings of `DIR/job.toml`; all share
    one store. A row's table is written as soon as the row is done.

    Args:
        directory: folder of a dataset with its `job.toml`.
        preset: the method whose modules are switched off one by one.
        only: names of rows; all by default.
        finished: a folder of CSVs, one per row, of an earlier evaluation of the same edits, on
            any machine. A row or control that has one is taken over from it: nothing is run.

    Raises:
        InvalidRequest: for a row that there is not, or a CSV that is no row's.
        InvalidEdit, ModelUnavailable, StoreUnavailable, ReportUnwritable: nothing could start.
    """
    find_preset(preset)
    dataset = load_job(directory / "job.toml")
    rows = _chosen(ablation_rows(preset), only)
    if finished is not None and finished.resolve() == (out / "rows").resolve():
        raise InvalidRequest(f"{finished} would be written over: name another --out.")
    taken = _finished_rows(finished)
    panel = _Panel.open(dataset, store_location, dift, device, console)
    judged: list[Row] = []
    silent = interrupted = False
    for name, changes in rows.items():
        with writing(directory):
            path = write_row_job(directory, name, changes)
        try:
            job = load_job(path)
            if name in taken:
                judged.append(panel.taken_over(taken[name], job))
                console.out(f"{name}: {len(judged[-1].scored)} taken over")
                continue
            summary = run(
                job, store_location=store_location, out=out / "runs" / name, console=console
            )
        except InvalidEdit as error:  # this row cannot be had; the others can
            judged.append(_refused(name, dataset, error))
            continue
        judged.append(panel.job_row(job))
        _write_row(judged[-1], out)
        panel.show(job, judged[-1], out)
        silent |= summary.prefect_is_silent
        interrupted = summary.interrupted
        if interrupted:
            break
    reference = preset if preset in rows else judged[0].name
    judged += [
        panel.taken_over(taken[name], None) if name in taken else panel.control_row(name)
        for name in CONTROLS
    ]
    evaluation = panel.evaluation(f"Ablation of {preset}", judged, reference)
    return Evaluated(evaluation, _write(evaluation, judged, out), interrupted, silent)


def ablation_rows(preset: str) -> dict[str, dict[str, Any]]:
    """Return the rows of an ablation, by name, as keys of a job file.

    A change of a module that the preset does not have, or of one that does nothing in it, makes no
    row.
    """
    table = tomllib.loads(files("flows.evaluation").joinpath(ROWS).read_text("utf-8"))
    own = find_preset(preset)
    modules = {
        f"{preset}-{name}": {"preset": preset, **changes}
        for name, changes in table["modules"].items()
        if "lora" in changes or _changes(own, changes)
    }
    return {**table["rows"], preset: {"preset": preset}, **modules}


def _changes(own: EditConfig, changes: dict[str, Any]) -> bool:
    """Tell whether changes make a difference to settings that have what is changed."""
    drag = changes.get("optimize_latent", {})
    if "method" not in drag and drag.keys() - {*type(own.optimize_latent).model_fields}:
        return False
    return _acting(own.merged(changes)) != _acting(own)


def _acting(config: EditConfig) -> EditConfig:
    """Return settings with those at their defaults that do nothing beside the others."""
    idle: dict[str, dict[str, Any]] = {"build_mask": {}, "optimize_latent": {}}
    if config.build_mask.mode not in ("superpixel_line", "union"):
        idle["build_mask"]["line_extension"] = BuildMaskConfig().line_extension
    drag = config.optimize_latent
    if isinstance(drag, Optimization):
        if not drag.backtracking:
            idle["optimize_latent"]["overshoot_returns"] = Optimization().overshoot_returns
        if not (drag.regions_in_supervision or drag.regions_in_tracking):
            idle["optimize_latent"]["region_anchor"] = Optimization().region_anchor
    return config.merged(idle)


def write_row_job(directory: Path, name: str, changes: Mapping[str, Any]) -> Path:
    """Write the job of a row: the dataset's own settings with the row's on top.

    Raises:
        InvalidEdit: if the dataset's job file cannot be used.
    """
    settings = overlaid(read_settings(directory / "job.toml"), changes)
    path = directory / f"{name}.toml"
    text = toml_document(settings)
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    return path


def _chosen(rows: dict[str, dict[str, Any]], only: Sequence[str]) -> dict[str, dict[str, Any]]:
    for name in only:
        if name not in rows:
            raise InvalidRequest(f"There is no row {name!r}; rows: {', '.join(rows)}.")
    return {name: changes for name, changes in rows.items() if not only or name in only}


def _refused(name: str, dataset: Job, error: InvalidEdit) -> Row:
    missing = (MissingResult(edit.id, "settings", str(error)) for edit in dataset.edits)
    return Row(name, (), tuple(missing))


def _finished_rows(folder: Path | None) -> dict[str, Row]:
    """Read the rows of earlier evaluations from their CSVs, by name."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder: --finished takes one of CSVs, one per row.")
    controls = {_file_name(name): name for name in CONTROLS}
    rows = {}
    for path in sorted(folder.glob("*.csv")):
        name = controls.get(path.stem, path.stem)
        try:
            rows[name] = from_csv(path.read_text("utf-8"), name)
        except (ValueError, OSError) as error:
            raise InvalidRequest(
                f"{path} cannot be taken over: {error}. Delete it to measure the row anew."
            ) from error
    return rows


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


@dataclass(frozen=True)
class _Panel:
    """Judges rows over the edits of one dataset."""

    dataset: Job
    store: ArtifactStore
    judge: Judge
    bench: Workbench
    console: Console
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def open(
        cls,
        dataset: Job,
        store_location: str | Path,
        dift: str | None,
        device: str,
        console: Console,
    ) -> "_Panel":
        store = ArtifactStore.open(store_location)
        judge = Judge(store, Instruments.find(dift, device))
        return cls(dataset, store, judge, Workbench(store, Runtime(device)), console)

    def evaluation(self, name: str, rows: Sequence[Row], reference: str) -> Evaluation:
        instruments = self.judge.instruments
        lacking = list(instruments.unavailable)
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

        def find(edit: Edit) -> tuple[Candidate, Record | None]:
            plan = plans[edit.id]
            if not plan.done:
                raise _Missing(*_why_missing(plan))
            ours = dataset.get(edit.id, edit)
            if (edit.image.digest, edit.drags) != (ours.image.digest, ours.drags):
                raise _Missing("another edit", f"not the edit of this id in {self.dataset.path}")
            record = plan.stages[RESULT].record
            assert record is not None
            drag = plan.stages["optimize_latent"].record
            return Candidate.of_record(self.store, record), drag

        absent = [name for name in self.dataset.order if name not in job.order]
        unmade = [MissingResult(each.id, "cannot be done", each.reason) for each in job.bad]
        unmade += [MissingResult(name, "not in the job", str(job.path)) for name in absent]
        seeds = tuple(sorted({edit.config.seed for edit in job.edits}))
        return replace(self._row(job.name, job.edits, find, unmade), seeds=seeds)

    def taken_over(self, row: Row, job: Job | None) -> Row:
        """Take what a finished row says of the edits of the dataset, made as it would be now.

        Args:
            job: of the row; None for a control.
        """
        scored = {edit.id: edit for edit in row.scored}
        gone = {missing.id: missing for missing in row.missing}
        own = {edit.id: edit for edit in (job or self.dataset).edits}
        bad = job.bad if job else ()
        kept = list[ScoredEdit]()
        missing = [MissingResult(each.id, "cannot be done", each.reason) for each in bad]
        for edit in self.dataset.edits:
            if edit.id not in own:  # named above
                continue
            found = scored.get(edit.id)
            if found is None:
                absent = MissingResult(edit.id, "not made", "not in its CSV")
                missing.append(gone.get(edit.id, absent))
            elif not edit.image.digest.startswith(found.image) or len(edit.drags) != found.pairs:
                missing.append(MissingResult(edit.id, "another edit", "of this id in its CSV"))
            elif found.recipe != self._recipe(own[edit.id], None if job else row.name)[:SHORT]:
                reason = "its CSV is of a result that was made or judged with others"
                missing.append(MissingResult(edit.id, "other settings", reason))
            else:
                kept.append(replace(found, image=edit.image.digest))
        seeds = tuple(sorted({edit.config.seed for edit in job.edits})) if job else ()
        return replace(
            row, scored=tuple(kept), missing=tuple(missing), seeds=seeds, control=job is None
        )

    def _recipe(self, edit: Edit, control: str | None) -> str:
        """Return a digest of all that a line of a row is made of."""
        if control is None:
            made_of = recipe(edit, self.settings)
        elif control == RECONSTRUCT:
            made_of = recipe(reconstruction(edit), self.settings)
        else:
            made_of = Digest("")
        return digest_json("line", [made_of, self.judge.yardstick(edit, control)])

    def show(self, job: Job, row: Row, out: Path) -> None:
        """Save a picture of the best, the middle and the worst results of a job's row."""
        edits = {edit.id: edit for edit in job.edits}

        def result(name: str) -> tuple[Edit, Pixels | None]:
            (plan,) = plan_edits([edits[name]], self.store)
            record = plan.stages[RESULT].record
            try:
                return edits[name], self.store.read(record)["image"] if record else None
            except ArtifactCorrupt:  # judged before; the next run makes it anew
                return edits[name], None

        with writing(out):
            write_extremes(row, result, out / "pictures" / f"{_file_name(row.name)}.png")

    def control_rows(self) -> list[Row]:
        """Judge the controls on all edits of the dataset."""
        return [self.control_row(name) for name in CONTROLS]

    def control_row(self, name: str) -> Row:
        """Judge a control on all edits of the dataset."""

        def find(edit: Edit) -> tuple[Candidate, None]:
            if name == RECONSTRUCT:
                return Candidate.of_record(self.store, self._reconstructed(edit)), None
            return Candidate.of_control(name, edit), None

        return replace(self._row(name, self.dataset.edits, find, control=name), control=True)

    def _reconstructed(self, edit: Edit) -> Record:
        """Return the image that sampling without a drag gives; it is made once per image."""
        plain = reconstruction(edit)
        (plan,) = plan_edits([plain], self.store)
        for shared in ("train_lora", "invert_image"):
            if plan.stages[shared].status not in (Status.HIT, Status.KNOWN, Status.OFF):
                raise _Missing("not made", f"needs {shared}: run the job first")
        records = [self.bench.perform(stage, plain) for stage in plan.to_make or (RESULT,)]
        return records[-1]

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
        find: Callable[[Edit], tuple[Candidate, Record | None]],
        unmade: Sequence[MissingResult] = (),
        control: str | None = None,
    ) -> Row:
        scored, missing = dict[str, ScoredEdit](), list(unmade)
        # Edits of one image in a row: what is known of the image serves them all.
        in_turn = sorted(edits, key=lambda each: each.image.digest)
        with step_bar(name, self.console) as advance:
            for number, edit in enumerate(in_turn, start=1):
                try:
                    scored[edit.id] = self._scored(edit, *find(edit), control)
                except _Missing as gone:
                    missing.append(MissingResult(edit.id, gone.kind, str(gone)))
                except (AdaptiveDragError, ArtifactCorrupt) as error:
                    kind = MISSING_KINDS.get(type(error), "cannot be judged")
                    missing.append(MissingResult(edit.id, kind, str(error)))
                advance(number, len(edits))
        self.console.out(f"{name}: {len(scored)} judged, {len(missing)} missing")
        in_order = tuple(scored[edit.id] for edit in edits if edit.id in scored)
        return Row(name, in_order, tuple(missing))

    def _scored(
        self, edit: Edit, candidate: Candidate, drag: Record | None, control: str | None
    ) -> ScoredEdit:
        judgement = self.judge.judge(edit, candidate)
        measures = dict(judgement.measures)
        shorter = min(edit.image.width, edit.image.height)
        if drag is not None:
            points: Any = drag.summary["points"]
            measures["tracked_distance"] = [point["distance"] for point in points]
            measures["tracked_arrived"] = arrived(measures["tracked_distance"], shorter)
        if "true_distance" in measures:
            measures["true_arrived"] = arrived(measures["true_distance"], shorter)
        kind = judgement.kind or next(iter(edit.tags), "")
        made_of = self._recipe(edit, control)
        return ScoredEdit(edit.id, edit.image.digest, kind, len(edit.drags), measures, made_of)


class _Missing(Exception):
    """There is no result to judge; the message says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _why_missing(plan: EditPlan) -> tuple[str, str]:
    """Return of what kind a missing result is, and why it is missing."""
    if plan.stages[RESULT].status is Status.KNOWN:
        return "damaged", "its bytes are gone or damaged: run the job again"
    first = plan.stages[plan.to_make[0]]
    if first.made_otherwise:
        return "other settings", f"{first.stage} was made with others: {first.why}"
    return "not made", f"{first.stage} {first.why or first.status}: run the job"


def _write(evaluation: Evaluation, rows: Sequence[Row], out: Path) -> Path:
    for row in rows:
        _write_row(row, out)
    report = out / "results.md"
    with writing(out):
        (out / "results.json").write_text(as_json(evaluation), "utf-8")
        report.write_text(as_markdown(evaluation), "utf-8")
    return report


def _write_row(row: Row, out: Path) -> None:
    with writing(out):
        (out / "rows").mkdir(parents=True, exist_ok=True)
        (out / "rows" / f"{_file_name(row.name)}.csv").write_text(as_csv(row), "utf-8")
