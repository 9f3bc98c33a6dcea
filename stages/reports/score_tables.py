"""Tables of judged edits: rows, their means with intervals, and comparisons.

A row is one job, or one control, over the same edits. Means are over all edits, or over all pairs
of handle and target, and have bootstrap intervals that resample whole images, since edits of one
image are not independent. Recoveries are pooled: where little changes, a ratio says little. A
missing result enters no mean; it is counted and named.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from adaptivedrag.metrics.mean_distance import ARRIVED_WITHIN
from stages.evaluate import DAI_RADII, Measures

if TYPE_CHECKING:
    from adaptivedrag.metrics import Interval

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
SHORT = 16
"""Digits of a digest in CSVs."""

NO_REGION, NO_CONTENT = NO_FAULTS = ("no region", "no content")
"""Reasons of a missing control that are no faults of the job: nothing says what is dragged, or
content that could be pasted is not found."""


@dataclass(frozen=True)
class Metric:
    """A column.

    Attributes:
        name: key of the values in `Measures`, CSV and JSON.
        shown: whether it is in the Markdown table too.
        protocol: what the number is, in one line.
        by_pair: whether an edit has one value for each of its pairs.
        weight: key of what edits are weighted by in means and comparisons.
    """

    name: str
    title: str
    better: Literal["higher", "lower"]
    digits: int
    protocol: str
    shown: bool = True
    by_pair: bool = False
    weight: str | None = None


def _dai(radius: int) -> tuple[Metric, Metric]:
    protocol = f"squared RGB difference of the patches at target and handle, radius {radius} px"
    return (
        Metric(f"dai_{radius}", f"DAI-{radius}", "lower", 3, f"{protocol}; mean over edits"),
        Metric(
            f"dai_{radius}_legacy",
            f"DAI-{radius} (legacy)",
            "lower",
            3,
            "the same divided by the number of pairs once more, as GoodDrag's script does",
            shown=False,
        ),
    )


def _recovery(place: str, where: str) -> Metric:
    return Metric(
        f"{place}_recovery",
        f"{place} recovery",
        "higher",
        3,
        f"1 − Σ L1 to the true result ÷ Σ L1 of doing nothing, RGB, {where}; sums over edits",
        weight=f"{place}_at_stake",
    )


METRICS: tuple[Metric, ...] = (
    _recovery("arrival", "where the part truly arrives"),
    _recovery("departure", "where the part was and truly no longer is"),
    Metric(
        "preservation",
        "preservation (dB)",
        "higher",
        1,
        "PSNR to the image outside both regions, and where the truth is unchanged; outside the "
        "dataset's mask where there is no truth; 99 for identical",
    ),
    Metric(
        "tracked_distance",
        "tracked end (px)",
        "lower",
        1,
        "from where the method's own tracker ended to the target; over pairs",
        by_pair=True,
    ),
    Metric(
        "witness_distance",
        "witnessed end (px)",
        "lower",
        1,
        "from where the independent witness found the handle in the result to the target, that of "
        "doing nothing if it is lost; over pairs",
        by_pair=True,
    ),
    Metric(
        "true_distance",
        "true end (px)",
        "lower",
        1,
        "from the handle in the render nearest to the edit to the target; over pairs",
        by_pair=True,
    ),
    Metric(
        "tracked_arrived",
        "arrived (tracker)",
        "higher",
        3,
        "share of pairs whose tracked end lies within 1/16 of the image's shorter side",
        by_pair=True,
    ),
    Metric(
        "witness_arrived",
        "arrived (witness)",
        "higher",
        3,
        "share of pairs whose witnessed end lies within 1/16 of the image's shorter side",
        by_pair=True,
    ),
    Metric(
        "true_arrived",
        "arrived (truth)",
        "higher",
        3,
        "share of pairs whose true end lies within 1/16 of the image's shorter side",
        by_pair=True,
    ),
    Metric(
        "content_found",
        "content found",
        "higher",
        3,
        "share of edits in which the dragged part is still to be seen",
        shown=False,
    ),
    Metric(
        "matched_distance",
        "MD (px)",
        "lower",
        1,
        "{dift}; match over the whole image, native pixels, mean over pairs",
        by_pair=True,
    ),
    Metric(
        "masked_distance",
        "m-MD (px)",
        "lower",
        1,
        "{dift}; match inside the true or the dataset's mask, mean over pairs",
        by_pair=True,
    ),
    *(metric for radius in DAI_RADII for metric in _dai(radius)),
    Metric(
        "fidelity",
        "IF",
        "higher",
        3,
        "1 − LPIPS (AlexNet, v0.1) at 224×224 to the unedited image; doing nothing has 1",
    ),
    Metric(
        "clip",
        "CLIP",
        "higher",
        3,
        "cosine of the CLIP ViT-B/32 embeddings of edit and unedited image",
    ),
)


SUMS = ("arrival_error", "arrival_at_stake", "departure_error", "departure_at_stake")
"""Measures that recoveries are made of: integers, in levels of RGB. In CSV and JSON."""


@dataclass(frozen=True)
class ScoredEdit:
    """One edit of one row.

    Attributes:
        image: digest of the image, by which intervals resample.
        kind: of the drag.
        pairs: pairs of handle and target.
    """

    id: str
    image: str
    kind: str
    pairs: int
    measures: Measures


@dataclass(frozen=True)
class MissingResult:
    """A result that a row lacks."""

    id: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.kind}: {self.reason}"


@dataclass(frozen=True)
class Row:
    """The judged edits of one job or one control.

    Attributes:
        control: whether it is a control rather than a job.
        seeds: of the edits.
    """

    name: str
    scored: tuple[ScoredEdit, ...]
    missing: tuple[MissingResult, ...]
    control: bool = False
    seeds: tuple[int, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Count images, edits, pairs and missing results."""
        return {
            "images": len({edit.image for edit in self.scored}),
            "edits": len(self.scored),
            "pairs": sum(edit.pairs for edit in self.scored),
            "missing": len(self.missing),
        }

    @cached_property
    def means(self) -> "Mapping[str, Interval]":
        """The mean of every metric that was measured, with its interval."""
        return means(self.scored)

    @cached_property
    def means_by_kind(self) -> "Mapping[str, Mapping[str, Interval]]":
        """The same by kind of drag."""
        kinds = sorted({edit.kind for edit in self.scored})
        return {kind: means([e for e in self.scored if e.kind == kind]) for kind in kinds}


