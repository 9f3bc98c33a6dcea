"""Workers that are killed, and started again as a service manager does."""

import os
import random
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from loopback import Place


@dataclass
class KilledWorker:
    """One worker with one process; when it is gone, `tend` starts another one."""

    at: Place
    number: int
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.process = self.at.start("worker", "--processes", 1, log=f"worker-{self.number}")

    def tend(self) -> None:
        """Start it again if it is gone."""
        if self.process.poll() is not None:
            self.start()

    @property
    def child(self) -> int | None:
        """The process of the shard at hand."""
        return next(iter(children(self.process.pid)), None)

    def kill(self, whom: str) -> list[str]:
        """Kill the worker, its child, or both at once; return that, or nothing if there is none."""
        child = self.child
        victims = {
            "worker": [self.process.pid],
            "child": [child],
            "both": [child, self.process.pid],
        }
        found = [pid for pid in victims[whom] if pid is not None]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if whom != "child":
            self.process.wait()
        return [whom] if found else []


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        tasks = Path(f"/proc/{pid}/task")
        return [
            int(child)
            for task in tasks.iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def draw_victim(workers: list[KilledWorker], draw: random.Random) -> tuple[KilledWorker, str]:
    """Draw a worker, and what of it is killed."""
    return draw.choice(workers), draw.choice(["worker", "child", "both"])
