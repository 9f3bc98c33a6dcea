"""What lies in folders of a disk: many files looked at, by this process and one beside it.

To plan a finished job is mostly to look at files, and Python looks at one after the other, however
many threads it has. So a `Helper` can do most of it meanwhile: a process that runs this file as a
program, which is why nothing but the standard library is needed here.
"""

from __future__ import annotations

import marshal
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import PriorityQueue
from select import POLLIN, poll
from threading import Thread
from typing import Any

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


def unchanged(root: str, files: Sequence[tuple[str, str, str | None]]) -> list[bool]:
    """Tell of each file, given with the stamp that it had, whether it has that still.

    Raises:
        OSError: if one cannot be looked at.
    """
    now = stamps(root, [(folder, name) for folder, name, _ in files])
    return [
        stamp is not None and stamp == before
        for stamp, (_, _, before) in zip(now, files, strict=True)
    ]


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
"""Bytes that a pipe should hold, so that nobody waits until an answer is read."""
_NOW, _LATER = 0, 1
"""Which questions come first."""
_ENOUGH = 12
"""With so many questions before them, those that can wait are answered sooner here."""


class Helper:
    """A process that looks at files while this one goes on. For one thread."""

    def __init__(self) -> None:
        """Start it; if there is no room for one, all is looked at here."""
        self._process = _started(_PIPE) or _started(-1)
        self._waiting: dict[int, _Asked] = {}
        self._number = 0

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Let the process end, once it has answered; at once after an error."""
        try:
            if kind is None:
                for asked in [*self._waiting.values()]:
                    asked.wait()
        finally:
            if self._process:
                if kind is not None or self._waiting:
                    self._process.kill()
                    self._waiting.clear()
                self._process.communicate()

    def unchanged(
        self, root: str, files: Sequence[tuple[str, str, str | None]]
    ) -> Callable[[], list[bool]]:
        """Begin to look, before what can wait.

        Returns:
            What waits for the answer of `unchanged`, or raises as it does.
        """
        return self._ask(unchanged, _NOW, root, files)

    def whole(
        self, root: str, folders: Sequence[tuple[str, Mapping[str, int]]], without: str
    ) -> Callable[[], list[bool]]:
        """Begin to look, when nothing is urgent.

        Returns:
            What waits for the answer of `whole`, or raises as it does.
        """
        return self._ask(whole, _LATER, root, folders, without)

    def _ask(self, look: Callable[..., list[bool]], urgency: int, *about: Any) -> _Asked:
        self._number += 1
        asked = _Asked(partial(look, *about), partial(self._hear, self._number))
        while self._waiting and self._has_answered():
            self._take_answer()
        if urgency == _LATER and len(self._waiting) >= _ENOUGH:
            with suppress(OSError):  # which is met again where it can be said
                asked.look()
        elif self._process and self._process.stdin:
            with suppress(BrokenPipeError):
                question = urgency, self._number, look.__name__, about
                self._process.stdin.write(_packed(question))
                self._process.stdin.flush()
                self._waiting[self._number] = asked
        return asked

    @property
    def _answers(self) -> int:
        """Where answers come from; read as a file, some could lie unseen in its buffer."""
        assert self._process and self._process.stdout  # noqa: PT018
        return self._process.stdout.fileno()

    def _hear(self, number: int) -> None:
        """Take answers in until that of a question is there, or none will come any more."""
        while number in self._waiting:
            self._take_answer()

    def _has_answered(self) -> bool:
        ready = poll()
        ready.register(self._answers, POLLIN)
        return bool(ready.poll(0))

    def _take_answer(self) -> None:
        try:
            number, found = _unpacked(self._answers)
        except (EOFError, ValueError, TypeError):  # it has died
            self._waiting.clear()
        else:
            self._waiting.pop(number).tell(found)


class _Asked:
    """A question, until its answer is there."""

    def __init__(self, look: Callable[[], list[bool]], hear: Callable[[], None]) -> None:
        self._look: Callable[[], list[bool]] | None = look
        self.wait = hear
        self.found: list[bool] | None = None

    def __call__(self) -> list[bool]:
        if self.found is None:
            self.wait()
            self.look()
            assert self.found is not None
        return self.found

    def look(self) -> None:
        """Find the answer here, unless it is known."""
        if self._look:
            self.tell(self._look())

    def tell(self, found: list[bool] | None) -> None:
        """Take the answer over, if it is one; the question is of no more use then."""
        if found is not None:
            self.found, self._look = found, None


def _started(pipe_size: int) -> subprocess.Popen[bytes] | None:
    command = [sys.executable, "-I", "-S", __file__]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with suppress(OSError):  # no room for a process, or for such pipes
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=nowhere, pipesize=pipe_size
        )
    return None


def main() -> None:
    """Answer what is asked on standard input, the urgent first, until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for the process that asks
    asked: PriorityQueue[Any] = PriorityQueue()
    # Else a question and an answer, each larger than its pipe, would wait for each other.
    Thread(target=_take_in, args=(asked,), daemon=True).start()
    while (question := asked.get()) != _END:
        _, number, look, about = question
        found = None
        with suppress(OSError):  # which is met again where it can be said
            found = _LOOKS[look](*about)
        sys.stdout.buffer.write(_packed([number, found]))
        sys.stdout.buffer.flush()


_LOOKS: Mapping[str, Callable[..., list[bool]]] = {"unchanged": unchanged, "whole": whole}
_END = (_LATER + 1,)


def _take_in(asked: PriorityQueue[Any]) -> None:
    try:
        with suppress(EOFError):
            while True:
                asked.put(_unpacked(sys.stdin.fileno()))
    finally:
        asked.put(_END)


def _packed(what: Any) -> bytes:
    data = marshal.dumps(what)
    return len(data).to_bytes(8, "big") + data


def _unpacked(source: int) -> Any:
    """Read what was packed, in ever so few calls: `marshal` itself would make one per value.

    Raises:
        EOFError: if there is no more.
    """
    return marshal.loads(_read(source, int.from_bytes(_read(source, 8), "big")))


def _read(source: int, count: int) -> bytes:
    parts = []
    while count:
        part = os.read(source, min(count, _PIPE))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    try:
        main()
    finally:
        # Python itself would wait for the thread that reads, and then abort.
        os._exit(1 if sys.exc_info()[0] else 0)
