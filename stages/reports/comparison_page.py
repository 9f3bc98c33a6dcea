"""The page of a comparison.

OUT/compare.html         differences with their intervals, which need no script, and all edits
OUT/comparison/0001.js   the edits, those with the largest differences first
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from stages.reports.comparison import AS_NEAR, Change, Comparison, Line, Side
from stages.reports.page import COMPARED, EDITS, address_of
from stages.reports.place import Place
from stages.reports.rendering import ASSETS, addresses, asset, render, script_files
from stages.reports.rows import ResultRow, ends_of
from stages.reports.score_tables import Metric
from stages.reports.wording import count, first_of

DATA = "comparison"
SCRIPTS = ("viewer.js", "listing.js", "compare.js")
STYLES = ("page.css", "viewer.css", "listing.css", "compare.css")


def write_page(comparison: Comparison, place: Place) -> None:
    """Write the page of a comparison; the page itself last, since it names the other files.

    Raises:
        ReportUnwritable: if the place cannot be written.
    """
    changes = [comparison.changes(number) for number in range(1, len(comparison.sides))]
    common = [_common(each) for each in changes]
    data = script_files(DATA, _data(comparison, changes, common, place.names(EDITS)))
    assets = {f"{ASSETS}/{name}": asset(name) for name in (*SCRIPTS, *STYLES)}
    for path, written in {**assets, **data}.items():
        place.put_changed(path, written)
    place.delete(sorted(place.names(DATA) - data.keys()))
    page = _page(comparison, common, [any(each.values()) for each in changes], addresses(data))
    place.put(COMPARED, page.encode(errors="replace"))


def _page(
    comparison: Comparison,
    common: Sequence[Sequence[Change]],
    is_otherwise: Sequence[bool],
    files: Sequence[str],
) -> str:
    first, *others = comparison.sides
    return render(
        "compare.html",
        title=comparison.name,
        styles=[name for name in STYLES if name != "page.css"],
        scripts=SCRIPTS,
        first=first.name,
        many=len(others) > 1,
        as_near=AS_NEAR,
        others=[
            _section(comparison, number, side, common[number - 1], is_otherwise[number - 1])
            for number, side in enumerate(others, start=1)
        ],
        settings={
            "files": files,
            "total": len(comparison.ids),
            "sides": [side.name for side in comparison.sides],
            "metrics": [
                {"name": m.name, "title": m.title, "better": m.better, "digits": m.digits}
                for m in comparison.metrics
            ],
            "nearer": [comparison.metrics.index(metric) for metric in comparison.nearer_by],
            "as_near": AS_NEAR,
        },
    )


def _section(
    comparison: Comparison,
    number: int,
    side: Side,
    common: Sequence[Change],
    is_otherwise: bool,
) -> dict[str, Any]:
    """Return what is said of a side on top."""
    return {
        "name": side.name,
        "counts": nearer_line(comparison, number),
        "alone": alone_lines(comparison, number),
        "common": common,
        "is_otherwise": is_otherwise,
        "lines": told_lines(comparison, number),
    }


def nearer_line(comparison: Comparison, number: int) -> str:
    """Say which of two sides is nearer to the target, and how often."""
    nearer, first = comparison.nearer(number), comparison.sides[0].name
    told = {
        "second": f"{comparison.sides[number].name} is nearer in",
        "first": f"{first} is nearer in",
        "equal": "both are equally near in",
        "unknown": "no distance is known of",
    }
    if not nearer:
        return "No edit has a result on both sides."
    parts = [f"{words} {nearer[which]}" for which, words in told.items() if nearer[which]]
    return f"Of {count(nearer.total(), 'edit')} that both have: {', '.join(parts)}."


def alone_lines(comparison: Comparison, number: int) -> list[str]:
    """Say which edits only one of two sides has, or neither, and why."""
    return [
        f"{f'{name} lacks' if name else 'Both lack'} {count(len(ids), 'edit')}: {reason} "
        f"({first_of(ids)})"
        for name, reason, ids in comparison.alone(number)
    ]


class ToldLine(NamedTuple):
    """A line of the table in words: its cells, and a class for the color of the difference."""

    cells: tuple[str, ...]
    quality: str


def told_lines(comparison: Comparison, number: int) -> list[ToldLine]:
    """Return the means of two sides and their differences, metric by metric."""
    return [_told(line) for line in comparison.lines(number)]


def _told(line: Line) -> ToldLine:
    digits, found = line.metric.digits, line.difference
    few = found.images < 2  # one image has no interval
    cells = (
        f"{line.metric.title} {'↑' if line.metric.better == 'higher' else '↓'}",
        f"{line.first:.{digits}f}",
        f"{line.second:.{digits}f}",
        _signed(found.mean, digits),
        "–" if few else f"{_signed(found.low, digits)} to {_signed(found.high, digits)}",
        str(line.edits),
    )
    return ToldLine(cells, {"first": "bad", "second": "good", "": ""}[line.favors])


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    sign = "" if float(text) == 0 else "−" if value < 0 else "+"
    return sign + text


def _common(changes: Mapping[str, Sequence[Change]]) -> list[Change]:
    """Return what is otherwise in every edit."""
    found = [*changes.values()]
    return [each for each in (found[0] if found else ()) if all(each in other for other in found)]


def _data(
    comparison: Comparison,
    changes: Sequence[Mapping[str, Sequence[Change]]],
    common: Sequence[Sequence[Change]],
    pages: Set[str],
) -> Iterator[dict[str, Any]]:
    """Yield what the page says of each edit, the largest difference first.

    Args:
        pages: of single edits.
    """
    edits = [_datum(comparison, edit, pages) for edit in comparison.ids]
    for datum in sorted(edits, key=lambda datum: -_difference(datum["sides"])):
        own = [
            [change for change in each.get(datum["id"], ()) if change not in shared]
            for each, shared in zip(changes, common, strict=True)
        ]
        yield {**datum, "changes": own} if any(own) else datum


def _difference(sides: Sequence[Mapping[str, Any]]) -> float:
    """Return the largest difference of a side by the first metric; -1 if none is known."""
    first, *others = (side.get("values", [None])[0] for side in sides)
    known = [each for each in others if each is not None]
    return -1.0 if first is None else max((abs(each - first) for each in known), default=-1.0)


def _datum(comparison: Comparison, edit: str, pages: Set[str]) -> dict[str, Any]:
    rows = [comparison.row(side, edit) for side in comparison.sides]
    known: ResultRow = next(row for row in rows if row)
    drags = [[*handle, *target] for handle, target in known["drags"]]
    shown = {name: known.get(name) for name in ("prompt", "tags", "source", "truth")}
    return {
        "id": edit,
        "width": known["width"],
        "height": known["height"],
        "drags": drags,
        **{name: value for name, value in shown.items() if value},
        "sides": [
            _side(comparison, number, edit, row or {}, pages) for number, row in enumerate(rows)
        ],
    }


def _side(
    comparison: Comparison, number: int, edit: str, row: ResultRow, pages: Set[str]
) -> dict[str, Any]:
    side, scored = comparison.sides[number], comparison.scored[number].get(edit)
    own = address_of(edit + side.suffix)
    found = {
        "why": comparison.lacks(side, edit),
        "verdict": row.get("verdict"),
        "image": row.get("image"),
        "thumb": row.get("thumbs", {}).get("after"),
        "page": own if own in pages and row.get("has_page") else None,
        "ends": ends_of(row),
        "values": scored and [_rounded(comparison.value(scored, m), m) for m in comparison.metrics],
    }
    return {name: value for name, value in found.items() if value}


def _rounded(value: float | None, metric: Metric) -> float | None:
    return None if value is None else round(value, metric.digits + 1)
