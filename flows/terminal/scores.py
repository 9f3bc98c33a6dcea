"""Evaluations: of one job, of two side by side, and of the ablation."""

from pathlib import Path
from typing import NoReturn

from adaptivedrag.presets import DEFAULT_PRESET
from flows.evaluation.ablation import evaluate_ablation
from flows.evaluation.judging import Evaluated, evaluate_job
from flows.run_job import end_process
from flows.terminal.console import console, say, say_list, say_table
from flows.terminal.jobs import load
from stages.jobs.selection import Selection
from stages.reports.score_tables import Evaluation
from stages.reports.wording import Table


def measure_job(
    path: Path,
    against: Path | None,
    select: Selection,
    out: Path | None,
    dift: str | None,
    store: str,
    device: str,
) -> NoReturn:
    """Judge the results of a job, print the means, and end the process."""
    job = load(path, select)
    evaluated = evaluate_job(
        job,
        store_location=store,
        against=load(against, select) if against else None,
        out=out or Path("results") / job.name / "evaluation",
        dift=dift,
        device=device,
        console=console(),
    )
    _end(evaluated)


def run_ablation(
    directory: Path,
    preset: str | None,
    only: str | None,
    out: Path | None,
    dift: str | None,
    store: str,
    device: str,
) -> NoReturn:
    """Run and judge the rows of an ablation, print the means, and end the process."""
    evaluated = evaluate_ablation(
        directory,
        preset=preset,
        only=[name.strip() for name in only.split(",")] if only else (),
        store_location=store,
        out=out or Path("results") / f"ablation-{preset or DEFAULT_PRESET}",
        dift=dift,
        device=device,
        console=console(),
    )
    _end(evaluated)


def _end(evaluated: Evaluated) -> NoReturn:
    say_table(means_table(evaluated.evaluation))
    for row in evaluated.evaluation.rows:
        say_list(f"Missing in {row.name}", [str(missing) for missing in row.missing])
    say_list("Not available", evaluated.evaluation.unavailable)
    say(f"Tables: {evaluated.report}")
    end_process(evaluated)


def means_table(evaluation: Evaluation) -> Table:
    """Return the means of every row; intervals are in the files."""
    metrics = [metric for metric in evaluation.metrics if metric.shown]
    rows = []
    for row in evaluation.rows:
        means = [(metric, row.means.get(metric.name)) for metric in metrics]
        cells = [f"{mean.mean:.{metric.digits}f}" if mean else "–" for metric, mean in means]
        rows.append([row.name, str(row.counts["edits"]), *cells])
    return Table(["row", "edits", *(metric.title for metric in metrics)], rows)
