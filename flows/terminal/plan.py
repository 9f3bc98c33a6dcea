"""Plans: what is missing of a job, and why."""

import json
from collections.abc import Sequence
from pathlib import Path

from artifacts import ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, InvalidRequest
from flows.terminal.arguments import parse_settings
from flows.terminal.console import say, say_list, say_table
from flows.terminal.jobs import load, note_absence, note_bad, note_inputs
from stages.jobs.edit import find_edit
from stages.jobs.selection import Selection
from stages.pipeline import STAGE_NAMES
from stages.planning import plan as planning
from stages.planning.forecast import forecast
from stages.reports import plan_tables


def show_plan(
    path: Path,
    select: Selection,
    settings: Sequence[str],
    store: str,
    device: str,
    *,
    edits: bool,
    as_json: bool,
) -> int:
    """Print the plan of a job with its forecast, as a table or as JSON."""
    job = load(path, select, parse_settings({}, settings))
    opened = ArtifactStore.open_to_read(store)
    plan = planning.plan_job(job, opened, explain=True)
    expected = forecast(plan, opened, device)
    if as_json:
        say(json.dumps(plan_tables.plan_document(plan, expected, opened), indent=2))
    else:
        note_inputs(job)
        say_table(plan_tables.plan_table(plan, expected))
        for line in plan_tables.forecast_lines(expected):
            say(line)
        say_list("Variants, beside the job as it is", [*plan_tables.variant_lines(plan)])
        for line in plan_tables.edit_lines(plan) if edits else ():
            say(line)
        for line in plan_tables.reason_lines(plan):
            say(line)
        note_absence(opened)
        note_bad(job)
    return SOME_FAILED if job.bad else ALL_DONE


def explain_edit(
    path: Path,
    name: str | None,
    stage: str | None,
    select: Selection,
    store: str,
    *,
    as_json: bool,
) -> int:
    """Print why the stages of an edit, or one of them, have to run or have not.

    Raises:
        InvalidRequest: for a stage without an edit, or one that does not exist.
    """
    if not name:
        raise InvalidRequest(f"{stage!r} is one argument too many: name an edit with --why EDIT")
    if stage and stage not in STAGE_NAMES:
        raise InvalidRequest(f"There is no stage {stage!r}; stages: {', '.join(STAGE_NAMES)}.")
    edit = find_edit(load(path, select), name)
    found = planning.explain_edit(edit, ArtifactStore.open_to_read(store))
    found = {each: reason for each, reason in found.items() if stage in (None, each)}
    if as_json:
        say(json.dumps(plan_tables.explained_document(name, found), indent=2))
    else:
        for line in plan_tables.explained_lines(name, found):
            say(line)
    return ALL_DONE
