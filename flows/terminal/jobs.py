"""The job that a command works on: reading it, finding an edit, and what to note about it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adaptivedrag.drag_notes import drag_notes
from adaptivedrag.errors import AdaptiveDragError
from artifacts import ArtifactStore
from flows.terminal.console import console, say, say_list, step_bar
from stages.failures import Failure
from stages.jobs.edit import BadEdit, Edit, Job
from stages.jobs.reader import load_job
from stages.jobs.selection import Selection
from stages.planning.models import diffusion_files
from stages.planning.prompts import with_prompt_notes
from stages.reports.causes import causes
from stages.reports.wording import count, first_of

SHOWN = 10
PATIENCE = 1.0
"""Seconds of reading before a terminal shows progress."""


def load(
    path: Path, select: Selection = (), beside: Mapping[str, Any] = MappingProxyType({})
) -> Job:
    """Read a job; on a terminal, show progress if that takes long.

    Args:
        beside: keys of one variant more than the file has.
    """
    with step_bar("Reading images", console(stderr=True), after=PATIENCE) as advance:
        return load_job(path, select=select, beside=beside, on_edit=advance)


def usual_out(job: Job, beside: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return where results go if nobody says it.

    Args:
        beside: keys of a variant that the job's file does not have; it gets a folder of its own.
    """
    return f"results/{job.name}-{job.variants[-1]}" if beside else f"results/{job.name}"


def note_absence(store: ArtifactStore) -> None:
    """Print that a store does not exist yet, if so."""
    if store.is_absent:
        say(f"There is no store at {store.location} yet")


def note_bad(job: Job) -> None:
    """List the edits that cannot be done as they are written."""
    say_list("Cannot be done as written", bad_lines(job.bad))


def bad_lines(bad: Sequence[BadEdit]) -> list[str]:
    """Say what is wrong: edits with the same reason share a line, and many of a kind are counted.

    A dataset of thousands that is wrong throughout is wrong for one reason, or for few.
    """
    kinds: dict[str, dict[str, list[BadEdit]]] = {}
    for edit in bad:
        kind = re.sub(r"\[\d+\]", "", edit.field)
        kinds.setdefault(kind, {}).setdefault(edit.reason, []).append(edit)
    return [line for kind, reasons in kinds.items() for line in _kind_lines(kind, reasons)]


def cause_lines(failures: Iterable[Failure]) -> list[str]:
    """Say why edits failed, the most frequent causes first, each with what to do about it."""
    found = causes(failures)
    lines = [line for cause in found[:SHOWN] for line in (str(cause), f"  {cause.remedy}")]
    if rest := found[SHOWN:]:
        edits = sum(len(cause.ids) for cause in rest)
        lines.append(f"and {count(edits, 'edit')} for other reasons; the page has all")
    return [line for line in lines if line.strip()]


def _kind_lines(kind: str, reasons: Mapping[str, Sequence[BadEdit]]) -> Iterator[str]:
    for reason, edits in islice(reasons.items(), SHOWN):
        several = f"{count(len(edits), 'edit')} ({first_of([bad.id for bad in edits])}): {reason}"
        yield str(edits[0]) if len(edits) == 1 else several
    if rest := [bad for edits in islice(reasons.values(), SHOWN, None) for bad in edits]:
        named = f"{len(rest)} more with such a mistake in {kind or 'their lines'}"
        yield f"and {named}; `plan --json` and the page have all"


def note_inputs(job: Job) -> None:
    """List what was converted, drags, prompts, settings, models and masks, where they are odd."""
    notes = {edit.image_path.name: edit.image.notes for edit in job.edits if edit.image.notes}
    lines = [f"{name}: {'; '.join(conversions)}" for name, conversions in notes.items()]
    say_list("Converted", first_lines(lines))
    say_list("Drags", first_lines(_noted(job.edits, lambda edit: drag_notes(edit.drags))))
    with suppress(AdaptiveDragError):  # who needs the model says what is wrong with it
        edits = with_prompt_notes(job.edits)
        say_list("Prompts", first_lines(_noted(edits, lambda edit: edit.prompt_notes)))
    say_list("Settings", first_lines(_noted(job.edits, lambda edit: edit.unused)))
    say_list("Models", [*_model_notes(job)])
    say_list("Masks", first_lines(_noted(job.edits, lambda edit: edit.mask_notes)))


def _noted(edits: Iterable[Edit], notes_of: Callable[[Edit], Iterable[str]]) -> list[str]:
    """Return each note once, with the first edits that have it."""
    found: dict[str, list[str]] = {}
    for edit in edits:
        for note in notes_of(edit):
            found.setdefault(note, []).append(edit.id)
    return lines_of(found)


def lines_of(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line for each note, with the first of the edits that have it."""
    return [f"{first_of(ids)}: {note}" for note, ids in notes.items()]


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first lines, and how many more there are."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]


def _model_notes(job: Job) -> Iterator[str]:
    for model, vae in dict.fromkeys((edit.model, edit.vae) for edit in job.edits):
        with suppress(AdaptiveDragError):  # who needs the model says what is wrong with it
            for note in diffusion_files(model, vae).source.notes:
                yield f"{Path(model).name}: {note}"


def note_pocket(job: Job) -> None:
    """Print what the pocket model is for, if an edit uses it."""
    if any(edit.model == "pocket" for edit in job.edits):
        say(
            "The pocket model knows rendered scenes, not photographs. For photographs use Stable "
            'Diffusion 1.5: model = "stable-diffusion-v1-5/stable-diffusion-v1-5" and segmenter = '
            '"facebook/sam2.1-hiera-base-plus" in the job, or --model and --segmenter of `edit`.'
        )
