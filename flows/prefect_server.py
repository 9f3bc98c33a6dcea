"""The Prefect server of a run: the user's own when one is named, else a temporary one that is ours.

Ours cannot outlive us: it reads a pipe that only this process holds open, and leaves when the pipe
ends, even if we were killed. It serves a socket that we have bound, so that no other process can
take its port, and a request made while it starts is answered when it is ready. Prefect's own
`SubprocessASGIServer` outlives a process that is killed, and holds up the caller while it starts.
"""

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.lifeline import end_with
from flows.prefect_settings import (
    PrefectUnavailable,
    configured_api_url,
    load_prefect,
    prefect_home,
    profile_settings,
)
from flows.proxies import is_loopback, proxies_for, proxies_of

if TYPE_CHECKING:
    import httpx

START_SECONDS = 120.0
"""A first start migrates a new database, on a busy machine; later ones take a tenth of this."""
POLL_SECONDS = 2.0
ANSWER_SECONDS = 10.0
"""The longest time, in seconds, in which the user's server has to answer."""
STOP_SECONDS = 5.0


QUIET = {
    "prefect": logging.WARNING,
    # A server that is gone costs a line per event here; a run says it once.
    "prefect.events.clients": logging.CRITICAL,
    "EventsWorker": logging.CRITICAL,
    "prefect.FlowRunSuspendingObserver": logging.CRITICAL,
}
"""Levels of Prefect's loggers on a terminal that shows our own progress."""
TO_PAGE = ("prefect.flow_runs", "prefect.task_runs")
"""Loggers that speak on the page of a run alone: on the terminal the run says itself what failed.
"""


@dataclass
class PrefectServer:
    """A Prefect API that the flow of this run talks to; `process` is None for the user's own."""

    api_url: str
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    lifeline: int | None = field(default=None, repr=False)

    @property
    def host(self) -> str | None:
        """The name or address of the machine it runs on; None if the address has none."""
        with contextlib.suppress(ValueError):
            return urlsplit(self.api_url).hostname
        return None

    @property
    def shown(self) -> str:
        """Its URL for people to read: without a password."""
        return re.sub("(?<=//)[^/]*@", "", self.api_url)

    def wait_until_ready(self) -> None:
        """Return once the API answers.

        Raises:
            PrefectUnavailable: if it does not in time, or its process ended.
        """
        with proxies_for(self.host), _new_client() as client:
            self._wait_until_ready(client)

    def answers(self) -> bool:
        """Return whether the API answers now."""
        with proxies_for(self.host), _new_client() as client:
            return _answers(self.api_url, client)

    def _wait_until_ready(self, client: "httpx.Client") -> None:
        deadline = time.monotonic() + (START_SECONDS if self.process else ANSWER_SECONDS)
        while not _answers(self.api_url, client):
            if self.process is not None and self.process.poll() is not None:
                raise PrefectUnavailable(
                    f"The temporary Prefect server ended while it started; its log is {self.log}."
                )
            if time.monotonic() >= deadline:
                raise PrefectUnavailable(self._silence())
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server if it is ours: politely first, so that it writes what it has heard."""
        if self.process is None or self.lifeline is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        os.close(self.lifeline)
        self.lifeline = None
        self.process.wait()

    def _silence(self) -> str:
        if self.process is not None:
            return f"The temporary Prefect server does not answer; its log is {self.log}."
        proxies = {} if is_loopback(self.host) else proxies_of(os.environ)
        through = f" (asked with the proxies of {', '.join(sorted(proxies))})" if proxies else ""
        return (
            f"No Prefect server answers at {self.shown}{through}: start it, or unset "
            "PREFECT_API_URL, in the active profile too, to use a temporary one."
        )


@contextlib.contextmanager
def temporary_server() -> Iterator[PrefectServer]:
    """Name the user's configured Prefect server, or run our own until the block ends.

    Ours starts in the background: do other slow work first, then `wait_until_ready`.

    Raises:
        PrefectUnavailable: if the configured one does not answer.
    """
    configured = configured_api_url()
    server = PrefectServer(configured) if configured else start_server()
    try:
        if configured:
            server.wait_until_ready()
        with proxies_for(server.host):
            load_prefect()
            yield server
    finally:
        server.stop()


@contextlib.contextmanager
def client_settings(server: PrefectServer) -> Iterator[None]:
    """Let Prefect's client in this block talk to `server`, quietly."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_LOGGING_INTERNAL_LEVEL,
        temporary_settings,
    )

    quiet = "PREFECT_LOGGING_LEVEL" not in os.environ
    internal = {PREFECT_LOGGING_INTERNAL_LEVEL: "CRITICAL"} if quiet else {}
    with (
        temporary_settings({PREFECT_API_URL: server.api_url} | internal),
        _logger_levels(QUIET if quiet else {}),
        _off_the_terminal(TO_PAGE if quiet else ()),
    ):
        yield


