"""Ablations: the rows of the paper's Tables 1 and 2, each run as a job of its own and judged."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptivedrag.config import BuildMaskConfig, EditConfig, SampleImageConfig, overlaid
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.methods.optimization import Optimization
from adaptivedrag.methods.supervised import SupervisedMethod
from adaptivedrag.presets import DEFAULT_PRESET
from adaptivedrag.presets import preset as find_preset
from flows.evaluation.judging import Evaluated, Jury, write_evaluation, write_row
from flows.outcomes import InvalidRequest
from flows.request import RunRequest
from flows.run_job import run
from stages.jobs.edit import BASELINE, Job, by_variant
from stages.jobs.reader import load_job, read_settings
from stages.jobs.toml import toml_document
from stages.reports.place import writing
from stages.reports.score_tables import MissingResult, Row

ROWS = "ablation.toml"


def evaluate_ablation(
    directory: Path,
    *,
    preset: str | None = None,
    only: Sequence[str] = (),
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
        preset: the method whose modules are switched one by one; the default one if None.
        only: names of rows; all by default.

    Raises:
        InvalidRequest: for a row that does not exist.
        InvalidEdit, ModelUnavailable, StoreUnavailable, ReportUnwritable: nothing could start.
    """
    preset = preset or DEFAULT_PRESET
    find_preset(preset)
    dataset = by_variant(load_job(directory / "job.toml"))[BASELINE]
    rows = _chosen(ablation_rows(preset), only)
    jury = Jury.open(dataset, store_location, dift, device, console)
    judged: list[Row] = []
    jobs: dict[str, Job] = {}
    silent = interrupted = False
    for name, changes in rows.items():
        with writing(directory):
            path = write_row_job(directory, name, changes)
        try:
            job = jobs[name] = load_job(path)
            request = RunRequest(out=str(out / "runs" / name))
            summary = run(job, store_location, request, console=console)
        except InvalidEdit as error:  # this row cannot be run; the others can
            judged.append(_refused(name, dataset, error))
            continue
        judged.append(jury.job_row(job))
        write_row(judged[-1], out)
        jury.show(job, judged[-1], out)
        silent |= summary.prefect_is_silent
        interrupted = summary.interrupted
        if interrupted:
            break
    reference = preset if preset in rows else judged[0].name
    judged += jury.control_rows(jobs.get(reference, dataset))
    evaluation = jury.evaluation(f"Ablation of {preset}", judged, reference)
    return Evaluated(evaluation, write_evaluation(evaluation, out), interrupted, silent)


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
        if _changes(own, changes)
    }
    return {**table["rows"], preset: {"preset": preset}, **modules}


def _changes(own: EditConfig, changes: dict[str, Any]) -> bool:
    """Return whether changes make a difference to settings that have what they change."""
    if "lora" in changes:
        trained: bool = changes["lora"] == "train"
        return own.samples and trained == bool(own.optimize_latent.no_lora("auto"))
    drag = changes.get("optimize_latent", {})
    if "method" not in drag and drag.keys() - {*type(own.optimize_latent).model_fields}:
        return False
    return _acting(own.merged(changes)) != _acting(own)


def _acting(config: EditConfig) -> EditConfig:
    """Return settings with those at their defaults that do nothing beside the others."""
    idle: dict[str, dict[str, Any]] = {"build_mask": {}, "optimize_latent": {}}
    idle["sample_image"] = SampleImageConfig().model_dump(include={*config.idle_in_sampling})
    if config.build_mask.mode not in ("superpixel_line", "union"):
        idle["build_mask"]["line_extension"] = BuildMaskConfig().line_extension
    drag = config.optimize_latent
    if isinstance(drag, Optimization) and not drag.backtracking:
        idle["optimize_latent"]["overshoot_returns"] = Optimization().overshoot_returns
    if isinstance(drag, SupervisedMethod) and not (
        drag.regions_in_supervision or drag.regions_in_tracking
    ):
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
