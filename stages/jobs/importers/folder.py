"""A folder of pictures as the skeleton of a job: one edit each, whose drags are to be written."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from adaptivedrag.errors import InvalidEdit
from stages.jobs.ids import Ids
from stages.jobs.image_folder import locate
from stages.jobs.importers.writer import MASK_FOLDER, Imported, folders, unfinished, write_job

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"),
    *(".avif", ".heic", ".heif", ".jp2"),
)
_LONGEST_PROMPT = 2000


def import_folder(
    directory: Path, out: Path | None = None, *, follow_links: bool = False
) -> Imported:
    """Write a job with an edit for each picture under a folder, with no drags yet.

    A text beside a picture, of the same name and with the suffix .txt, is its prompt.

    Args:
        out: folder for the job; by default that of the pictures.

    Raises:
        InvalidEdit: if there is no picture, or another job is in `out`.
    """
    lines, skipped, ids = [], [], Ids()
    for name in _pictures(directory, follow_links):
        try:
            path = locate(directory, name, follow_links=follow_links)
        except InvalidEdit as error:
            skipped.append(str(error))
            continue
        inner = PurePosixPath(name)
        line = {
            "id": ids.claim(".".join((*inner.parent.parts, inner.stem))),
            "image": name,
            "prompt": _prompt(path.with_suffix(".txt")),
            "drags": [],
            "tags": [*inner.parts[:-1][:1]],
        }
        lines.append(line)
    if not lines:
        why = skipped[0] if skipped else f"pictures end in {', '.join(SUFFIXES)}"
        raise InvalidEdit(f"{directory} has no picture that can be imported: {why}")
    job = write_job(directory, out or directory, lines, follow_links=follow_links)
    return Imported.of(job, lines, skipped, unfinished(lines))


def _pictures(directory: Path, follow_links: bool) -> Iterator[str]:
    for folder, files in folders(directory, follow_links=follow_links):
        inner = folder.relative_to(directory)
        if any(part.startswith((".", "__")) or part == MASK_FOLDER for part in inner.parts):
            continue
        for file in sorted(files):
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield (inner / file).as_posix()


def _prompt(path: Path) -> str:
    """Return the text beside a picture, as sets for training have them."""
    try:
        return " ".join(path.read_text("utf-8-sig").split())[:_LONGEST_PROMPT]
    except (OSError, ValueError):
        return ""
