"""What the stages made of one edit, and what that was made from."""

import json
import webbrowser
from pathlib import Path

from flows.terminal.console import say, say_table
from flows.terminal.jobs import find_edit, load, open_to_read
from stages.planning.plan import plan_edits
from stages.planning.provenance import provenance, provenance_document, provenance_lines
from stages.reports.panel import write_panel
from stages.reports.plan_tables import stages_table
from stages.reports.results import writing


def show_edit(path: Path, name: str, out: Path | None, store: str, *, view: bool) -> None:
    """Print what each stage says of its work on an edit, and draw it as a panel."""
    job, opened = load(path), open_to_read(store)
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


def show_provenance(path: Path, name: str, store: str, *, as_json: bool) -> None:
    """Print what each artifact of an edit was made from."""
    edit, opened = find_edit(load(path), name), open_to_read(store)
    chain = provenance(edit, opened)
    if as_json:
        say(json.dumps(provenance_document(edit, chain, opened), indent=2))
    else:
        for line in provenance_lines(chain):
            say(line)
