"""Edits that were made in several ways, side by side: what was otherwise, and who came nearer.

A comparison is of rows of one table of `results`. Where the sides are jobs of their own, or what a
job had before, their edits become one job: those of each side but one have its name at the end of
their ids, as variants have.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from artifacts import ArtifactStore
from stages.evaluate import Judged, Measures
from stages.jobs.edit import BASELINE, Edit, Job
from stages.pipeline import RESULT, STAGES, WITNESS
from stages.planning.plan import EditPlan, Status
from stages.planning.reasons import Difference, differences
from stages.reports.score_tables import METRICS, Metric, Row, ScoredEdit, compare, means

if TYPE_CHECKING:
    from adaptivedrag.metrics import Interval
    from stages.reports.rows import ResultRow

OWN_METRICS = (
    Metric("distance", "left to the target (px)", "lower", 1, "by the witness; mean over drags"),
    Metric("outside", "change outside the mask (levels)", "lower", 2, "mean of 0 to 255"),
    Metric("seconds", "work (s)", "lower", 1, "of all stages, those shared counted in full"),
)
"""What is known of every finished edit; scores of an evaluation come after it."""
NEARER = ("true_distance", "distance")
"""The metrics by which a side is nearer: the truth where it is known of both, or the witness."""
AS_NEAR = 0.5
"""Pixels by which ends may differ and still be equally near."""
ANOTHER = "another edit there: its image or drags differ"
_SHORT = 8


@dataclass(frozen=True)
class Side:
    """One way in which the edits of a comparison were made.

    Attributes:
        suffix: of the ids of its rows: "" or a dot and its name.
        plans: by the ids that edits have in all sides.
        lacking: why it has no plan of other edits, by id.
        unknown: why it has none where nothing else is said.
    """

    name: str
    suffix: str
    plans: Mapping[str, EditPlan]
    lacking: Mapping[str, str]
    unknown: str


def side_of(name: str, suffix: str, job: Job, plans: Iterable[EditPlan]) -> Side:
    """Take all edits of a job as a side."""
    by_id = {plan.edit.id: plan for plan in plans}
    bad = {bad.id: bad.reason for bad in job.bad}
    return Side(name, suffix, by_id, bad, f"not in {job.path}")


def sides_of_variants(job: Job, plans: Sequence[EditPlan]) -> list[Side]:
    """Take the job as it is as a side, and each of its variants as another."""
    return [
        Side(
            variant or BASELINE,
            f".{variant}" if variant else "",
            {plan.edit.base_id: plan for plan in plans if plan.edit.variant == variant},
            {bad.base_id: bad.reason for bad in job.bad if bad.variant in ("", variant)},
            "not selected",
        )
        for variant in ("", *job.variants)
    ]


def sides_of_past(
    job: Job, plans: Sequence[EditPlan], earlier: Mapping[str, EditPlan]
) -> list[Side]:
    """Take what the edits of a job had before as a side, and what they have now as another."""
    before = Side("before", ".before", earlier, {}, "it never had another result")
    return [before, side_of("now", "", job, plans)]


class Change(NamedTuple):
    """A setting, or what else is given, that is another on one side."""

    name: str
    old: str
    new: str


class Line(NamedTuple):
    """A metric over the edits that two sides have, and the difference, second minus first."""

    metric: Metric
    first: float
    second: float
    difference: "Interval"
    edits: int

    @property
    def favors(self) -> str:
        """Which side the metric favors: "first" or "second"; "" if the interval has zero in it."""
        low, high = self.difference.low, self.difference.high
        if self.difference.images < 2 or low <= 0 <= high:
            return ""
        return "second" if (high < 0) == (self.metric.better == "lower") else "first"


def aligned(sides: Sequence[Side]) -> list[Side]:
    """Return sides without edits that are others than those of the same id on an earlier side."""
    known: dict[str, Edit] = {}
    found = []
    for side in sides:
        for name, plan in side.plans.items():
            known.setdefault(name, plan.edit)
        others = {name for name, plan in side.plans.items() if not _are_alike(known[name], plan)}
        plans = {name: plan for name, plan in side.plans.items() if name not in others}
        lacking = {**side.lacking, **dict.fromkeys(others, ANOTHER)}
        found.append(replace(side, plans=plans, lacking=lacking))
    return found


def _are_alike(edit: Edit, plan: EditPlan) -> bool:
    return (edit.image.digest, edit.drags) == (plan.edit.image.digest, plan.edit.drags)


def joined(sides: Sequence[Side], job: Job, name: str) -> tuple[Job, list[EditPlan]]:
    """Return one job of all sides with the plans of its edits.

    Args:
        job: that of the side whose ids stay as they are.
    """
    plans = [
        _renamed(side.plans[edit], side)
        for edit in ids_of(sides)
        for side in sides
        if edit in side.plans
    ]
    edits = tuple(plan.edit for plan in plans)
    order = (*(edit.id for edit in edits), *(bad.id for bad in job.bad))
    return Job(name, job.path, edits, job.bad, order), plans


def _renamed(plan: EditPlan, side: Side) -> EditPlan:
    edit = plan.edit
    told = replace(
        edit,
        id=edit.id + side.suffix,
        tags=(*edit.tags, side.name),
        variant=side.suffix.removeprefix("."),
    )
    return replace(plan, resolved=replace(plan.resolved, edit=told))


def ids_of(sides: Sequence[Side]) -> tuple[str, ...]:
    """Return the ids of the edits that any side has."""
    return tuple(dict.fromkeys(name for side in sides for name in side.plans))


# What is otherwise


def changes(old: EditPlan, new: EditPlan) -> tuple[Change, ...]:
    """Name what one plan of an edit has otherwise than another, and what does something there."""
    return tuple(dict.fromkeys(_changes(old, new)))


def _changes(old: EditPlan, new: EditPlan) -> Iterator[Change]:
    for stage in STAGES:
        on = [plan.stages[stage.name].status is not Status.OFF for plan in (old, new)]
        if all(on):
            actions = old.action(stage), new.action(stage)
            for found in differences(*actions, new.resolved, unknown=stage.needs):
                if not _is_of_both(found, old.edit, new.edit):
                    yield _change(found, old.edit, new.edit)
        elif any(on) and stage is not WITNESS:  # of results before it, it may not have been asked
            yield Change(stage.name, *("on" if each else "off" for each in on))


def _is_of_both(found: Difference, old: Edit, new: Edit) -> bool:
    """Whether a stage only begins or ceases to read what both sides have."""
    if found.kind != "input":
        return False
    same = {"image", "relocated_image", "drags"}
    return found.name in (same | {"prompt"} if old.prompt == new.prompt else same)


def _change(found: Difference, old: Edit, new: Edit) -> Change:
    values = (found.old, found.new)
    match found.kind, found.name:
        case "version", stage:
            return Change(f"version of {stage}", str(found.old), str(found.new))
        case "setting", name:
            used = zip(values, found.used, strict=True)
            return Change(name, *(_said(*each) for each in used))
        case "input", "prompt":
            return Change("prompt", old.prompt, new.prompt)
        case "model", name:
            return Change(name, *_models(name, old, new, values))
    return Change(found.name, *(_short(value) for value in values))


def _said(value: Any, is_used: bool) -> str:
    if not is_used:
        return "not used"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _models(name: str, old: Edit, new: Edit, digests: Sequence[Any]) -> tuple[str, str]:
    """Return the names of two models, or of their weights where the names are equal."""
    one, two = ((each.segmenter if name == "segmenter" else _model(each)) for each in (old, new))
    return (one, two) if one != two and all(digests) else (_short(digests[0]), _short(digests[1]))


def _model(edit: Edit) -> str:
    return f"{edit.model} with {edit.vae}" if edit.vae else edit.model


def _short(digest: Any) -> str:
    return str(digest)[:_SHORT] if digest else "none"


# Measures


def judged_of(store: ArtifactStore, sides: Iterable[Side]) -> Judged:
    """Read what `eval` has kept of the results of sides.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    found = (plan.stages[RESULT.name].found for side in sides for plan in side.plans.values())
    return Judged.of_results(store, {each.logical for each in found if each})


