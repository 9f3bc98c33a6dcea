"""The pages of tables in `docs/results`, made from CSVs.

    python tests/benchmarks/results_page.py docs/results

reads one CSV per row from the folders `hundred` and `ablation`, as `adaptivedrag eval ablation`
writes them to `OUT/rows`, and writes means, intervals and comparisons as Markdown beside them, and
the short table of `docs/results.md`. It needs neither a model nor a store.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from marked_tables import written

from adaptivedrag.config import EditConfig
from flows.evaluation.ablation import ablation_rows
from stages.evaluate import CONTROLS, Instruments
from stages.reports.score_tables import (
    AGREEMENT,
    METRICS,
    Evaluation,
    Row,
    as_markdown,
    compare,
    from_csv,
)

DATASETS = {"hundred": ("plus", "paper"), "ablation": ("paper", "plus")}
"""Folders of CSVs, and the rows that all others are compared with."""

MADE_BY = (
    "Written by `python tests/benchmarks/results_page.py docs/results` from the CSVs in this "
    "folder. [Results](../results.md) says what the numbers mean."
)
SUMS = (
    "In CSVs of rows that were measured before they held sums, what was at stake was rendered, and "
    "an error is (1 − the edit's recovery) × that, to six digits."
)
MODULES = (
    "`paper` with one module off or changed, minus `paper`, paired, on the 40 edits of the "
    "ablation, with 95 % bootstrap intervals. Bold: the interval excludes zero. Less is better "
    "for distances, more for the others."
)

MEASURED_WITH = Instruments(dift=None, device="cpu", fidelity=None, clip=None, unavailable=())
OF_MODULES = (
    "arrival_recovery",
    "preservation",
    "tracked_distance",
    "true_distance",
    "matched_distance",
)
"""Metrics in the table of modules."""

BASELINES = tuple(name for name in ablation_rows("paper") if name in ablation_rows("plus"))
"""The order of the rows; modules follow their preset."""


SHORT_ROWS = (
    *("do nothing", "erase", "paste", "dragdiffusion-80", "dragdiffusion-300"),
    *("released", "paper", "alternating", "plus"),
)
SHORT_METRICS = (
    *("arrival_recovery", "departure_recovery", "preservation", "true_distance"),
    *("true_arrived", "tracked_arrived", "witness_arrived"),
)
"""Rows and columns of the short table, as far as they were measured."""


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Read the rows of a dataset: baselines and presets, then their modules, then the controls."""
    paths = {path.stem: path for path in folder.glob("*.csv")}
    jobs = [name for preset in ("paper", "plus") for name in ablation_rows(preset)]
    jobs = sorted(dict.fromkeys(jobs), key=_place)
    found = []
    for name in (*jobs, *CONTROLS):
        path = paths.pop(name.replace(" ", "-"), None)
        if path is not None:
            row = from_csv(path.read_text("utf-8"), name)
            control = name in CONTROLS
            seeds = () if control else (EditConfig().seed,)
            found.append(replace(row, control=control, seeds=seeds))
    if paths:
        raise ValueError(f"`eval ablation` has no rows of these names: {', '.join(sorted(paths))}")
    return tuple(found)


def _place(name: str) -> int:
    return next(place for place, first in enumerate(BASELINES) if name.startswith(first))


def tables(rows: tuple[Row, ...], references: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the tables of one dataset, as `eval` writes them."""
    first, *others = (_sections(rows, reference) for reference in references)
    yield from (first.pop(""), "")
    for title in (title for title in first if title.endswith(("by kind of drag", AGREEMENT))):
        yield from (f"## {title}", "", first[title], "")
    for found in (first, *others):
        for title in (title for title in found if title.endswith("paired")):
            yield from (f"## {title}", "", found[title], "")
    missing = first["Missing results"]
    yield f"Missing results:\n\n{missing}" if missing != "None." else "No result is missing."


def modules(rows: tuple[Row, ...], preset: str = "paper") -> Iterator[str]:
    """Yield the lines of a table: each module changed in `preset`, minus the preset, paired."""
    by_name = {row.name: row for row in rows}
    shown = [metric for metric in METRICS if metric.name in OF_MODULES]
    yield f"| row | edits | {' | '.join(metric.title for metric in shown)} |"
    yield f"| --- | ---: |{' ---: |' * len(shown)}"
    for name, row in by_name.items():
        if not name.startswith(f"{preset}-"):
            continue
        found = compare(row, by_name[preset])
        cells = []
        for metric in shown:
            each = found.differences[metric.name]
            mean, low, high = (
                f"{value:+.{metric.digits}f}" for value in (each.mean, each.low, each.high)
            )
            text = f"{mean} ({low} to {high})"
            cells.append(f"**{text}**" if each.low > 0 or each.high < 0 else text)
        yield f"| `{name.removeprefix(f'{preset}-')}` | {found.edits} | {' | '.join(cells)} |"


def short_table(rows: tuple[Row, ...]) -> Iterator[str]:
    """Yield the lines of the short table: means without their intervals."""
    by_name = {row.name: row for row in rows}
    shown = [by_name[name] for name in SHORT_ROWS if name in by_name]
    by_metric = {metric.name: metric for metric in METRICS}
    metrics = [by_metric[name] for name in SHORT_METRICS if any(name in row.means for row in shown)]
    arrows = {"higher": "↑", "lower": "↓"}
    heads = (f"{metric.title} {arrows[metric.better]}" for metric in metrics)
    yield f"| row | {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * len(metrics)}"
    for row in shown:
        means = ((metric, row.means.get(metric.name)) for metric in metrics)
        cells = (f"{mean.mean:.{metric.digits}f}" if mean else "–" for metric, mean in means)
        yield f"| {row.name} | {' | '.join(cells)} |"


def _sections(rows: tuple[Row, ...], reference: str) -> dict[str, str]:
    """Return the sections of a page of `eval` by title; the main table has the title ""."""
    page = as_markdown(Evaluation("", rows, reference, MEASURED_WITH.in_words, ()))
    parts = (part.partition("\n") for part in page.removeprefix("# ").split("\n## "))
    return {title: text.strip() for title, _, text in parts}


def pages(results: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page of tables."""
    rows = {name: read_rows(results / name) for name in DATASETS}
    for name, references in DATASETS.items():
        title = f"{len(rows[name][0].scored)} edits"
        yield name, _page(title, "\n".join(tables(rows[name], references)))
    yield "modules", _page("Modules of `paper`", MODULES, "\n".join(modules(rows["ablation"])))
    reference, _ = DATASETS["hundred"]
    yield "protocols", _page("Protocols", _sections(rows["hundred"], reference)["Protocols"], SUMS)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", MADE_BY, *parts]) + "\n"


def main(results: Path) -> None:
    """Write all pages into the folder, and the short table into the page beside it."""
    for name, text in pages(results):
        (results / f"{name}.md").write_text(text, "utf-8")
    summary = results.with_suffix(".md")
    table = [*short_table(read_rows(results / "hundred"))]
    summary.write_text(written(summary.read_text("utf-8"), table), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
