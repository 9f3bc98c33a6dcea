"""What lies in folders of a disk: many files looked at, by this process and one beside it.

To plan a finished job is mostly to look at files, and Python looks at one after the other, however
many threads it has. So a `Helper` can do most of it meanwhile: a process that runs this file as a
program, which is why nothing but the standard library is needed here.
"""

from __future__ import annotations

import marshal
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

SETTLED_NS = 2_000_000_000
"""A file can be written again within one tick of its file system's clock; this is FAT's."""


def stamps(root: str, files: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return what changes whenever a file does, or another comes to lie beside it.

    Args:
        root: that the folders are relative to.
        files: the folder and the name of each.

    Returns:
        None for a file that is not there, or so new that it could change unnoticed.

    Raises:
        OSError: if one cannot be looked at.
    """
    found: list[str | None] = []
    look, newest = os.stat, time.time_ns() - SETTLED_NS
    with _Opened(root) as top:
        for folder, name in files:
            try:
                above = look(folder, dir_fd=top)
                file = look(f"{folder}/{name}", dir_fd=top)
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
                continue
            changed, made = above.st_ctime_ns, file.st_ctime_ns
            told = f"{changed} {made} {file.st_mtime_ns} {file.st_size} {file.st_ino}"
            found.append(told if changed <= newest and made <= newest else None)
    return found


def whole(root: str, folders: Sequence[tuple[str, Mapping[str, int]]], without: str) -> list[bool]:
    """Tell of each folder whether files of these sizes lie below it, and `without` does not.

    Raises:
        OSError: if one cannot be looked at.
    """
    found = []
    look, is_there, regular = os.stat, os.access, stat.S_ISREG
    with _Opened(root) as top:
        for folder, sizes in folders:
            is_whole = True
            for name, size in sizes.items():
                try:
                    file = look(f"{folder}/{name}", dir_fd=top)
                except (FileNotFoundError, NotADirectoryError):
                    is_whole = False
                    break
                if file.st_size != size or not regular(file.st_mode):
                    is_whole = False
                    break
            found.append(is_whole and not is_there(f"{folder}/{without}", os.F_OK, dir_fd=top))
    return found


class _Opened:
    """A folder that is open, so that paths below it need not be followed from the root."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> int:
        # Where there is such a thing, for a folder that may be passed through and not listed.
        self._number = os.open(self._folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
        return self._number

    def __exit__(self, *_: object) -> None:
        os.close(self._number)


_PIPE = 1 << 20
"""Bytes that a pipe should hold, so that nobody waits while a question is read."""


class Helper:
    """A process that looks whether folders are `whole` while this one goes on. For one thread."""

    def __init__(self) -> None:
        """Start it; if there is no room for one, all is looked at here."""
        self._process = _started(_PIPE) or _started(-1)
        self._asked: _Asked | None = None

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Let the process end, once it has answered; at once after an error."""
        if self._asked and kind is None:
            self._asked.wait()
        if self._process:
            if kind is not None:
                self._process.kill()
            self._process.communicate()

    def whole(
        self, root: str, folders: Sequence[tuple[str, Mapping[str, int]]], without: str
    ) -> Callable[[], list[bool]]:
        """Begin to look; what is returned waits for the answer of `whole`, or raises as it does."""
        if self._asked:
            self._asked.wait()  # or else its answer and this question could wait for each other
        self._asked = _Asked(self._process, (root, folders, without))
        return self._asked


def _started(pipe_size: int) -> subprocess.Popen[bytes] | None:
    command = [sys.executable, "-I", "-S", __file__]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with suppress(OSError):  # no room for a process, or for such pipes
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=nowhere, pipesize=pipe_size
        )
    return None


class _Asked:
    def __init__(self, process: subprocess.Popen[bytes] | None, question: tuple[Any, ...]) -> None:
        self._question = question
        self._answers: IO[bytes] | None = None
        self._found: list[bool] | None = None
        if process and process.stdin:
            with suppress(BrokenPipeError):
                process.stdin.write(marshal.dumps(list(question)))
                process.stdin.flush()
                self._answers = process.stdout

    def __call__(self) -> list[bool]:
        self.wait()
        if self._found is None:
            self._found = whole(*self._question)
        return self._found

    def wait(self) -> None:
        answers, self._answers = self._answers, None
        if answers:
            # It may have died: by chance, or of what will be met here, too.
            with suppress(EOFError, ValueError, TypeError):
                self._found = marshal.load(answers)


def main() -> None:
    """Answer what is asked on standard input, until that ends."""
    with suppress(EOFError):
        while True:
            question = marshal.load(sys.stdin.buffer)
            sys.stdout.buffer.write(marshal.dumps(whole(*question)))
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
