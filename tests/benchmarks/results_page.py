"""The tables of `docs/results.md` and of the modules in `docs/fidelity.md`, from CSVs.

    python tests/benchmarks/results_page.py docs

reads one CSV per row from `results/hundred` and `results/ablation`, as `adaptivedrag eval ablation`
writes them into `OUT/rows`, and writes means, intervals and comparisons between the marks of the
documents. Neither a model nor a store is needed.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adaptivedrag.config import EditConfig
from flows.evaluation.judging import ablation_rows
from stages.evaluate import CONTROLS, Instruments
from stages.reports.score_tables import METRICS, Evaluation, Row, as_markdown, compare, from_csv

DATASETS = {"hundred": ("plus", "paper"), "ablation": ("paper", "plus")}
"""Folders of CSVs, and the rows that all others are compared with."""

MEASURED_WITH = Instruments(dift=None, device="cpu", fidelity=None, clip=None, unavailable=())
OF_MODULES = (
    "arrival_recovery",
    "preservation",
    "tracked_distance",
    "true_distance",
    "matched_distance",
)
"""Metrics of the table of modules."""

BASELINES = ("dragdiffusion-80", "dragdiffusion-300", "released", "paper", "plus")
"""In the order of the tables; modules come after their preset."""


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
        raise ValueError(f"of no row that `eval ablation` has: {', '.join(sorted(paths))}")
    return tuple(found)


def _place(name: str) -> int:
    return next(place for place, first in enumerate(BASELINES) if name.startswith(first))


def tables(rows: tuple[Row, ...], references: Sequence[str]) -> Iterator[str]:
    """Write the tables of one dataset, as `eval` has them."""
    first, *others = (_sections(rows, reference) for reference in references)
    yield from (first.pop(""), "")
    for title in (title for title in first if title.endswith("by kind of drag")):
        yield from (f"### {title}", "", first[title], "")
    for found in (first, *others):
        for title in (title for title in found if title.endswith("paired")):
            yield from (f"### {title}", "", found[title], "")
    missing = first["Missing results"]
    yield f"Missing results:\n\n{missing}" if missing != "None." else "No result is missing."


def modules(rows: tuple[Row, ...], preset: str = "paper") -> Iterator[str]:
    """Write what each module that is switched off or changed makes of a preset, paired."""
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


def _sections(rows: tuple[Row, ...], reference: str) -> dict[str, str]:
    """Return the sections of a page of `eval` by title; the first, of the main table, has none."""
    page = as_markdown(Evaluation("", rows, reference, MEASURED_WITH.in_words, ()))
    parts = (part.partition("\n") for part in page.removeprefix("# ").split("\n## "))
    return {title: text.strip() for title, _, text in parts}


def written(document: str, parts: dict[str, str]) -> str:
    """Return the document with every part between its marks."""
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = document.split(begin)
        _, after = rest.split(end)
        document = "\n".join([before + begin, "", text, "", end + after])
    return document


def main(docs: Path) -> None:
    """Write all tables into the documents of a folder."""
    parts = {}
    for name, references in DATASETS.items():
        rows = read_rows(docs / "results" / name)
        parts[name] = "\n".join(tables(rows, references))
        parts["protocols"] = _sections(rows, references[0])["Protocols"]
    of_modules = {"modules": "\n".join(modules(read_rows(docs / "results" / "ablation")))}
    for page, found in (("results.md", parts), ("fidelity.md", of_modules)):
        document = docs / page
        document.write_text(written(document.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
