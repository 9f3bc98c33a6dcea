"""Editing one image, without Prefect."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from adaptivedrag.config import Runtime
from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from artifacts import ArtifactError, ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from flows.preflight import check_ready
from flows.terminal.arguments import parse_drag, parse_settings
from flows.terminal.console import console, say, step_bar
from flows.terminal.errors import say_error
from flows.terminal.jobs import note_inputs, note_pocket
from stages.jobs.edit import Edit, Job
from stages.jobs.reader import single_edit
from stages.jobs.spec import parse_spec
from stages.pipeline import RESULT
from stages.planning.plan import EditPlan, JobPlan, plan_edits
from stages.reports.panel import write_panel
from stages.reports.place import writing
from stages.reports.srgb_png import save_png
from stages.reports.wording import warnings_of
from stages.workbench import Workbench

SOURCE = "adaptivedrag-source"
"""Text of a picture's PNG: the digest of the image that it was made from."""


def edit(
    image: Path,
    drags: Sequence[str],
    prompt: str,
    mask: Path | None,
    named: Mapping[str, str],
    settings: Sequence[str],
    out: Path | None,
    store: str,
    device: str,
) -> int:
    """Make what is missing of one edit, and save its picture and its panel."""
    job = _job(image, drags, prompt, mask, parse_settings(named, settings))
    (edit,) = job.edits
    target = out or Path("results") / f"{image.stem}.png"
    _check_target(target, image, edit)
    note_inputs(job)
    note_pocket(job)
    opened = ArtifactStore.open(store)
    (plan,) = plan_edits([edit], opened)
    if plan.to_make:
        check_ready(JobPlan(job, (plan,)), opened, device)
    code = _make(Workbench(opened, Runtime(device)), plan)
    if plan.done:  # also where the witness has failed
        with writing(target):
            _save(plan, opened, target)
    return code


def _job(
    image: Path, drags: Sequence[str], prompt: str, mask: Path | None, keys: dict[str, Any]
) -> Job:
    spec = parse_spec(keys)
    return single_edit(image, [*map(parse_drag, drags)], prompt=prompt, mask=mask, spec=spec)


def _check_target(path: Path, image: Path, edit: Edit) -> None:
    """Refuse a place whose picture or panel would replace anything but an edit of this image."""
    if path.suffix.lower() != ".png":
        raise InvalidEdit(f"--out {path} is no PNG: give it the suffix .png")
    if path.resolve() == image.resolve():
        raise InvalidEdit(f"--out {path} is the image itself: name another file")
    for place, source in ((path, edit.image.digest), (_panel_of(path), None)):
        if place.is_file() and _source_of(place) != source:
            raise InvalidEdit(
                f"{place} exists and was not made from {image}: name another file with --out"
            )


def _panel_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}-panel.png")


def _source_of(path: Path) -> str | None:
    with suppress(OSError), Image.open(path) as picture:
        return picture.info.get(SOURCE)
    return None


def _make(bench: Workbench, plan: EditPlan) -> int:
    while plan.to_make:
        stage = plan.to_make[0]
        try:
            with step_bar(stage, console()) as advance:
                record = bench.advance(plan, on_step=advance)
            say(f"{stage} {record.circumstances.seconds:.1f} s")
            for warning in warnings_of(record.summary):
                say(f"  {warning}")
        except AdaptiveDragError as error:
            say_error(f"{stage}: {error}")
            return SOME_FAILED
        except (ArtifactError, OSError) as error:
            say_error(f"{stage}: {error}")
            return STOPPED_EARLY
    return ALL_DONE


def _save(plan: EditPlan, store: ArtifactStore, target: Path) -> None:
    record = plan.records[RESULT.name]
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(store.read(record)[RESULT.result])
    save_png(picture, target, {SOURCE: plan.edit.image.digest})
    panel = write_panel(plan.edit, store, _panel_of(target))
    say(f"{target}: {plan.verdict} (all stages: {panel})")
