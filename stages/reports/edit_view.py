"""What the page of one edit says, as data for its template: of each stage, and of each drag.

What is missing or damaged is a hole with its reason and what remakes it; the rest stands.
"""

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.filesize import decimal

from adaptivedrag.config import EditConfig
from adaptivedrag.points import Drag, FeaturePoint, Frame
from artifacts import ArtifactStore, Record
from stages.browsing import MadeEdit, NotMade
from stages.failures import Attempt
from stages.jobs.edit import Edit, Job
from stages.jobs.spec import JobSpec
from stages.pipeline import BY_NAME, TRACKER
from stages.planning.plan import EditPlan, StagePlan, Status
from stages.planning.provenance import Provenance, chain_of, facts
from stages.reports.curves import Curve
from stages.reports.rows import end_of
from stages.reports.wording import count, duration, ended, found, warnings_of
from stages.stage import Stage

_SECOND = len("20240131T235959")


@dataclass(frozen=True)
class Commands:
    """The commands and the code about one edit, which work in any folder.

    Attributes:
        store, out: where results are: absolute paths, or URLs.
    """

    edit: str
    job: Path
    store: str
    out: str

    @property
    def make(self) -> str:
        """The command that makes what is missing."""
        return self._run()

    def again(self, staged: StagePlan) -> str:
        """Return the command that does a stage again, and what follows from it."""
        device = staged.record.circumstances.device if staged.record else "cpu"
        on_device = [] if device == "cpu" else ["--device", "mps" if device == "mps" else "cuda"]
        if staged.status is Status.FOLLOWS:
            return self._run()
        return self._run("--from", staged.stage, "--force", *on_device)

    def code(self, stage: str, parts: Mapping[str, Any]) -> str:
        """Return the Python that opens what a stage made."""
        lines = [
            "from stages import Job",
            "",
            f"made = Job({str(self.job)!r}, store={self.store!r})[{self.edit!r}]",
            f"found = made.read({stage!r})",
            *(f"found[{name!r}]  # {_form(part)}" for name, part in parts.items()),
        ]
        return "\n".join(lines)

    def _run(self, *options: str) -> str:
        places = ["--store", self.store, "--out", self.out]
        run = ["adaptivedrag", "run", str(self.job), "--select", self.edit]
        return shlex.join([*run, *options, *places])


@dataclass(frozen=True)
class Setting:
    """A setting of a stage.

    Attributes:
        fitted: its value for the latents of this image; "" if it is the same.
        preset: the value of the job's preset; "" if it is the same.
    """

    name: str
    value: str
    fitted: str = ""
    preset: str = ""


@dataclass(frozen=True)
class StageView:
    """A stage of an edit.

    Attributes:
        hole: why there is nothing to see, and what remakes it.
        made: when it was made, and by which run.
        facts: what its record says of its work: titles and texts.
        no_curve: why no losses are drawn of a stage that took steps.
        parts: what it made, by part.
        again, code: the command that does it again, the Python that opens it.
    """

    name: str
    status: Status
    hole: str
    made: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    curve: Curve | None
    no_curve: str
    settings: tuple[Setting, ...]
    parts: Mapping[str, Any]
    again: str
    code: str
    provenance: tuple[tuple[str, str], ...]
    attempts: tuple[Attempt, ...]

    @property
    def changed(self) -> tuple[Setting, ...]:
        """The settings that differ from the preset's."""
        return tuple(setting for setting in self.settings if setting.preset)


@dataclass(frozen=True)
class DragView:
    """A drag, and how it ended: by the drag's own tracker, and by the independent witness.

    Attributes:
        tracker, witness: in words; "" where it was not asked.
        tracker_verdict, witness_verdict: "" likewise.
    """

    number: int
    way: str
    length: float
    tracker: str
    tracker_verdict: str
    witness: str
    witness_verdict: str