@dataclass(frozen=True)
class Comparison:
    """First minus second, over the pairs or edits that both have."""

    first: str
    second: str
    edits: int
    differences: "Mapping[str, Interval]"


@dataclass(frozen=True)
class Evaluation:
    """Rows, and what the tables say about them.

    Attributes:
        reference: name of the row that all others are compared with.
        dift: which features MD compares, in words.
        unavailable: metrics without weights, with how to get them.
    """

    name: str
    rows: tuple[Row, ...]
    reference: str
    dift: str
    unavailable: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether no result is missing."""
        return all(missing.kind in NO_FAULTS for row in self.rows for missing in row.missing)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The reference against every other row."""
        by_name = {row.name: row for row in self.rows}
        first = by_name[self.reference]
        return tuple(compare(first, row) for row in self.rows if row is not first)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that any row has."""
        measured = {name for row in self.rows for name in row.means}
        return tuple(metric for metric in METRICS if metric.name in measured)

    def protocol(self, metric: Metric) -> str:
        """Return the protocol of a metric."""
        return metric.protocol.format(dift=self.dift)


def compare(first: Row, second: Row, metrics: Sequence[Metric] = METRICS) -> Comparison:
    """Compare two rows pair by pair; edits that one of them lacks are left out."""
    from adaptivedrag.metrics import paired_difference

    others = {edit.id: edit for edit in second.scored}
    both = [(edit, others[edit.id]) for edit in first.scored if edit.id in others]
    differences = {}
    for metric in metrics:
        have = [
            (one.measures[metric.name], two.measures[metric.name], one)
            for one, two in both
            if _has(one, metric) and metric.name in two.measures
        ]
        found = paired_difference(
            [value for ours, _, _ in have for value in ours],
            [value for _, theirs, _ in have for value in theirs],
            [edit.image for ours, _, edit in have for _ in ours],
            _weights([edit for _, _, edit in have], metric),
            confidence=CONFIDENCE,
            resamples=RESAMPLES,
            seed=SEED,
        )
        if found:
            differences[metric.name] = found
    return Comparison(first.name, second.name, len(both), differences)


def means(
    edits: Sequence[ScoredEdit], metrics: Sequence[Metric] = METRICS
) -> "dict[str, Interval]":
    """Return the mean of every metric that was measured, with its interval."""
    from adaptivedrag.metrics import mean_interval

    found = {}
    for metric in metrics:
        have = [edit for edit in edits if _has(edit, metric)]
        mean = mean_interval(
            [value for edit in have for value in edit.measures[metric.name]],
            [edit.image for edit in have for _ in edit.measures[metric.name]],
            _weights(have, metric),
            confidence=CONFIDENCE,
            resamples=RESAMPLES,
            seed=SEED,
        )
        if mean:
            found[metric.name] = mean
    return found


def _has(edit: ScoredEdit, metric: Metric) -> bool:
    """Whether a metric was measured, and what it is weighted by."""
    return {metric.name, metric.weight or metric.name} <= edit.measures.keys()


def _weights(edits: Sequence[ScoredEdit], metric: Metric) -> list[float] | None:
    """Return the weight of each value; None if all weigh the same."""
    if metric.weight is None:
        return None
    return [weight or 0.0 for edit in edits for weight in edit.measures[metric.weight]]


def arrived(distances: Sequence[float | None], shorter_side: int) -> list[float | None]:
    """Return 1 for each pair that ended near its target, 0 for the others."""
    within = ARRIVED_WITHIN * shorter_side
    return [None if distance is None else float(distance <= within) for distance in distances]


def as_csv(row: Row) -> str:
    """Return one line per edit: the mean over its pairs of every metric, or why it is missing.

    Recoveries are the edit's own; the sums that they are made of are there, too.
    """
    names = [*(metric.name for metric in METRICS), *SUMS]
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["edit", "image", "kind", "pairs", "status", "reason", *names])
    for edit in row.scored:
        values = [_mean(edit.measures.get(name, [])) for name in names]
        known = (edit.id, edit.image[:SHORT], edit.kind, edit.pairs)
        table.writerow([*known, "judged", "", *values])
    for gone in row.missing:
        table.writerow([gone.id, *[""] * 3, gone.kind, gone.reason, *[""] * len(names)])
    return written.getvalue()


def from_csv(text: str, name: str) -> Row:
    """Return the row that `as_csv` wrote: each pair of an edit has the mean over its pairs.

    Columns that it does not know are left out.

    Raises:
        ValueError: if it is no such text; the message says what is wrong.
    """
    table = csv.DictReader(io.StringIO(text))
    lacking = {"edit", "image", "kind", "pairs", "status", "reason"} - {*(table.fieldnames or ())}
    if lacking:
        raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
    lines = list(table)
    # A metric that no edit has was not measured; one that some have is undefined for the others.
    measured = [metric for metric in METRICS if any(line.get(metric.name) for line in lines)]
    scored, missing = [], []
    for line in lines:
        if line["status"] != "judged":
            missing.append(MissingResult(line["edit"], line["status"], line["reason"]))
            continue
        pairs = int(line["pairs"])
        measures: Measures = {}
        for metric in measured:
            value = float(line[metric.name]) if line[metric.name] else None
            measures[metric.name] = [value] * (pairs if metric.by_pair else 1)
        measures |= {name: [int(line[name])] for name in SUMS if line.get(name)}
        scored.append(ScoredEdit(line["edit"], line["image"], line["kind"], pairs, measures))
    return Row(name, tuple(scored), tuple(missing))


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = sum(known) / len(known)
    return str(int(mean)) if float(mean).is_integer() else f"{mean:.6g}"  # sums are exact


def as_json(evaluation: Evaluation) -> str:
    """Return everything: means, intervals, comparisons, and the values of every edit and pair."""
    return json.dumps(
        {
            "name": evaluation.name,
            "reference": evaluation.reference,
            "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED},
            "protocols": {
                metric.name: evaluation.protocol(metric) for metric in evaluation.metrics
            },
            "unavailable": evaluation.unavailable,
            "rows": [_row_document(row) for row in evaluation.rows],
            "comparisons": [asdict(comparison) for comparison in evaluation.comparisons],
        },
        indent=1,
    )


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "control": row.control,
        "seeds": row.seeds,
        "counts": row.counts,
        "means": {name: asdict(mean) for name, mean in row.means.items()},
        "means_by_kind": {
            kind: {name: asdict(mean) for name, mean in means.items()}
            for kind, means in row.means_by_kind.items()
        },
        "missing": [asdict(missing) for missing in row.missing],
        "edits": [asdict(edit) for edit in row.scored],
    }


AGREEMENT = "Where points ended, by the truth, the witness and the tracker"
DISTANCES = {
    "truth": "true_distance",
    "witness": "witness_distance",
    "tracker": "tracked_distance",
}
"""Metrics of who says where points ended."""

BY_KIND = ("arrival_recovery", "departure_recovery", "true_distance", "matched_distance")
"""Metrics that have a table by kind of drag in Markdown; JSON has all."""


def as_markdown(evaluation: Evaluation) -> str:
    """Return the tables with their protocols, and what is missing."""
    return "\n".join([f"# {evaluation.name}", "", *_sections(evaluation)]) + "\n"


def _sections(evaluation: Evaluation) -> Iterator[str]:
    yield (
        f"Means with {CONFIDENCE:.0%} bootstrap intervals ({RESAMPLES} resamples of whole images, "
        f"seed {SEED})."
    )
    yield ""
    yield from _main_table(evaluation)
    for metric in evaluation.metrics:
        if metric.name in BY_KIND:
            yield from _kind_table(evaluation, metric)
    yield from _agreement_table(evaluation)
    yield from _comparison_table(evaluation)
    yield from ["", "## Missing results", ""]
    lines = [f"- {row.name}: {gone}" for row in evaluation.rows for gone in row.missing]
    yield from lines or ["None."]
    yield from ["", "## Protocols", ""]
    for metric in evaluation.metrics:
        yield f"- **{metric.title}**{_arrow(metric)}: {evaluation.protocol(metric)}."
    if evaluation.unavailable:
        yield from ["", "Not available:", ""]
        yield from (f"- {line}" for line in evaluation.unavailable)


def _main_table(evaluation: Evaluation) -> Iterator[str]:
    shown = [metric for metric in evaluation.metrics if metric.shown]
    heads = [metric.title + _arrow(metric) for metric in shown]
    yield from _head(["row", "images", "edits", "pairs", "missing", "seeds", *heads])
    for row in evaluation.rows:
        cells = [_cell(row.means.get(metric.name), metric) for metric in shown]
        seeds = ", ".join(map(str, row.seeds)) or "–"
        yield _line([row.name, *map(str, row.counts.values()), seeds, *cells])


def _kind_table(evaluation: Evaluation, metric: Metric) -> Iterator[str]:
    kinds = sorted({kind for row in evaluation.rows for kind in row.means_by_kind})
    yield from ["", f"## {metric.title} by kind of drag", ""]
    yield from _head(["row", *(kind or "(none)" for kind in kinds)])
    for row in evaluation.rows:
        found = [row.means_by_kind.get(kind, {}).get(metric.name) for kind in kinds]
        counts = [f" ({mean.pairs})" if mean else "" for mean in found]
        cells = [_cell(mean, metric) for mean in found]
        yield _line([row.name, *(cell + n for cell, n in zip(cells, counts, strict=True))])


def _agreement_table(evaluation: Evaluation) -> Iterator[str]:
    """Yield how well the witness and the tracker agree with the truth, row by row and over all."""
    judged = [row for row in evaluation.rows if {*DISTANCES.values()} & row.means.keys()]
    if not any({"true_distance", "witness_distance"} <= row.means.keys() for row in judged):
        return
    yield from ["", f"## {AGREEMENT}", ""]
    yield "r: correlation of distances to the target with the true ones, over pairs."
    yield ""
    others = ("witness", "tracker")
    heads = [f"arrived ({name})" for name in DISTANCES]
    yield from _head(["row", *heads, *(f"r ({name})" for name in others)])
    for row in judged:
        shares = [_share(row, name) for name in DISTANCES]
        yield _line([row.name, *shares, *(_correlation(row.scored, name) for name in others)])
    everything = [edit for row in judged for edit in row.scored]
    pooled = [_correlation(everything, name) for name in others]
    yield _line(["all rows", *["–"] * len(heads), *pooled])


def _share(row: Row, name: str) -> str:
    """Return the share of a row's pairs that arrived, by one that says where points ended."""
    mean = row.means.get(DISTANCES[name].replace("_distance", "_arrived"))
    return f"{mean.mean:.0%}" if mean else "–"


