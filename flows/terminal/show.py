"""What the stages made of one edit, and what that was made from."""

import json
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from adaptivedrag.model.lora_files import encode_for_others
from artifacts import ArtifactError, ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, InvalidRequest
from flows.terminal.console import say, say_list, say_table
from flows.terminal.jobs import first_lines, load
from stages import train_lora
from stages.browsing import Job, MadeEdit, NotMade
from stages.jobs.edit import find_edit
from stages.jobs.selection import Selection
from stages.planning.models import adaptable_layers
from stages.planning.plan import Status, plan_edits
from stages.planning.provenance import provenance, provenance_document, provenance_lines
from stages.reports.animation import frames, write_animation
from stages.reports.panel import write_panel
from stages.reports.place import writing
from stages.reports.plan_tables import stages_table
from stages.reports.rows import row_of
from stages.reports.srgb_png import save_png
from stages.reports.verdicts import sentence
from stages.reports.wording import count


def show_edit(path: Path, name: str, out: Path | None, store: str, *, view: bool) -> None:
    """Print what each stage says of its work on an edit, and draw it as a panel."""
    job, opened = load(path), ArtifactStore.open_to_read(store)
    edit = find_edit(job, name)
    (plan,) = plan_edits([edit], opened, explain=True)
    say(f"{edit.id}: {edit.image_path}")
    say_table(stages_table(plan))
    say(sentence(row_of(plan, plan.last_failure)))
    folder = (out or Path("results") / job.name) / "panels"
    with writing(folder):
        panel = write_panel(edit, opened, folder / f"{edit.id}.png")
    say(f"Panel: {panel}")
    if view:
        webbrowser.open(panel.absolute().as_uri())


def save_lora(path: Path, name: str, target: Path, store: str) -> None:
    """Write the LoRA of an edit in the form that other tools take.

    Raises:
        InvalidEdit: if the edit has none yet, or the file cannot be written.
    """
    opened, edit = ArtifactStore.open_to_read(store), find_edit(load(path), name)
    (plan,) = plan_edits([edit], opened)
    staged = plan.stages[train_lora.STAGE.name]
    if staged.status is not Status.HIT or staged.record is None:
        raise InvalidEdit(f"edit {edit.id} has no LoRA in the store ({staged.status}): run the job")
    weights, layers = opened.read(staged.record)["lora"], adaptable_layers(edit.model, edit.vae)
    with _writing("--lora", target):
        target.write_bytes(encode_for_others(weights, layers))
    say(f"LoRA for other tools: {target}")


def show_provenance(path: Path, name: str, store: str, *, as_json: bool) -> None:
    """Print what each artifact of an edit was made from."""
    edit, opened = find_edit(load(path), name), ArtifactStore.open_to_read(store)
    chain = provenance(edit, opened)
    if as_json:
        say(json.dumps(provenance_document(edit, chain, opened), indent=2))
    else:
        for line in provenance_lines(chain):
            say(line)


def copy_artifacts(
    path: Path, name: str | None, select: Selection, stage: str | None, target: Path, store: str
) -> int:
    """Copy what a stage made of an edit into a folder, or of each selected edit into one in it.

    Files are as they lie in the store; drawings of them are named drawn-<title>.png.

    Raises:
        InvalidRequest: if no stage or no edit is named, or the folder is not empty.
        NotMade: if it is not there for the one edit.
    """
    if not stage:
        raise InvalidRequest("--copy-to copies what a stage made: name it with --stage")
    if name and select:
        raise InvalidRequest(f"--select chooses edits in place of {name!r}: give one of them")
    job, loaded = Job(path, store=store), load(path, select)
    names = [edit.id for edit in loaded.edits] if select else [only_one(name)]
    copied, missing = 0, [f"edit {bad}" for bad in loaded.bad] if select else []
    with _writing("--copy-to", target):
        if target.exists() and any(target.iterdir()):
            raise InvalidRequest(f"--copy-to {target} is not empty: name a new folder")
        for each in names:
            try:
                _copy(job[each], stage, target / each if select else target)
                copied += 1
            except NotMade as error:
                if not select:
                    raise
                missing.append(str(error))
    say_list("Not there", first_lines(missing))
    say(f"Copied {stage} of {count(copied, 'edit')} to {target}")
    return SOME_FAILED if missing else ALL_DONE


def _copy(made: MadeEdit, stage: str, folder: Path) -> None:
    files, drawings = made.files(stage), made.drawings(stage, max(made.original.shape))
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    for title, picture in drawings.items():
        save_png(picture, folder / f"drawn-{title}.png")


def save_animation(path: Path, name: str, target: Path, store: str) -> None:
    """Write the animation of an edit; see `stages.reports.animation`.

    Raises:
        NotMade: if the drag or the edited image is not there.
        InvalidRequest: if the file is not named as WebP is.
    """
    if target.suffix.lower() != ".webp":
        raise InvalidRequest(f"--animation {target} is not named as WebP is: end it in .webp")
    shown = frames(Job(path, store=store)[name])
    with _writing("--animation", target):
        write_animation(shown, target)
    say(f"Animation of {count(len(shown), 'frame')}: {target}")


def refuse_several(options: Mapping[str, object]) -> None:
    """Refuse options of which each is done instead of the panel.

    Raises:
        InvalidRequest: if more than one is given.
    """
    given = [name for name, value in options.items() if value]
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} are each done alone: give one of them")


def only_one(name: str | None, stage: str | None = None, select: Selection | None = None) -> str:
    """Return the id of the one edit that is shown.

    Raises:
        InvalidRequest: if there is none, or an option that is for --copy-to.
    """
    if stage or select:
        raise InvalidRequest("--stage and --select choose what --copy-to copies: add --copy-to DIR")
    if not name:
        raise InvalidRequest("EDIT is missing: name the id of an edit")
    return name


@contextmanager
def _writing(option: str, target: Path) -> Iterator[None]:
    """Say in one line what cannot be written.

    Raises:
        InvalidEdit: naming the option and its value.
    """
    try:
        yield
    except (AdaptiveDragError, ArtifactError):  # some of them are errors of the system, too
        raise
    except OSError as error:
        raise InvalidEdit(
            f"{option} {target} cannot be written ({error.strerror}): name another"
        ) from error
