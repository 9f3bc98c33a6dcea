"""Why a file of a dataset is not there, or only stands for one, and what brings it."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_HEAD = 400
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ANNEX = re.compile(r"(\.\./)*(\.git)?/?annex/objects/")
_HTML = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)


def spellings(name: str) -> tuple[str, ...]:
    """Return a name, and what other systems make of its accents: macOS takes them apart."""
    if name.isascii():
        return (name,)
    composed = unicodedata.normalize("NFC", name)
    return tuple(dict.fromkeys((name, composed, unicodedata.normalize("NFD", name))))


def remedy(root: Path, name: str) -> str:
    """Say what to do about a file called `name` that is not there in `root`."""
    if _URL.match(name):
        return "it is a URL, and only files are read: download it, and name the file"
    if broken := _broken_link(root, name):
        return broken
    if any(os.path.isfile(root / f"{part}.dvc") for part in _upward(root, name)):
        return "DVC keeps it: run `dvc pull`, or `dvc checkout` if it was fetched before"
    if similar := _similar(root, name):
        return f"did you mean {similar!r}?"
    if "\\" in name:
        return "write the path relative to this folder, with /"
    if name.startswith("~"):
        return "~ is not expanded here: write the path relative to this folder"
    return "correct the path"


def broken_link(path: Path) -> str | None:
    """Say what brings the content of a link to nothing; None for anything else."""
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        return None
    if path.exists():
        return None
    if _ANNEX.search(target):
        return f"git-annex has its content elsewhere: run `git annex get {path.name}`"
    if "/blobs/" in target:
        return "its snapshot of the hub is not whole: run `hf download` for it again"
    if "/files/md5/" in target or "/.dvc/" in target:
        return "DVC's cache lacks it: run `dvc pull`"
    return f"it is a link to {target:.200}, which is not there: restore that file"


def stand_in(path: Path) -> str | None:
    """Say of a regular file that only stands for another what fetches that; else None."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    return stand_in_of(head, path.name)


def stand_in_of(head: bytes, name: str) -> str | None:
    """Like `stand_in`, of the first bytes of a file."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return f"{name} is a pointer of Git LFS, without the content: run `git lfs pull`"
    if _ANNEX.match(head[:200].decode("utf-8", "replace")):
        return f"{name} is a pointer of git-annex, without the content: run `git annex get {name}`"
    if _HTML.match(head):
        return f"{name} is a web page, not what its name says: download it again"
    return None


def _broken_link(root: Path, name: str) -> str | None:
    return next((why for part in _upward(root, name) if (why := broken_link(root / part))), None)


def _upward(root: Path, name: str) -> Iterator[str]:
    """Yield a relative name and the folders that it names, innermost first."""
    path = PurePosixPath(name)
    if not path.is_absolute() and ".." not in path.parts:
        yield from (str(part) for part in (path, *path.parents[:-1]))


def _similar(root: Path, name: str) -> str | None:
    """Return a file that is there under that name but for case, slashes, or folders before it."""
    slashed = name.replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".", "~")]
    foreign = slashed.startswith(("/", "~")) or _WINDOWS.match(name)
    starts = range(len(parts)) if foreign else (0,)
    for start in starts:
        if ".." not in parts and (found := _by_case(root, parts[start:])):
            return found
    return None


def _by_case(root: Path, parts: list[str]) -> str | None:
    found: list[str] = []
    for part in parts:
        folder, wanted = root.joinpath(*found), _folded(part)
        if (folder / part).exists():
            found.append(part)
            continue
        with suppress(OSError, ValueError):
            names = [name for name in os.listdir(folder) if _folded(name) == wanted]
            if names:
                found.append(min(names))
                continue
        return None
    return "/".join(found)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
