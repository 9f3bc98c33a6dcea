"""Signs of life of a run: a small file in the store that changes while its process lives.

Only changes count. Clocks of different machines are never compared: who watches remembers what the
file held, and by its own clock since when it has not changed.
"""

import json
import platform
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

from artifacts import ArtifactError, ArtifactStore

BEAT = "beat.json"
BEAT_SECONDS = 10.0
PATIENCE = 45.0
"""Seconds without a new beat after which a run counts as lost."""


@contextmanager
def beating(store: ArtifactStore, run_id: str, seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Show signs of life of a run until the block ends, from a thread of its own."""
    over = threading.Event()
    process = secrets.token_hex(8)

    def beat() -> None:
        number = 0
        while True:
            number += 1
            document = {"process": process, "host": platform.node(), "number": number}
            with suppress(ArtifactError, OSError):  # the next one may get through
                store.put_run(run_id, BEAT, json.dumps(document).encode())
            if over.wait(seconds):
                return

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(seconds)


def last_beat(store: ArtifactStore, run_id: str) -> bytes:
    """Return the last sign of life of a run; empty if there was none.

    Raises:
        StoreUnavailable: if the store cannot be read.
    """
    return store.get_run(run_id, BEAT) or b""


class Watch:
    """Remembers for how long signs have not changed, by this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Have seen nothing yet."""
        self._clock = clock
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def unchanged(self, name: Hashable, sign: Hashable) -> float:
        """Return for how many seconds the sign of a name has been the same."""
        before, since = self._seen.get(name, (None, 0.0))
        if name not in self._seen or sign != before:
            since = self._clock()
            self._seen[name] = sign, since
        return self._clock() - since

    @property
    def quiet(self) -> float:
        """For how many seconds no sign of any name has changed; 0 if none has been seen."""
        return min((self._clock() - since for _, since in self._seen.values()), default=0.0)

    def keep(self, names: set[Hashable]) -> None:
        """Forget all other names."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
