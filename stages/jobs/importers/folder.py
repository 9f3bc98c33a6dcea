"""A folder of pictures as the skeleton of a job: one edit each, whose drags are to be written."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.formats import RAW_SUFFIXES
from stages.jobs.complaints import one_line
from stages.jobs.ids import Ids
from stages.jobs.image_folder import locate
from stages.jobs.importers.exported import import_export, is_export
from stages.jobs.importers.text import prompt_of, read_text
from stages.jobs.importers.writer import MASK_FOLDER, Imported, folders, unfinished, write_job

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2"),
)
RESULTS_TABLE = "results.jsonl"
"""What a folder of a job's results has: its pictures are none to edit."""
_NOT_READ = (
    *(*RAW_SUFFIXES, ".raf", ".rw2", ".cr3", ".psd", ".xcf", ".jxl", ".svg", ".exr", ".hdr"),
    *(".tga", ".ico", ".icns", ".qoi", ".jpe", ".jpx", ".j2k", ".apng"),
)
"""Suffixes of pictures that are passed over."""


def import_folder(
    directory: Path, out: Path | None = None, *, follow_links: bool = False
) -> Imported:
    """Write a job with an edit for each picture under a folder, with no drags yet.

    A text beside a picture, of the same name and with the suffix .txt, is its prompt. Of an export,
    the edits are taken back as they were.

    Args:
        out: folder for the job; by default that of the pictures.

    Raises:
        InvalidEdit: if there is no picture, or another job is in `out`.
    """
    if is_export(directory):
        return import_export(directory, out, follow_links=follow_links)
    lines, skipped, notes, ids = [], [], [], Ids()
    for name in _pictures(directory, SUFFIXES + _NOT_READ, follow_links):
        inner = PurePosixPath(name)
        try:
            if inner.suffix.lower() in _NOT_READ:
                raise InvalidEdit(f"{name} is passed over: {inner.suffix} is not read: convert it")
            path = locate(directory, name, follow_links=follow_links)
        except InvalidEdit as error:
            skipped.append(str(error))
            continue
        prompt, note = _prompt(path)
        notes += note
        line = {
            "id": ids.claim(".".join((*inner.parent.parts, inner.stem))),
            "image": name,
            "prompt": prompt,
            "drags": [],
            "tags": [*inner.parts[:-1][:1]],
        }
        lines.append(line)
    if not lines:
        why = skipped[0] if skipped else f"pictures end in {', '.join(SUFFIXES)}"
        raise InvalidEdit(f"{directory} has no picture that can be imported: {why}")
    job = write_job(directory, out or directory, lines, follow_links=follow_links)
    return Imported.of(job, lines, skipped, [*notes, *unfinished(lines)])


def pictures_in(directory: Path) -> Iterator[str]:
    """Yield the names of the pictures under a folder that can be read, by their suffixes."""
    return _pictures(directory, SUFFIXES, follow_links=False)


def _pictures(directory: Path, suffixes: tuple[str, ...], follow_links: bool) -> Iterator[str]:
    results = set[Path]()
    for folder, files in folders(directory, follow_links=follow_links):
        inner = folder.relative_to(directory)
        if any(part.startswith((".", "__")) or part == MASK_FOLDER for part in inner.parts):
            continue
        if RESULTS_TABLE in files or folder.parent in results:
            results.add(folder)
            continue
        for file in sorted(files):
            if file.lower().endswith(suffixes) and not file.startswith("."):
                yield (inner / file).as_posix()


def _prompt(picture: Path) -> tuple[str, list[str]]:
    """Return the text beside a picture, as sets for training have them, or why it is not used."""
    texts = [picture.with_suffix(suffix) for suffix in (".txt", ".TXT")]
    try:
        text = next((path for path in texts if path.exists()), None)
        return (prompt_of(read_text(text)) if text else ""), []
    except (InvalidEdit, OSError) as error:
        return "", [f"{picture.name} has no prompt: {one_line(error)}"]
