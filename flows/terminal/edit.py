"""Editing one image, without Prefect."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from adaptivedrag.config import Runtime
from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from artifacts import ArtifactError, ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, STOPPED_EARLY
from flows.terminal.arguments import parse_drag, parse_settings
from flows.terminal.console import console, say, step_bar
from flows.terminal.errors import say_error
from flows.terminal.jobs import note_conversions, note_pocket
from stages.jobs.edit import Edit
from stages.jobs.reader import single_edit
from stages.jobs.spec import parse_spec
from stages.planning.plan import EditPlan, plan_edits
from stages.reports.panel import write_panel
from stages.reports.report import writing
from stages.workbench import Workbench


def edit_image(
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
    spec = parse_spec(parse_settings(named, settings))
    job = single_edit(image, [*map(parse_drag, drags)], prompt=prompt, mask=mask, spec=spec)
    target = _picture_path(out or Path("results") / f"{image.stem}.png", image)
    note_conversions(job)
    note_pocket(job)
    (edit,), opened = job.edits, ArtifactStore.open(store)
    (plan,) = plan_edits([edit], opened)
    code = _make(Workbench(opened, Runtime(device)), edit, plan.to_make)
    if code == ALL_DONE:
        (plan,) = plan_edits([edit], opened)
        with writing(target):
            _save(plan, opened, target)
    return code


def _picture_path(path: Path, image: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise InvalidEdit(f"--out {path} is no PNG: give it the suffix .png")
    if path.resolve() == image.resolve():
        raise InvalidEdit(f"--out {path} is the image itself: name another file")
    return path


def _make(bench: Workbench, edit: Edit, stages: Sequence[str]) -> int:
    for stage in stages:
        try:
            with step_bar(stage, console()) as advance:
                record = bench.perform(stage, edit, on_step=advance)
            say(f"{stage} {record.circumstances.seconds:.1f} s")
        except AdaptiveDragError as error:
            say_error(f"{stage}: {error}")
            return SOME_FAILED
        except (ArtifactError, OSError) as error:
            say_error(f"{stage}: {error}")
            return STOPPED_EARLY
    return ALL_DONE


def _save(plan: EditPlan, store: ArtifactStore, target: Path) -> None:
    records = plan.records
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(store.read(records["sample_image"])["image"]).save(target)
    panel = write_panel(plan.edit, store, target.with_name(f"{target.stem}-panel.png"))
    verdict = records["optimize_latent"].summary.get("verdict", "done")
    say(f"{target}: {verdict} (all stages: {panel})")