def _correlation(edits: Sequence[ScoredEdit], name: str) -> str:
    """Return Pearson's r of distances with the true ones; "–" if it is undefined."""
    import numpy as np

    true, other = DISTANCES["truth"], DISTANCES[name]
    both = [edit.measures for edit in edits if {true, other} <= edit.measures.keys()]
    distances = [[d for found in both for d in found[key]] for key in (true, other)]
    pairs = np.array(distances, float)
    if not pairs.size or not pairs.std(axis=1).all():
        return "–"
    return f"{np.corrcoef(pairs)[0, 1]:.2f}"


def _comparison_table(evaluation: Evaluation) -> Iterator[str]:
    shown = [metric for metric in evaluation.metrics if metric.shown]
    yield from ["", f"## {evaluation.reference} minus each other row, paired", ""]
    yield "Bold: the interval excludes zero."
    yield ""
    yield from _head(["row", "edits", *(metric.title + _arrow(metric) for metric in shown)])
    for each in evaluation.comparisons:
        cells = [_cell(each.differences.get(metric.name), metric, bold=True) for metric in shown]
        yield _line([each.second, str(each.edits), *cells])


def _cell(mean: "Interval | None", metric: Metric, *, bold: bool = False) -> str:
    if mean is None:
        return "–"
    value, low, high = (f"{each:.{metric.digits}f}" for each in (mean.mean, mean.low, mean.high))
    text = f"{value} [{low}, {high}]"
    return f"**{text}**" if bold and (mean.low > 0 or mean.high < 0) else text


def _arrow(metric: Metric) -> str:
    return {"higher": " ↑", "lower": " ↓"}[metric.better]


def _head(names: Sequence[str]) -> Iterator[str]:
    yield _line(names)
    yield _line(["---"] * len(names))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
