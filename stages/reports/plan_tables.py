"""A plan in words: tables, reasons, and a JSON document for other programs."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.filesize import decimal

from artifacts import ArtifactStore
from stages.planning.forecast import Forecast, StageForecast
from stages.planning.plan import EditPlan, JobPlan, Reason, Status
from stages.planning.variants import sharing
from stages.reports.wording import Table, count, duration, ended, first_of, warnings_of

SCHEMA = 1


def counts_table(plan: JobPlan) -> Table:
    """Count the edits by stage and status."""
    return _table(plan, {}, ())


def plan_table(plan: JobPlan, expected: Forecast) -> Table:
    """Count the edits by stage and status, and the artifacts to make, with their time and size."""
    cells = {
        name: (str(stage.missing or "·"), *_time_and_size(stage))
        for name, stage in expected.stages.items()
    }
    return _table(plan, cells, ("to make", "time", "size"))


def forecast_lines(expected: Forecast) -> Iterator[str]:
    """Return how long the missing artifacts will take, and whether the disk has room for them."""
    total = expected.total
    if not total.missing:
        yield "Nothing to do"
        return
    artifacts = f"To make: {count(total.missing, 'artifact')}"
    if total.unknown == total.missing:
        yield f"{artifacts}; time and size are unknown: the store has no similar ones"
    else:
        known = f"about {duration(total.seconds)} on {expected.device}, {decimal(total.size)}"
        unknown = f", and {total.unknown} of unknown time and size" if total.unknown else ""
        yield f"{artifacts}: {known}{unknown}"
    if expected.free is not None and total.size > expected.free:
        yield f"Not enough disk space: only {decimal(expected.free)} free"


def edit_lines(plan: JobPlan) -> Iterator[str]:
    """Give the status of each stage of each edit."""
    for each in plan.edits:
        statuses = ", ".join(f"{name} {staged.status}" for name, staged in each.stages.items())
        yield f"{each.edit.id}: {statuses}"


def reason_lines(plan: JobPlan) -> Iterator[str]:
    """Return why stages have to run, or are off; edits with the same reason share a line."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in plan.edits:
        for name, staged in each.stages.items():
            if staged.why and (name in each.to_make or staged.status is Status.OFF):
                reason = (name, f"{staged.status}: {staged.why}")
                found.setdefault(reason, []).append(each.edit.id)
    for (stage, why), ids in found.items():
        yield f"{stage} {why} ({first_of(ids)})"


def variant_lines(plan: JobPlan) -> Iterator[str]:
    """Return what variants share with the job as it is."""
    for each in sharing(plan.edits):
        shared = f"shares {', '.join(each.shared)}" if each.shared else "shares nothing"
        own = f"; its own: {', '.join(each.own)}" if each.own else ""
        yield f"{each.variant} ({count(each.edits, 'edit')}) {shared}{own}"


def explained_lines(edit_id: str, reasons: Mapping[str, Reason]) -> Iterator[str]:
    """Give the status of each stage of an edit, the reason, and the record it was compared with."""
    for name, reason in reasons.items():
        yield f"{edit_id} {name} {reason.status}" + (f": {reason.text}" if reason.text else "")
        nearest = reason.explanation.nearest
        if nearest:
            made = f"made {nearest.circumstances.started}, record {nearest.number}"
            yield f"  compared with {nearest.key[:12]}, {made}"


def stages_table(plan: EditPlan) -> Table:
    """Show the stages of one edit, and what each reports of its work."""
    rows = []
    for name, staged in plan.stages.items():
        record = staged.record
        seconds = f"{record.circumstances.seconds:.1f}" if record else ""
        key = staged.key[:12] if staged.key else ""
        notes = _summary_line(record.summary) if record else staged.why
        rows.append([name, str(staged.status), seconds, key, notes])
    return Table(["stage", "status", "seconds", "key", "summary"], rows)


def plan_document(plan: JobPlan, expected: Forecast, store: ArtifactStore) -> dict[str, Any]:
    """Return a plan as JSON; docs/plan.md says what its fields mean."""
    job, total = plan.job, expected.total
    return {
        "schema": SCHEMA,
        "job": job.name,
        "path": str(job.path),
        "store": store.location,
        "edits": len(plan.edits),
        "done": sum(each.done for each in plan.edits),
        "bad": [{"id": bad.id, "line": bad.line, "reason": bad.reason} for bad in job.bad],
        "device": expected.device or None,
        "free_bytes": expected.free,
        "to_make": _amounts(total),
        "stages": {
            name: {
                "edits": {str(status): numbers[status] for status in Status},
                "to_make": _amounts(expected.stages[name]),
            }
            for name, numbers in plan.counts().items()
        },
        "variants": [each._asdict() for each in sharing(plan.edits)],
        "plans": [_edit_document(each) for each in plan.edits],
    }


def explained_document(edit_id: str, reasons: Mapping[str, Reason]) -> dict[str, Any]:
    """Return why the stages of an edit have to run as JSON; docs/plan.md describes it."""
    return {
        "schema": SCHEMA,
        "edit": edit_id,
        "stages": {name: _reason_document(reason) for name, reason in reasons.items()},
    }


def _table(plan: JobPlan, cells: Mapping[str, tuple[str, ...]], titles: tuple[str, ...]) -> Table:
    counts = plan.counts()
    used = [status for status in Status if any(count[status] for count in counts.values())]
    rows = [
        [stage, *(str(numbers[status] or "·") for status in used), *cells.get(stage, ())]
        for stage, numbers in counts.items()
    ]
    return Table(["stage", *map(str, used), *titles], rows)


def _time_and_size(stage: StageForecast) -> tuple[str, str]:
    if not stage.missing:
        return "·", "·"
    if stage.unknown == stage.missing:
        return "unknown", "unknown"
    more = "+" if stage.unknown else ""
    return duration(stage.seconds) + more, decimal(stage.size) + more


def _amounts(stage: StageForecast) -> dict[str, Any]:
    known = stage.missing > stage.unknown or not stage.missing
    return {
        "artifacts": stage.missing,
        "unknown": stage.unknown,
        "seconds": stage.seconds if known else None,
        "bytes": stage.size if known else None,
        "records": stage.records,
    }


def _edit_document(plan: EditPlan) -> dict[str, Any]:
    return {
        "id": plan.edit.id,
        "done": plan.done,
        "to_make": list(plan.to_make),
        "notes": list(plan.edit.notes),
        "stages": {
            name: {"status": str(staged.status), "key": staged.key, "why": staged.why}
            for name, staged in plan.stages.items()
        },
    }


def _reason_document(reason: Reason) -> dict[str, Any]:
    nearest = reason.explanation.nearest
    return {
        "status": str(reason.status),
        "key": reason.key,
        "why": reason.text,
        "failure": str(reason.failure) if reason.failure else None,
        "compared_with": nearest and {"key": nearest.key, "record": nearest.number},
        "differences": [
            {
                "kind": each.kind,
                "name": each.name,
                "old": each.old,
                "new": each.new,
                "said": each.said,
                "cause": each.cause or None,
            }
            for each in reason.explanation.differences
        ],
    }


def _summary_line(summary: Mapping[str, Any]) -> str:
    """Return a stage's summary without its long lists."""
    short = {name: value for name, value in summary.items() if not isinstance(value, list | dict)}
    lines = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in short.items()
        if value not in (None, "")
    ]
    points = map(ended, summary.get("points", []))
    return ", ".join([*lines, *points, *warnings_of(summary)])
