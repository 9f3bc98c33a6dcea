"""Processes that carry a mark in their environment, with all that they start."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "TESTS_MARK"
"""The variable that holds the mark."""


def marked(mark: str) -> list[int]:
    """Return the processes with a mark that live."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_marked(path, mark)]


def _is_marked(process: Path, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in (process / "environ").read_bytes()
    except OSError:  # gone meanwhile
        return False


def left_behind(mark: str, seconds: float) -> int:
    """Count the processes that do not go away in time, then kill those."""
    deadline = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)
