"""A pipe that one process alone holds open: the processes that read it end with that process.

Even a process that is killed closes its files, so nothing that it started outlives it.
"""

import os
import signal
import threading


def end_with(lifeline: int) -> None:
    """Kill this process and its group as soon as the other end of `lifeline` is closed."""
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)
