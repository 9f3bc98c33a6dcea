"""Files of another form than edits or jobs have: which form it is, and the command that takes it.

A table or a JSON array is refused in one line, not once for each of its rows.
"""

import json
import re
import shlex
from pathlib import Path

from stages.jobs.absent import stand_in_of

HEAD = 1 << 16
"""Bytes by which a form is recognized."""

_TABLE = "save it as CSV, which `adaptivedrag import csv FILE --out DIR` takes"
_BYTES = (
    (b"PAR1", "Parquet", "`adaptivedrag import parquet FILE --out DIR` takes it"),
    (b"ARROW1", "Arrow", "save it as Parquet, which `adaptivedrag import parquet` takes"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _TABLE),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"BZh", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"SQLite format 3", "an SQLite database", _TABLE),
    (b"%PDF", "a PDF", _TABLE),
    (b"\x89PNG", "a picture", "name a text file"),
    (b"\xff\xd8\xff", "a picture", "name a text file"),
    (b"\x93NUMPY", "a NumPy array", _TABLE),
    (b"\x80\x02", "a pickle", "write it as JSON"),
    (b"\x80\x03", "a pickle", "write it as JSON"),
    (b"\x80\x04", "a pickle", "write it as JSON"),
    (b"\x80\x05", "a pickle", "write it as JSON"),
)
_JSON = "`adaptivedrag import json FILE --out DIR` takes it"
_CSV = "`adaptivedrag import csv FILE --out DIR` takes it"
_YAML = re.compile(r"---|- ?[\w{\"'-]|[\w-]+:(\s|$)")
_TOML = re.compile(r"\[\[?[\w.-]+\]\]?\s*(#.*)?$|[\w.-]+\s*=\s*\S")


def form_of_edits(path: Path, head: bytes) -> str | None:
    """Say in one line that a file is not JSON lines, if its first bytes show what it is instead."""
    found = _of_bytes(head) or _of_encoding(head) or _of_text(head, path.name)
    return found and f"{found[0]}, and edits are one JSON object per line: {_named(found[1], path)}"


def form_of_job(path: Path, head: bytes) -> str | None:
    """Say in one line what a file is that is not TOML, if its first bytes show it."""
    if _is_edit(_first_line(head)):
        return 'edits, not a job: write edits = "' + path.name + '" in a job.toml, and name that'
    if found := _of_bytes(head) or _of_encoding(head):
        return f"{found[0]}: {_named(found[1], path)}"
    first = _first_line(head)
    if first.startswith("[{") or (first == "[" and "{" in _text(head)):
        return f"a JSON array: {_named(_JSON, path)}"
    if first.startswith("{"):
        return 'JSON: write it as TOML, such as model = "pocket"'
    if first.startswith("<"):
        return "XML or HTML: write it as TOML"
    if _YAML.match(first):
        return 'YAML: write it as TOML, such as model = "pocket"'
    if _is_table(first) and "=" not in first:
        return f"CSV: {_named(_CSV, path)}"
    return None


def other_form(path: Path, head: bytes, own: str) -> str | None:
    """Say in one line what a file is that is taken for `own`, "CSV" or "JSON", and is not."""
    is_json = _first_line(head).startswith("{") and not _of_bytes(head)
    found = ("JSON", _JSON) if is_json else _of_bytes(head) or _of_text(head, path.name)
    return None if found is None or own in found[0] else f"{found[0]}: {_named(found[1], path)}"


def _named(remedy: str, path: Path) -> str:
    """Name the file in a command, so that it runs as it is written."""
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return remedy.replace("FILE", shlex.quote(str(shown)))


def _of_bytes(head: bytes) -> tuple[str, str] | None:
    if head.startswith(b"PK\x03\x04") and (b"xl/" in head or b"[Content_Types]" in head):
        return "an Excel workbook", _TABLE
    if head.startswith(b"PK\x03\x04") and b"opendocument" in head[:100]:
        return "a spreadsheet of LibreOffice", _TABLE
    for first, form, remedy in _BYTES:
        if head.startswith(first):
            return form, remedy
    return None


def _of_encoding(head: bytes) -> tuple[str, str] | None:
    encoding = json.detect_encoding(head).upper()
    return None if encoding.startswith("UTF-8") else (encoding[:6], "save it as UTF-8")


def _of_text(head: bytes, name: str) -> tuple[str, str] | None:
    first = _first_line(head)
    if stand_in := stand_in_of(head, name):
        what, _, remedy = stand_in.partition(": ")
        return what.removeprefix(f"{name} is "), remedy
    if first.startswith("{'"):
        return "Python dictionaries", "write them with json.dumps"
    if first.startswith("{"):
        return ("indented JSON", _JSON) if _goes_on(first) else None
    if _TOML.match(first) and not first.startswith("sep="):
        return "TOML", "write the edits as JSON"
    if first.startswith("["):
        return "a JSON array", _JSON
    if first.startswith("<"):
        return "XML or HTML", "write it as JSON"
    if _YAML.match(first):
        return "YAML", f"write it as JSON: {_JSON}"
    return ("CSV", _CSV) if _is_table(first) else None


def _text(head: bytes) -> str:
    return head.decode("utf-8-sig", "replace")


def _first_line(head: bytes) -> str:
    return next((line.strip() for line in _text(head).splitlines() if line.strip()), "")


def _goes_on(line: str) -> bool:
    """Return whether a line that begins an object ends before the object does."""
    return line.rstrip().endswith(("{", "[", ","))


def _is_table(line: str) -> bool:
    return any(mark in line for mark in ",;\t") and not line.startswith(("{", "["))


def _is_edit(line: str) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and bool({"id", "image", "drags"} & found.keys())
