"""Looks at thousands of files of a disk at once."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

SETTLED_NS = 2_000_000_000
"""Longest tick of a file system's clock (FAT's): within it a file can change unnoticed."""


def stamps(root: str, files: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return a text for each file that changes when the file or its folder's list of files does.

    Args:
        root: the folder that all paths are relative to.
        files: the folder and the name of each file.

    Returns:
        None for a file that is not there, or so new that it could change unnoticed.

    Raises:
        OSError: if a file cannot be looked at.
    """
    found: list[str | None] = []
    look, newest = os.stat, time.time_ns() - SETTLED_NS
    with _opened(root) as top:
        for folder, name in files:
            try:
                above = look(folder, dir_fd=top)
                file = look(f"{folder}/{name}", dir_fd=top)
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
                continue
            changed, made = above.st_ctime_ns, file.st_ctime_ns
            stamp = f"{changed} {made} {file.st_mtime_ns} {file.st_size} {file.st_ino}"
            found.append(stamp if changed <= newest and made <= newest else None)
    return found


def whole(root: str, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> list[bool]:
    """Return for each folder whether it holds files of these sizes and no file `without`.

    Raises:
        OSError: if a file cannot be looked at.
    """
    with _opened(root) as top:
        return [_is_whole(top, folder, sizes, without) for folder, sizes in folders]


def _is_whole(top: int, folder: str, sizes: Mapping[str, int], without: str) -> bool:
    for name, size in sizes.items():
        try:
            file = os.stat(f"{folder}/{name}", dir_fd=top)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if file.st_size != size or not stat.S_ISREG(file.st_mode):
            return False
    return not os.access(f"{folder}/{without}", os.F_OK, dir_fd=top)


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    """Open a folder, so that paths below it are not resolved from the root each time."""
    # O_PATH, where the system has it, opens a folder that may be entered but not listed.
    number = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    try:
        yield number
    finally:
        os.close(number)
