"""The best, the middle and the worst results of a row of an evaluation, as one picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from stages.evaluate import source_image, true_result
from stages.images import Pixels
from stages.jobs.edit import Edit
from stages.reports.panel import sheet
from stages.reports.score_tables import Row, ScoredEdit
from stages.reports.srgb_png import save_png
from stages.reports.tiles import drag_tile
from stages.reports.verdicts import RANKED_BY
from stages.reports.wording import count

EACH = 2
"""Number of results shown of the best, of the middle and of the worst."""
SIDE = 192


def extremes(row: Row) -> tuple[str, dict[str, Sequence[ScoredEdit]]]:
    """Return the measure that ranks, and the best, the middle and the worst edits by it.

    Fewer where there are few; none where nothing that ranks was measured.
    """
    for measure in RANKED_BY:
        ranked = [each for each in row.scored if _value(each, measure) is not None]
        if ranked:
            break
    else:
        return "", {}
    ranked.sort(key=lambda each: -(_value(each, measure) or 0.0))
    rest = ranked[EACH:-EACH]
    middle = max(0, (len(rest) - EACH) // 2)
    found = {"best": ranked[:EACH], "middle": rest[middle : middle + EACH]}
    return measure, {**found, "worst": ranked[EACH:][-EACH:]}


def write_extremes(
    row: Row, show: Callable[[str], tuple[Edit, Pixels | None]], path: Path
) -> Path | None:
    """Save a PNG of them: the image with its drags, the truth where it is known, the result.

    Args:
        show: finds an edit, and its result if that is still there, by the edit's id.

    Returns:
        The path; None if there is nothing to show.

    Raises:
        InvalidEdit: if an edit's image cannot be read any more.
    """
    measure, chosen = extremes(row)
    tiles = []
    for place, members in chosen.items():
        for scored in members:
            edit, result = show(scored.id)
            if result is None:
                continue
            pixels = source_image(edit)
            tiles.append((f"{place}: {scored.id}", drag_tile(pixels, edit.drags, SIDE)))
            if edit.scene:
                truth = true_result(edit.scene, edit.image.width).truth
                tiles.append(("truth", drag_tile(truth, (), SIDE)))
            tiles.append((f"result: {_value(scored, measure):.2f}", drag_tile(result, (), SIDE)))
    if not tiles:
        return None
    ranked = f"by {measure.replace('_', ' ')}, of {count(len(row.scored), 'edit')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(
        sheet(row.name, f"the best, the middle and the worst {ranked}", tiles, columns=6), path
    )
    return path


def _value(scored: ScoredEdit, measure: str) -> float | None:
    values = [value for value in scored.measures.get(measure, ()) if value is not None]
    return mean(values) if values else None
