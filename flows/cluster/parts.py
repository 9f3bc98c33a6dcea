"""The parts of a cluster, each after those that it needs: what each runs, and as whom."""

import os
import pwd
import signal
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from flows.cluster.database import url_for_prefect
from flows.cluster.home import Access, Asked, ClusterHome, Secrets
from flows.cluster.postgres import Postgres
from flows.prefect_server import PrefectServer, server_environment
from flows.proxies import proxies_for
from flows.workers import POOL, worker_name

DATABASE, SERVER, DEPLOYMENT, WORKER = "database", "server", "deployment", "worker"
ANSWER_SECONDS = 5.0
PRIVATE = ("PREFECT_SERVER_", "PREFECT_API_DATABASE_", "PG")
"""Beginnings of the variables that nobody but the server is given."""


@dataclass(frozen=True)
class Part:
    """What a process of the cluster is.

    Attributes:
        is_ready: whether the part does what it is for, by its process number.
        is_task: whether it is done once it has ended with 0.
        user: who runs it; None for the user of the cluster.
        stop: the signal at which it leaves in good order, within `patience` seconds.
        keeps: file descriptors that it is given.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    is_ready: Callable[[int], bool] = field(default=lambda _: True, compare=False)
    is_task: bool = False
    user: pwd.struct_passwd | None = None
    stop: signal.Signals = signal.SIGTERM
    patience: float = 5.0
    keeps: tuple[int, ...] = ()


def parts_of(
    home: ClusterHome, asked: Asked, secrets: Secrets, listener: int, lifeline: int
) -> Iterator[Part]:
    """Yield the parts of a cluster.

    Args:
        listener: the socket that the server listens at.
        lifeline: the reading end of a pipe that ends with the keeper.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    if asked.postgres_port is not None:
        yield _database(home, asked.postgres_port, own)
    yield _server(home, asked, secrets, listener, lifeline)
    access = Access.of(asked, secrets)
    environment = own | access.environment
    yield Part(DEPLOYMENT, _command("deploy"), environment, is_task=True)
    if asked.workers != 0:
        yield _worker(asked, environment, access)


def _database(home: ClusterHome, port: int, environment: dict[str, str]) -> Part:
    postgres = Postgres.find(home.database)
    postgres.forget_stranger(home.database)
    return Part(
        DATABASE,
        postgres.command(home.database, port),
        environment | {"LC_ALL": "C"},
        lambda _: postgres.answers(port),
        user=postgres.user,
        stop=signal.SIGINT,  # its fast shutdown
        patience=10.0,
    )


def _server(
    home: ClusterHome, asked: Asked, secrets: Secrets, listener: int, lifeline: int
) -> Part:
    own = server_environment(home.prefect, asked.api_url) | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": url_for_prefect(
            secrets.database_url.get_secret_value()
        ),
        "PREFECT_SERVER_UI_API_URL": "/api",  # by whatever name the browser knows this machine
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home.prefect / "pages"),
    }
    if api := secrets.api.get_secret_value():
        own["PREFECT_SERVER_API_AUTH_STRING"] = api
    return Part(
        SERVER,
        (sys.executable, "-m", "flows.prefect_server", str(listener), str(lifeline)),
        own,
        lambda _: PrefectServer(asked.own_url).answers(),
        keeps=(listener, lifeline),
    )


def _worker(asked: Asked, environment: dict[str, str], access: Access) -> Part:
    options = [f"--gpus={asked.gpus}"] if asked.gpus else []
    options += [f"--processes={asked.workers}"] if asked.workers else []
    return Part(
        WORKER,
        _command("worker", *options),
        environment,
        lambda pid: worker_name(pid) in _workers_online(access),
        patience=29.0,  # it gives its processes 25 s for the step at hand
    )


def _workers_online(access: Access) -> set[str]:
    """Ask the server which workers of the pool are there."""
    import httpx

    encoded = b64encode(access.password.encode()).decode()
    headers = {"Authorization": f"Basic {encoded}"} if access.password else {}
    url = f"{access.api_url}/work_pools/{POOL}/workers/filter"
    with proxies_for(PrefectServer(access.api_url).host), suppress(httpx.HTTPError):
        found = httpx.post(url, json={}, headers=headers, timeout=ANSWER_SECONDS)
        if found.is_success:
            return {each["name"] for each in found.json() if each["status"] == "ONLINE"}
    return set()


def _command(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "cli", *words)