@dataclass(frozen=True)
class Surroundings:
    """What the pages of a job's edits have in common.

    Attributes:
        runs: ids of the runs of the store, in order.
    """

    job: Job
    store: ArtifactStore
    out: str
    runs: tuple[str, ...]

    @classmethod
    def of(cls, job: Job, store: ArtifactStore, out: str) -> "Surroundings":
        """Ask the store for its runs."""
        return cls(job, store, out, tuple(store.runs()))

    def commands(self, edit: str) -> Commands:
        """Return the commands about an edit."""
        return Commands(edit, self.job.path, _absolute(self.store.location), _absolute(self.out))

    def run_of(self, record: Record) -> str:
        """Return the run that had begun last when a record's work began; "" if there is none.

        The id of a run begins with the time at which it began.
        """
        started = "".join(letter for letter in record.circumstances.started if letter not in "-:")
        before = [run for run in self.runs if run[:_SECOND] <= started[:_SECOND]]
        return before[-1] if before else ""


def stage_views(plan: EditPlan, made: MadeEdit, around: Surroundings) -> tuple[StageView, ...]:
    """Return all stages of an edit, in order, with what they made.

    Raises:
        ArtifactError: if a record that was there cannot be read any more.
    """
    of_preset = _preset_config(plan.edit)
    return tuple(_stage_view(each, plan, made, around, of_preset) for each in chain_of(plan))


def _stage_view(
    origin: Provenance,
    plan: EditPlan,
    made: MadeEdit,
    around: Surroundings,
    of_preset: EditConfig,
) -> StageView:
    staged = origin.plan
    stage, record, commands = BY_NAME[staged.stage], staged.record, around.commands(plan.edit.id)
    parts, hole = _read(made, stage.name)
    summary: Mapping[str, Any] = record.summary if record else {}
    curve = Curve.of(summary.get("losses", ()))
    is_off = staged.status is Status.OFF
    kept_none = curve is None and summary.get("steps", 0) > 1
    return StageView(
        name=stage.name,
        status=staged.status,
        hole=hole,
        made=_made(record, around) if record else "",
        facts=tuple(_facts(record)) if record else (),
        warnings=tuple(warnings_of(summary)),
        curve=curve,
        no_curve="the version that made this kept no losses" if kept_none else "",
        settings=() if is_off else tuple(_settings(stage, plan, of_preset)),
        parts=parts,
        again="" if is_off else commands.again(staged),
        code=commands.code(stage.name, parts) if parts else "",
        provenance=tuple(facts(origin, record)) if record else (),
        attempts=tuple(_attempts(staged, around.store)),
    )


def _read(made: MadeEdit, stage: str) -> tuple[Mapping[str, Any], str]:
    """Return what a stage made, or nothing and why."""
    try:
        return made.read(stage), ""
    except NotMade as missing:
        return {}, str(missing)


def _made(record: Record, around: Surroundings) -> str:
    started = record.circumstances.started.replace("T", " ").replace("+00:00", " UTC")
    run = around.run_of(record)
    by = f" by run {run}" if run else ""
    last = ", the last one" if run and run == around.runs[-1] else ""
    again = f"; record {record.number}, it was made again" if record.number > 1 else ""
    return f"{started}{by}{last}{again}"


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    worked, summary = record.circumstances, record.summary
    yield "time", duration(worked.seconds)
    yield "device", f"{worked.device}, {count(worked.threads, 'thread')}"
    if worked.peak_memory:
        yield "memory", f"{decimal(worked.peak_memory)} at most"
    if worked.memory_saved_by:
        yield "memory was short", ", ".join(worked.memory_saved_by)
    if step := summary.get("resumed_after"):
        yield "resumed", f"after a checkpoint of step {step}"
    for name, value in summary.items():
        is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        if is_plain and name != "resumed_after":
            yield name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value)


def _attempts(staged: StagePlan, store: ArtifactStore) -> Iterator[Attempt]:
    """Yield the failed attempts at a stage, the last one first."""
    found = store.attempts(staged.stage, staged.key) if staged.key else []
    yield from map(Attempt.from_document, reversed(found))


def _preset_config(edit: Edit) -> EditConfig:
    return JobSpec(preset=edit.preset, model=edit.model).config()[0]


