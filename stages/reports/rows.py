"""The row of an edit in the table of results: what is known of it, whatever became of it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from stages.failures import Failure
from stages.jobs.edit import BadEdit
from stages.pipeline import WITNESS
from stages.planning.plan import EditPlan, Status
from stages.reports.verdicts import figures
from stages.reports.wording import warnings_of

ResultRow: TypeAlias = dict[str, Any]

FORM = 4
"""Raise when rows change, so that old ones are not taken over."""
DRAWING = 2
"""Raise when pictures are drawn differently, so that old ones are not taken for new."""

_PICTURES: ResultRow = {"source": None, "truth": None, "overlays": {}, "thumbs": {}}
_MEASURES = {"outside": None, "mask_share": None, "score": None, "scored_by": None}


def row_of(plan: EditPlan, failure: Failure | None) -> ResultRow:
    """Return the row of an edit before anything is drawn of it.

    Its status is "unfinished", "failed", or "done" where the result is there.
    """
    edit, records, drag = plan.edit, plan.records, plan.drag
    seconds = {name: record.circumstances.seconds for name, record in records.items()}
    points = plan.witness.get("points", [])
    row = {
        "form": FORM,
        "id": edit.id,
        "status": "done" if plan.done else "unfinished",
        "prompt": edit.prompt,
        "tags": list(edit.tags),
        "input": str(edit.image_path),
        "width": edit.image.width,
        "height": edit.image.height,
        "notes": list(edit.notes),
        "drags": [[*map(list, drag)] for drag in edit.drags],
        "verdict": plan.witness.get("verdict"),
        "points": points,
        **figures(points),
        **_MEASURES,
        "not_witnessed": plan.not_witnessed,
        "tracker": {"verdict": drag.get("verdict"), "points": drag.get("points", [])},
        "steps": drag.get("steps"),
        "budget": drag.get("budget"),
        "off": {name: s.why for name, s in plan.stages.items() if s.status is Status.OFF},
        "warnings": [w for record in records.values() for w in warnings_of(record.summary)],
        "seconds": round(sum(seconds.values()), 3),
        "stage_seconds": seconds,
        "devices": {name: record.circumstances.device for name, record in records.items()},
        "keys": {name: record.key for name, record in records.items()},
        **_PICTURES,
    }
    return row | _failed(plan, failure) if failure else row


def _failed(plan: EditPlan, failure: Failure) -> ResultRow:
    reason = f"{failure.stage}: {failure.kind}: {failure.message}"
    if plan.done and failure.stage == WITNESS.name:  # the picture is good
        return {"not_witnessed": reason}
    return {"status": "failed", "reason": reason, "failure": _document(failure)}


def _document(failure: Failure) -> dict[str, str]:
    return {"stage": failure.stage, "kind": failure.kind, "message": failure.message}


def damaged_row(row: ResultRow, stage: str, damage: Exception) -> ResultRow:
    """Return the row of an edit whose result cannot be read any more."""
    reason = f"the result is damaged, run again: {damage}"
    failure = Failure(row["id"], stage, type(damage).__name__, reason)
    said = {"reason": reason, "failure": _document(failure), "object_damaged": True}
    return {**row, "status": "failed", **said}


def bad_row(bad: BadEdit) -> ResultRow:
    """Return the row of an edit that cannot be done as it is written."""
    return {
        "form": FORM,
        "id": bad.id,
        "status": "bad",
        "line": bad.line,
        "field": bad.field,
        "reason": bad.reason,
        "tags": list(bad.tags),
        **_PICTURES,
    }


def made_of(plan: EditPlan, failure: Failure | None) -> str:
    """Return a digest of everything that a row says."""
    edit = plan.edit
    stages = [
        (staged.status.value, staged.key or staged.why, staged.found and staged.found.number)
        for staged in plan.stages.values()
    ]
    image = edit.image_path, edit.image.digest, edit.notes
    what = FORM, DRAWING, edit.id, edit.prompt, edit.tags, image, edit.drags, stages, failure
    return hashlib.sha256(repr(what).encode(errors="surrogateescape")).hexdigest()[:32]


def keys_of(row: ResultRow) -> Collection[str]:
    """Return the keys of the artifacts that an edit has."""
    keys: dict[str, str] = row.get("keys", {})
    return keys.values()


def ends_of(row: ResultRow) -> list[list[float]]:
    """Return where the witness finds handles; one that is lost is nowhere."""
    return [[*end] for point in row.get("points", ()) if (end := end_of(point))]


def end_of(point: Mapping[str, Any]) -> Sequence[float] | None:
    """Return where the witness finds the handle of one drag; None if it is lost."""
    return None if point["verdict"] == "lost" else point["end"]


def pictures_of(row: ResultRow) -> Sequence[str]:
    """Return the paths of a row's pictures, but for the edited image."""
    found = [row["source"], row["truth"], *row["overlays"].values(), *row["thumbs"].values()]
    return [path for path in found if path is not None]
