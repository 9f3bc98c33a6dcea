"""What the stages made of one edit, and what that was made from."""

import json
import webbrowser
from pathlib import Path

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora_files import encode_for_others
from artifacts import ArtifactStore
from flows.terminal.console import say, say_table
from flows.terminal.jobs import load
from stages import train_lora
from stages.jobs.edit import find_edit
from stages.planning.models import adaptable_layers
from stages.planning.plan import Status, plan_edits
from stages.planning.provenance import provenance, provenance_document, provenance_lines
from stages.reports.panel import write_panel
from stages.reports.place import writing
from stages.reports.plan_tables import stages_table


def show_edit(path: Path, name: str, out: Path | None, store: str, *, view: bool) -> None:
    """Print what each stage says of its work on an edit, and draw it as a panel."""
    job, opened = load(path), ArtifactStore.open_to_read(store)
    edit = find_edit(job, name)
    (plan,) = plan_edits([edit], opened, explain=True)
    say(f"{edit.id}: {edit.image_path}")
    say_table(stages_table(plan))
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
    try:
        target.write_bytes(encode_for_others(weights, layers))
    except OSError as error:
        raise InvalidEdit(
            f"--lora {target} cannot be written ({error.strerror}): name another file"
        ) from error
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