def _settings(stage: Stage, plan: EditPlan, of_preset: EditConfig) -> Iterator[Setting]:
    """Yield the settings of a stage's section."""
    own = _section(plan.edit.config, stage)
    fitted, before = _section(plan.resolved.config, stage), _section(of_preset, stage)
    for name, value in own.items():
        known = before.get(name, "the preset's method has no such setting")
        yield _setting(name, value, fitted.get(name, value), known)


def _setting(name: str, value: Any, fitted: Any, preset: Any) -> Setting:
    others = (_text(other) if other != value else "" for other in (fitted, preset))
    return Setting(name, _text(value), *others)


def general_settings(edit: Edit) -> tuple[Setting, ...]:
    """Return the settings of an edit that are no stage's."""
    own, of_preset = edit.config.model_dump(), _preset_config(edit).model_dump()
    of_config = [
        _setting(name, own[name], own[name], of_preset[name])
        for name in EditConfig.model_fields
        if name not in BY_NAME
    ]
    lora = edit.lora if isinstance(edit.lora, str) else str(edit.lora.path)
    named = {"preset": edit.preset, "model": edit.model, "segmenter": edit.segmenter, "lora": lora}
    named |= {"vae": edit.vae} if edit.vae else {}
    return (*(Setting(name, value) for name, value in named.items()), *of_config)


def _section(config: EditConfig, stage: Stage) -> dict[str, Any]:
    section: dict[str, Any] = getattr(config, stage.name).model_dump(mode="json")
    return section


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def drag_views(plan: EditPlan) -> tuple[DragView, ...]:
    """Return the drags of an edit, and how each ended by both witnesses."""
    tracked, seen = plan.drag.get("points", []), plan.witness.get("points", [])
    return tuple(
        DragView(
            number,
            f"{_point(drag.handle)} → {_point(drag.target)}",
            math.dist(drag.handle, drag.target),
            *_end(tracked, number, _tracked),
            *_end(seen, number, _seen),
        )
        for number, drag in enumerate(plan.edit.drags, start=1)
    )


def _end(
    points: Sequence[Mapping[str, Any]], number: int, said: Callable[[Mapping[str, Any]], str]
) -> tuple[str, str]:
    """Return how the drag of a number ended, in words, and the verdict."""
    if number > len(points):
        return "", ""
    point = points[number - 1]
    return said(point), str(point["verdict"])


def _tracked(point: Mapping[str, Any]) -> str:
    return f"at {_point(point['end'])}: {ended(point)}"


def _seen(point: Mapping[str, Any]) -> str:
    return _tracked(point) if end_of(point) else found(point)


def _point(point: Sequence[float]) -> str:
    return f"({point[0]:.0f}, {point[1]:.0f})"


def paths(plan: EditPlan, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the path of each handle as JSON, in pixels of the image; [] where none is there.

    Args:
        parts: what the drag's stage made.
    """
    if "tracks" not in parts:
        return []
    frame, seen = plan.resolved.frame, plan.witness.get("points", [])
    return [
        {
            "path": _path(parts["tracks"][:, number], drag, frame),
            "target": [*drag.target],
            "seen": end_of(seen[number]) if number < len(seen) else None,
        }
        for number, drag in enumerate(plan.edit.drags)
    ]


def _path(steps: np.ndarray[Any, Any], drag: Drag, frame: Frame) -> list[list[float]]:
    """Return where a handle was after each step; it begins where the user put it."""
    points = [frame.to_image(FeaturePoint(*map(float, step))) for step in steps[1:]]
    return [[round(x, 1), round(y, 1)] for x, y in (drag.handle, *points)]


def tracker_view(views: Sequence[StageView]) -> StageView:
    """Return the stage that says where the handles went."""
    return next(view for view in views if view.name == TRACKER.name)


def _form(part: Any) -> str:
    if isinstance(part, np.ndarray):
        return f"{part.dtype} {part.shape}"
    if isinstance(part, Mapping):
        return f"{count(len(part), 'array')}, by name"
    return type(part).__name__


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().absolute())
