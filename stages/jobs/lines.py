"""Lines of the edits file: one JSON object each, read so that one bad line spoils no other."""

import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from adaptivedrag.errors import InvalidEdit
from stages.jobs.complaints import Refused, key_name, one_line, printable
from stages.jobs.edit import BROKEN, BadEdit
from stages.jobs.forms import HEAD, form_of_edits

LONGEST_LINE = 1 << 20


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1.

    Raises:
        InvalidEdit: if the file cannot be read, or its beginning shows that it has no such lines.
    """
    try:
        refuse_special(path)
        with path.open("rb") as file:
            if form := form_of_edits(path, file.read(HEAD)):
                raise InvalidEdit(f"{path} is {form}")
            file.seek(0)
            lines = iter(lambda: file.readline(LONGEST_LINE + 1), b"")
            number, inside = 0, False
            for line in lines:
                # A line longer than the limit arrives in pieces; the first is enough to refuse it.
                number, continued = number + (not inside), inside
                inside = not line.endswith(b"\n")
                if not continued and (line := line.strip().removeprefix(b"\xef\xbb\xbf")):
                    yield number, line
    except FileNotFoundError:
        raise InvalidEdit(f"{path} does not exist: correct `edits` in the job file") from None
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None


def refuse_special(path: Path) -> None:
    """Refuse what would block, or never end, when it is opened.

    Raises:
        InvalidEdit: if it is not a regular file.
        OSError: if it is not there.
    """
    if path.is_dir():
        raise InvalidEdit(
            f"{path} is not a regular file but a folder: name a file in it, such as job.toml; "
            "`adaptivedrag import folder` writes one for pictures"
        )
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidEdit(f"{path} is not a regular file: name another")


def parse_line(number: int, line: bytes) -> dict[str, Any] | BadEdit:
    """Return the JSON object of a line, or say what is wrong with it."""
    try:
        return _parse(line)
    except Refused as refused:
        return BadEdit(f"line {number}", number, refused.field, str(refused))


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose keys are there once.

    Raises:
        Refused: naming a key that is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise Refused(key_name(twice), f"key {printable(twice)} is there twice: keep one")
    return found


def _parse(line: bytes) -> dict[str, Any]:
    """Read one JSON object; refuse what Python's reader would accept beyond JSON."""
    if len(line) > LONGEST_LINE:
        raise Refused("", f"the line is longer than {LONGEST_LINE >> 20} MiB: split the edit")
    try:
        raw = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused("", f"not UTF-8 at byte {error.start}: save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise Refused("", f"{BROKEN} at column {error.colno}: {error.msg}: fix it") from None
    except RecursionError:
        raise Refused("", "JSON is nested too deeply: flatten it") from None
    except ValueError as error:
        raise Refused("", f"{BROKEN}: {one_line(error)}") from None
    if not isinstance(raw, dict):
        raise Refused("", f'{printable(raw)} is not an edit: write {{"id": …, "image": …}}')
    return raw


def _refuse_constant(name: str) -> NoReturn:
    raise Refused("", f"{name} is not JSON: write a finite number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=without_duplicates)
