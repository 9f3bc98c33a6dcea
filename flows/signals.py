"""What Ctrl-C and SIGTERM do to a process that works on a run."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from flows.outcomes import INTERRUPTED
from flows.run import Run


@contextmanager
def stopping(run: Run, console: Console) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop, and a second one into an end.

    That end is like a kill: a stage may be in a long call that nothing can interrupt. What is
    published stays, the rest goes on from its last checkpoint, and the server ends by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if run.stop.asked:
            console.show_cursor(True)
            os._exit(INTERRUPTED)
        run.stop.ask()
        console.print("Stopping after the current step; Ctrl-C again stops at once.")

    signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, ask) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