def measures_of(judged: Judged, plan: EditPlan, row: "ResultRow") -> Measures:
    """Return all that was measured of a finished edit.

    Args:
        judged: what `eval` has kept of results.
    """
    found = plan.stages[RESULT.name].found
    known = judged.of(plan.edit, found.logical) if found else {}
    own = {metric.name: row.get(metric.name) for metric in OWN_METRICS}
    measures = {**known, **{name: [value] for name, value in own.items() if value is not None}}
    if "distance" not in measures and "witness_distance" in measures:  # asked by `eval` alone
        measures["distance"] = [mean_of(measures["witness_distance"])]
    return measures


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are known; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


# The whole


@dataclass(frozen=True)
class Comparison:
    """Sides with the rows of their edits.

    Attributes:
        sides: the one that all others are compared with first.
        rows: of all sides, by their own ids.
        judged: what `eval` has kept of their results.
    """

    name: str
    sides: tuple[Side, ...]
    rows: "Mapping[str, ResultRow]"
    judged: Judged

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The edits that any side has."""
        return ids_of(self.sides)

    def row(self, side: Side, edit: str) -> "ResultRow | None":
        """Return the row of an edit on a side, if it has one."""
        return self.rows.get(edit + side.suffix) if edit in side.plans else None

    def lacks(self, side: Side, edit: str) -> str:
        """Say why a side has no result of an edit; "" if it has."""
        row = self.row(side, edit)
        if row is None:
            return side.lacking.get(edit, side.unknown)
        if row["status"] == "done":
            return ""
        return str(row.get("reason", "not done yet"))

    @cached_property
    def scored(self) -> tuple[Mapping[str, ScoredEdit], ...]:
        """What was measured on each side, by the ids that sides have in common."""
        return tuple(
            {
                edit: _scored(plan, measures_of(self.judged, plan, row))
                for edit, plan in side.plans.items()
                if (row := self.row(side, edit)) and row["status"] == "done"
            }
            for side in self.sides
        )

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that any edit has: those of every edit, then those of evaluations."""
        measured = {
            name for side in self.scored for each in side.values() for name in each.measures
        }
        shown = (m for m in METRICS if m.shown and m.name != "witness_distance")  # `distance` is it
        return tuple(each for each in (*OWN_METRICS, *shown) if each.name in measured)

    @property
    def nearer_by(self) -> tuple[Metric, ...]:
        """The metrics by which a side is nearer: the first that both sides of an edit have."""
        return tuple(m for name in NEARER for m in self.metrics if m.name == name)

    def lines(self, second: int) -> list[Line]:
        """Return each metric over the edits that the first side and another have."""
        pairs = [_in_common(*pair) for pair in self._pairs(second)]
        rows = [
            Row(side.name, tuple(pair[place] for pair in pairs), ())
            for place, side in enumerate((self.sides[0], self.sides[second]))
        ]
        found = compare(rows[1], rows[0], self.metrics).differences
        one, two = (means(row.scored, self.metrics) for row in rows)
        return [
            Line(
                metric,
                one[metric.name].mean,
                two[metric.name].mean,
                found[metric.name],
                sum(metric.name in edit.measures for edit in rows[0].scored),
            )
            for metric in self.metrics
            if metric.name in found
        ]

    def _pairs(self, second: int) -> list[tuple[ScoredEdit, ScoredEdit]]:
        first, other = self.scored[0], self.scored[second]
        return [(first[edit], other[edit]) for edit in self.ids if edit in first and edit in other]

    def nearer(self, second: int) -> Counter[str]:
        """Count the edits of which the first side, another, or neither is nearer."""
        return Counter(self._nearer(*pair) for pair in self._pairs(second))

    def _nearer(self, first: ScoredEdit, second: ScoredEdit) -> str:
        for metric in self.nearer_by:
            one, two = self.value(first, metric), self.value(second, metric)
            if one is not None and two is not None:
                near = abs(one - two) < AS_NEAR
                return "equal" if near else "first" if one < two else "second"
        return "unknown"

    @staticmethod
    def value(edit: ScoredEdit, metric: Metric) -> float | None:
        """Return the mean of an edit's values of a metric; None if it has none."""
        return mean_of(edit.measures.get(metric.name, ()))

    def alone(self, second: int) -> list[tuple[str, str, tuple[str, ...]]]:
        """Return why not both sides have edits: who lacks them ("" for both), the reason, ids."""
        pair = self.sides[0], self.sides[second]
        found: dict[tuple[str, str], list[str]] = {}
        for edit in self.ids:
            lacking = [side for side in pair if self.lacks(side, edit)]
            if lacking:
                kind = self._kind(lacking[0], edit) or self.lacks(lacking[0], edit)
                who = lacking[0].name if len(lacking) == 1 else ""
                found.setdefault((who, kind), []).append(edit)
        return [(*key, tuple(ids)) for key, ids in found.items()]

    def _kind(self, side: Side, edit: str) -> str:
        """Return how an edit failed, without what is its own about it."""
        failure = (self.row(side, edit) or {}).get("failure")
        return f"failed in {failure['stage']}: {failure['kind']}" if failure else ""

    def changes(self, second: int) -> dict[str, tuple[Change, ...]]:
        """Return what another side has otherwise than the first one, by edit."""
        first, other = self.sides[0].plans, self.sides[second].plans
        return {
            edit: changes(first[edit], other[edit])
            for edit in self.ids
            if edit in first and edit in other
        }


def _scored(plan: EditPlan, measures: Measures) -> ScoredEdit:
    edit = plan.edit
    return ScoredEdit(edit.id, edit.image.digest, "", len(edit.drags), measures)


def _in_common(one: ScoredEdit, two: ScoredEdit) -> tuple[ScoredEdit, ScoredEdit]:
    """Return the two sides of an edit under one id, with the measures that both have."""
    names = one.measures.keys() & two.measures.keys()
    kept = [{name: each.measures[name] for name in names} for each in (one, two)]
    return replace(one, measures=kept[0]), replace(two, id=one.id, measures=kept[1])