@contextlib.contextmanager
def _off_the_terminal(names: Collection[str]) -> Iterator[None]:
    """Keep what loggers say to their own handlers until the block ends."""
    loggers = [logging.getLogger(name) for name in names]
    before, complains = [logger.propagate for logger in loggers], logging.raiseExceptions
    for logger in loggers:
        logger.propagate = False
    if loggers:
        logging.raiseExceptions = False  # a server that is gone takes no log; a run says it once
    try:
        yield
    finally:
        logging.raiseExceptions = complains
        for logger, passes_on in zip(loggers, before, strict=True):
            logger.propagate = passes_on


@contextlib.contextmanager
def _logger_levels(levels: Mapping[str, int]) -> Iterator[None]:
    """Set the levels of loggers until the block ends."""
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def send_events(timeout: float) -> bool:
    """Let Prefect's client send its remaining events; return whether it could in time."""
    from prefect.events.worker import EventsWorker

    drain = partial(EventsWorker.drain_all, timeout=timeout, at_exit=False)
    # In a thread of its own: where an event loop runs, as in a notebook, it is a coroutine.
    with ThreadPoolExecutor(1, "events") as caller:
        waited = caller.submit(drain).result()
    assert isinstance(waited, tuple)
    return not waited[1]


def server_trouble(error: Exception) -> str:
    """Say in one line what a request to a Prefect server met."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        code = error.response.status_code
        hint = ": is its database's disk full?" if code >= httpx.codes.INTERNAL_SERVER_ERROR else ""
        return f"the Prefect server answers {code}{hint}"
    if isinstance(error, httpx.HTTPError):
        return f"the Prefect server does not answer ({type(error).__name__})"
    return " ".join(str(error).split())


def start_server() -> PrefectServer:
    """Start our own server in the background on a free port of the loopback interface."""
    home = prefect_home()
    log = home / "server.log"
    try:
        home.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    except OSError as error:
        raise PrefectUnavailable(
            f"The temporary Prefect server has no room for its log {log} ({error.strerror}): "
            "name a folder that can be written with XDG_CACHE_HOME or TMPDIR."
        ) from error
    reads, lifeline = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with output:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.prefect_server", str(listener.fileno()), str(reads)],
                pass_fds=(listener.fileno(), reads),
                env=server_environment(home, f"{address}/api"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    os.close(reads)
    return PrefectServer(f"{address}/api", log, process, lifeline)


def server_environment(home: Path, api_url: str) -> dict[str, str]:
    """Return the environment of our server: the shipped profile, the user's own settings on top."""
    package_root = str(Path(__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    return {
        **profile_settings(),
        **os.environ,
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url,
        "PREFECT__SERVER_FINAL": "1",
        "PYTHONPATH": search_path,
    }


def _new_client() -> "httpx.Client":
    """Return a client that uses proxies as Prefect's does."""
    import httpx

    try:
        return httpx.Client(timeout=POLL_SECONDS)
    except (ImportError, ValueError) as error:
        names = ", ".join(sorted(proxies_of(os.environ)))
        raise PrefectUnavailable(
            f"Prefect's client cannot use the proxies of {names}: {error}"
        ) from error


def _answers(api_url: str, client: "httpx.Client") -> bool:
    """Ask an API for its health; return whether it answered, and not a proxy or another server."""
    import httpx

    try:
        answer = client.get(f"{api_url.rstrip('/')}/health")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return False
    locked = answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
    return locked or (answer.status_code == httpx.codes.OK and answer.text.strip() == "true")


def _serve(listener: int, lifeline: int) -> None:
    end_with(lifeline)
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(
        create_app, factory=True, log_level="warning", timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listener)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
