"""Jobs, variants of a job, or what it had before, side by side."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from artifacts import ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, InvalidRequest
from flows.terminal.arguments import parse_settings
from flows.terminal.console import say, say_list, say_table
from flows.terminal.jobs import load, usual_out
from stages.jobs.edit import Job
from stages.jobs.ids import legal_id
from stages.jobs.selection import Selection
from stages.jobs.spec import LONGEST_VARIANT
from stages.planning.earlier import earlier_plans
from stages.planning.plan import EditPlan, plan_edits
from stages.reports.comparison import (
    Comparison,
    Side,
    aligned,
    joined,
    judged_of,
    side_of,
    sides_of_past,
    sides_of_variants,
)
from stages.reports.comparison_page import alone_lines, nearer_line, told_lines, write_page
from stages.reports.page import COMPARED
from stages.reports.place import Place
from stages.reports.results import OWNER, Results
from stages.reports.wording import Table


def compare(
    path: Path,
    other: Path | None,
    before: bool,
    settings: Sequence[str],
    select: Selection,
    out: str | None,
    store: str,
) -> int:
    """Write the page of a comparison; print the differences and where the page is.

    Raises:
        InvalidRequest: if it is not said what to compare, or more than one thing is.
    """
    beside = parse_settings({}, settings)
    job = load(path, select, beside)
    if sum(map(bool, (other, before, beside))) > 1:
        raise InvalidRequest("OTHER, --before and --set exclude each other: give one.")
    if not (other or before or job.variants):
        raise InvalidRequest(
            f"{path} has no variants: name another job, --before, or a setting with --set."
        )
    if other:
        return _compare_jobs(job, load(other, select), out, store)
    if before:
        return _compare_with_past(job, out, store)
    return compare_variants(job, out or usual_out(job, beside), store)


def compare_variants(job: Job, out: str, store: str) -> int:
    """Show the variants of a job beside it as it is, on a page among its results."""
    opened = ArtifactStore.open(store, create=False)
    plans = plan_edits(job.edits, opened)
    sides = sides_of_variants(job, plans)
    return _show(f"Variants of {job.name}", sides, Results.open(job, opened, out), plans)


def _compare_jobs(first: Job, second: Job, out: str | None, store: str) -> int:
    if first.path == second.path:
        raise InvalidRequest(f"{first.path} is named twice: name another job, or --before.")
    opened = ArtifactStore.open(store, create=False)
    names = [first.name, second.name]
    if names[0] == names[1]:
        names = [f"{name} {letter}" for name, letter in zip(names, "AB", strict=True)]
    suffix = f".{legal_id(names[1])[:LONGEST_VARIANT]}"
    sides = [
        side_of(names[0], "", first, plan_edits(first.edits, opened)),
        side_of(names[1], suffix, second, plan_edits(second.edits, opened)),
    ]
    usual = f"results/compare-{legal_id(names[0])}-{legal_id(names[1])}"
    return _show_joined(f"{names[1]} against {names[0]}", sides, first, out or usual, opened)


def _compare_with_past(job: Job, out: str | None, store: str) -> int:
    opened = ArtifactStore.open(store, create=False)
    plans = plan_edits(job.edits, opened)
    sides = sides_of_past(job, plans, earlier_plans(plans, opened))
    name = f"{job.name} now against before"
    return _show_joined(name, sides, job, out or f"results/{job.name}-before", opened)


def _show_joined(name: str, sides: Sequence[Side], job: Job, out: str, store: ArtifactStore) -> int:
    """Show sides on a page of their own, among results of both."""
    sides = aligned(sides)
    whole, plans = joined(sides, job, name)
    _refuse_other_results(name, out)
    return _show(name, sides, Results.open(whole, store, out), plans)


def _refuse_other_results(name: str, out: str) -> None:
    """Refuse a place with the results of a job, or of another comparison."""
    found = name
    with suppress(ValueError, KeyError, TypeError):
        found = json.loads(Place(out).get(OWNER))["name"]
    if found != name:
        raise InvalidRequest(f"--out {out} has the results of {found}: name another.")


def _show(name: str, sides: Sequence[Side], results: Results, plans: Sequence[EditPlan]) -> int:
    failures = [failure for plan in plans if (failure := plan.last_failure)]
    damaged = results.finish(plans, failures)
    comparison = Comparison(name, tuple(sides), results.rows, judged_of(results.store, sides))
    write_page(comparison, results.place)
    results.link_pages()
    say_list("Damaged", [f"{edit}: {reason}" for edit, reason in damaged.items()])
    for number in range(1, len(sides)):
        _say_side(comparison, number)
    say(f"Comparison: {results.place.out.rstrip('/')}/{COMPARED}")
    return SOME_FAILED if damaged else ALL_DONE


def _say_side(comparison: Comparison, number: int) -> None:
    first, second = comparison.sides[0].name, comparison.sides[number].name
    say(f"{second} against {first}")
    lines = told_lines(comparison, number)
    if lines:
        heads = ["mean", first, second, "difference", "interval", "edits"]
        say_table(Table(heads, [line.cells for line in lines]))
    for text in (nearer_line(comparison, number), *alone_lines(comparison, number)):
        say(f"  {text}")
