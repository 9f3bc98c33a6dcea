"""Results taken away as datasets for training and for other tools."""

from pathlib import Path

from rich.filesize import decimal

from artifacts import ArtifactStore
from flows.outcomes import ALL_DONE, SOME_FAILED, InvalidRequest
from flows.terminal.arguments import parse_size
from flows.terminal.console import console, say, say_list, step_bar
from flows.terminal.jobs import PATIENCE, first_lines, lines_of, load, note_bad
from stages.exporters import FORMATS, Exported, Limit, export_job
from stages.jobs.selection import Selection
from stages.jobs.votes import votes_of
from stages.reports.wording import count


def export(
    path: Path,
    folder: str,
    form: str,
    select: Selection,
    votes: Path | None,
    shard_size: str,
    store: str,
) -> int:
    """Write the finished edits of a job as a dataset, and print what was left out, and why."""
    if form not in FORMATS:
        raise InvalidRequest(f"--to {form!r} is no format: name one of {', '.join(FORMATS)}")
    if "://" in folder:
        raise InvalidRequest(f"{folder} is a URL: export to a folder, and upload that")
    limit = _limit(shard_size)
    job, opened = load(path, select), ArtifactStore.open(store, create=False)
    with step_bar("Exporting", console(stderr=True), after=PATIENCE) as advance:
        exported = export_job(
            job,
            opened,
            Path(folder),
            form,
            limit=limit,
            votes=votes_of(job, votes) if votes else {},
            on_edit=advance,
        )
    note_bad(job)
    reasons: dict[str, list[str]] = {}
    for name, why in exported.left_out.items():
        reasons.setdefault(why, []).append(name)
    say_list("Left out", first_lines(lines_of(reasons)))
    say(f"{folder}: {_summary(exported, len(job.edits) + len(job.bad))}")
    return SOME_FAILED if job.bad or exported.left_out else ALL_DONE


def _summary(exported: Exported, edits: int) -> str:
    written = f"{exported.written} of them written now" if exported.written else "nothing to write"
    return (
        f"{exported.edits} of {count(edits, 'edit')} in {count(exported.shards, 'shard')} "
        f"({decimal(exported.size)}), {written}, every byte checked"
    )


def _limit(text: str) -> Limit:
    if text.isascii() and text.isdigit():
        number = int(text)
        limit = Limit(edits=number)
    else:
        number = parse_size("--shard-size", text)
        limit = Limit(bytes=number)
    if number < 1:
        raise InvalidRequest(f"--shard-size {text!r} is nothing: write 500MB, or a number of edits")
    return limit
