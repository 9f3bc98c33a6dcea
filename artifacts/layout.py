"""Where things lie in a store: the only place that knows its paths.

objects/ab/<id>/...                    payload files and manifest.json, immutable
actions/<stage>/12/<key>/0001.json     the record; its appearance is the commit
progress/<stage>/<key>/<step>/...      checkpoints
attempts/<stage>/<key>/0001.json       failures
runs/<run>/<name>                      plans, events, summaries
clock                                  written to ask for the time by the store's own clock
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from artifacts.keys import Digest, Key, is_digest

FORMAT_FILE = "format.json"
CLOCK = "clock"
DAMAGED = "damaged.json"
OBJECTS, ACTIONS, PROGRESS = "objects", "actions", "progress"
ATTEMPTS, RUNS = "attempts", "runs"
FOLDERS = (OBJECTS, ACTIONS, PROGRESS, ATTEMPTS, RUNS)

LARGEST_RECORD = 4 << 20
LARGEST_DOCUMENT = 64 << 20
LARGEST_FILE = 1 << 30

_NUMBERED = re.compile(r"([0-9]{4,9})\.json")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def object_folder(digest: Digest) -> str:
    """Return the folder of an object."""
    return f"{OBJECTS}/{digest[:2]}/{digest}"


def action_folder(stage: str, key: Key) -> str:
    """Return the folder of an action's records; raises ValueError for what is no name or key."""
    return f"{_stage_folder(stage)}/{_key(key)[:2]}/{key}"


@cache
def _stage_folder(stage: str) -> str:
    return f"{ACTIONS}/{word(stage)}"


def key_folder(kind: str, stage: str, key: Key) -> str:
    """Return the folder of what else is kept by key: checkpoints and attempts."""
    return f"{kind}/{word(stage)}/{_key(key)}"


def numbered(folder: str, number: int) -> str:
    """Return the path of a numbered file."""
    return f"{folder}/{file_name(number)}"


def file_name(number: int) -> str:
    """Return the name of a numbered file."""
    return f"{number:04d}.json"


def numbers_of(names: Iterable[str]) -> list[int]:
    """Return the numbers of those names that are of numbered files, in order."""
    return sorted(number for name in names if (number := number_of(name)) is not None)


def number_of(name: str) -> int | None:
    """Return the number of a numbered file's name, or None if it is not one."""
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def most_bytes(path: str) -> int:
    """Return how many bytes a file may have: a foreign file must not fill the memory."""
    if path.startswith(f"{ACTIONS}/") or path.endswith("/manifest.json"):
        return LARGEST_RECORD
    return LARGEST_DOCUMENT if path.endswith(".json") else LARGEST_FILE


def word(text: str) -> str:
    """Return a name that can lead nowhere else; raises ValueError for any other."""
    if not _WORD.fullmatch(text):
        raise ValueError(f"{text!r} cannot name anything in a store")
    return text


def _key(text: Key) -> Key:
    if not is_digest(text):
        raise ValueError(f"{text!r} is not a key")
    return text
