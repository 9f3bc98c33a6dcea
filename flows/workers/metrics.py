"""What a worker tells Prometheus, on request: counted from the events of its processes."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    Summary,
    disable_created_metrics,
    start_http_server,
)

from flows.outcomes import InvalidRequest

LOOPBACK = "127.0.0.1"

Queue = Callable[[], Mapping[str, int]]
"""Counts the pool's flow runs by their state; raises where the server does not answer."""


def serve_metrics(address: str, folder: Path, queue: Queue) -> int:
    """Answer at an address until this process ends.

    Args:
        address: HOST:PORT, or a PORT of the loopback interface; port 0 for one that is free.
        folder: where the worker's processes write their events.

    Returns:
        The port.

    Raises:
        InvalidRequest: if the address has another form, or cannot be had.
    """
    host, _, port = address.rpartition(":")
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the text
    metrics = WorkerMetrics(folder, queue)
    try:
        server, _ = start_http_server(int(port), host.strip("[]") or LOOPBACK, metrics)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"--metrics {address!r} is no address: write HOST:PORT, such as {LOOPBACK}:9100"
        ) from error
    except OSError as error:
        raise InvalidRequest(
            f"--metrics {address} cannot be had ({error.strerror}): name another one"
        ) from error
    return int(server.server_port)


class WorkerMetrics(CollectorRegistry):
    """Metrics of a worker; each request first counts what was written since the last one."""

    def __init__(self, folder: Path, queue: Queue) -> None:
        """Count from zero."""
        super().__init__()
        self._folder, self._queue = folder, queue
        self._read: dict[Path, int] = {}
        self._turn = Lock()

        def of(kind: Any, name: str, text: str, *labels: str) -> Any:
            return kind(f"adaptivedrag_{name}", text, labels, registry=self)

        self._began = of(Counter, "runs_begun", "Runs of shards that began.")
        self._ended = of(Counter, "runs_ended", "Runs that ended, by exit code.", "exit_code")
        self._done = of(Counter, "edits_done", "Edits that were done.")
        self._failed = of(Counter, "edits_failed", "Edits that failed.", "stage", "kind")
        self._seconds = of(Summary, "stage_seconds", "Seconds of an artifact.", "stage")
        self._peak = of(Gauge, "peak_memory_bytes", "Most that an artifact took.", "device", "gpu")
        self._free = of(Gauge, "free_memory_bytes", "What a GPU has left.", "device", "gpu")
        self._runs = of(Gauge, "flow_runs", "Flow runs of the pool, by state.", "state")
        self._answers = of(Gauge, "server_up", "Whether the Prefect server answers.")

    def collect(self) -> Iterator[Metric]:
        """Yield everything as it is now."""
        with self._turn:
            for event in self._new_events():
                self._count(event)
            self._ask_server()
            yield from super().collect()

    def _new_events(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("*.jsonl")):
            begin = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = begin + len(whole)
            for line in whole.splitlines():
                with suppress(ValueError):  # cut off, where there was no room
                    yield json.loads(line)

    def _count(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "run_began":
                self._began.inc()
            case "artifact_made":
                self._seconds.labels(event["stage"]).observe(event["seconds"])
                device = event["device"], event["gpu"] or ""
                self._peak.labels(*device).set(event["peak_memory"])
                if event["free_memory"] is not None:
                    self._free.labels(*device).set(event["free_memory"])
            case "edit_done":
                self._done.inc()
            case "edit_failed":
                self._failed.labels(event["stage"], event["kind"]).inc()
            case "run_ended":
                self._ended.labels(event["exit_code"]).inc()

    def _ask_server(self) -> None:
        self._runs.clear()
        try:
            for state, number in self._queue().items():
                self._runs.labels(state).set(number)
        except Exception:  # whatever a client makes of a server that is away
            self._answers.set(0)
        else:
            self._answers.set(1)
