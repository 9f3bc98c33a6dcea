"""What became of an edit, in figures and words that help to decide what to do with it.

Verdicts speak by the independent witness: how far from its target a handle is in the picture that
came out, and what that is of the drag's length.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean, median
from typing import Any

Row = Mapping[str, Any]

ADVICE = {
    "keep": "arrived, and nothing is unusual",
    "look": "part of the way, or something is unusual",
    "drop": "less than half of the way, or its handle is not found",
    "again": "failed",
    "fix": "cannot be done as it is written",
    "wait": "not done yet",
}
"""What a person should do with an edit, and when that is said of it."""

RANKED_BY = ("arrival_recovery", "preservation")
"""What results are ranked by: the first that was measured; more is better."""

HALF = 0.5
"""An edit of which more than this share of its drags is left is not worth a look."""
FEWEST = 8
"""Fewer edits say nothing about what is usual."""
UNUSUAL = 5.0
"""Robust standard deviations from the median at which a value is unusual."""
MAD_TO_SIGMA = 1.4826
MEASURES = {
    "outside": (1.0, "{value:.1f} levels of change outside the mask; {usual:.1f} are usual"),
    "mask_share": (0.02, "the mask is {value:.0%} of the picture; {usual:.0%} are usual"),
    "seconds": (10.0, "{value:.0f} s of work; {usual:.0f} s are usual"),
}
"""What may be unusual about an edit: the least deviation that counts as one, and the words."""


def figures(points: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return what is left of an edit's drags by its witness.

    Returns:
        `distance`: the mean in pixels; `relative`: the mean share of the drag's length. None where
        there is no point, or none that moves.
    """
    moving = [(point["distance"], length) for point in points if (length := _length(point)) >= 1]
    return {
        "distance": round(mean(p["distance"] for p in points), 3) if points else None,
        "relative": round(mean(left / length for left, length in moving), 4) if moving else None,
    }


def _length(point: Mapping[str, Any]) -> float:
    return math.dist(point["handle"], point["target"])


def score(measures: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Return the measure by which results are ranked, of what `eval` found of one, and its name."""
    for name in RANKED_BY:
        if known := [value for value in measures.get(name, ()) if value is not None]:
            return {"score": round(mean(known), 4), "scored_by": name}
    return {"score": None, "scored_by": None}


def sentence(row: Row) -> str:
    """Explain an edit's verdict."""
    if row["status"] in ("failed", "bad"):
        return str(row["reason"])
    if row["status"] == "unfinished":
        shown = "; the picture was made with earlier settings" if row.get("earlier") else ""
        return f"Not done yet{shown}."
    if row.get("not_witnessed"):
        return f"No witness has seen where the handles are: {row['not_witnessed']}."
    return " ".join(filter(None, (_of_points(row), _of_mask(row))))


def _of_points(row: Row) -> str:
    points, verdict = row["points"], row["verdict"]
    share = "" if row["relative"] is None else f", {row['relative']:.0%} of the drag's length"
    if verdict == "no-op":
        return "The drag is shorter than a pixel: there was nothing to do."
    if len(points) > 1:
        arrived = sum(point["verdict"] == "reached" for point in points)
        return (
            f"The witness finds {arrived} of {len(points)} handles at their targets; "
            f"{row['distance']:.1f} px are left on average{share}."
        )
    if verdict == "lost":
        return "The witness finds nothing like the handle in the result."
    arrived = "it arrived" if verdict == "reached" else "it did not arrive"
    return (
        f"The witness finds the handle {row['distance']:.1f} px from its target{share}: {arrived}."
    )


def _of_mask(row: Row) -> str:
    if row.get("outside") is None:
        return ""
    return (
        f"Outside the mask, which is {row['mask_share']:.0%} of the picture, it changed by "
        f"{row['outside']:.1f} of 255 levels on average."
    )


def with_outliers(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Yield rows with what is unusual about each beside the job's others, and what to do."""
    rows = list(rows)
    usual = {name: _usual(rows, name, least) for name, (least, _) in MEASURES.items()}
    for row in rows:
        found = [] if row["status"] != "done" else [*_outliers(row, usual)]
        said = {"outliers": found, "sentence": sentence(row)}
        yield {**row, **said, "advice": _advice({**row, **said})}


def _usual(rows: Sequence[Row], name: str, least: float) -> tuple[float, float] | None:
    """Return the median of a measure over the finished edits, and the deviation from it."""
    values = [row[name] for row in rows if row["status"] == "done" and row.get(name) is not None]
    if len(values) < FEWEST:
        return None
    middle = median(values)
    return middle, max(least, MAD_TO_SIGMA * median(abs(value - middle) for value in values))


def _outliers(row: Row, usual: Mapping[str, tuple[float, float] | None]) -> Iterator[str]:
    for name, (_, words) in MEASURES.items():
        value, found = row.get(name), usual[name]
        if value is None or found is None:
            continue
        middle, deviation = found
        if abs(value - middle) > UNUSUAL * deviation:
            yield words.format(value=value, usual=middle)


def _advice(row: Row) -> str:
    status, relative = row["status"], row.get("relative")
    if status != "done":
        return {"failed": "again", "bad": "fix", "unfinished": "wait"}[status]
    if row.get("not_witnessed") or row["verdict"] == "no-op":
        return "look"
    if row["verdict"] == "lost" or (relative is not None and relative > HALF):
        return "drop"
    return "keep" if row["verdict"] == "reached" and not row["outliers"] else "look"
