"""Starting, changing, stopping and finding a cluster, from outside its keeper."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from flows.cluster.database import figures_of, given_url, own_url
from flows.cluster.home import (
    LOOPBACK,
    Access,
    Asked,
    ClusterHome,
    ClusterUnavailable,
    PartState,
    Secrets,
    new_password,
)
from flows.cluster.keeper import ANY, last_line, listen
from flows.cluster.postgres import Postgres
from flows.proxies import is_loopback
from stages.reports.wording import count

START_SECONDS = 240.0
"""A first start makes a database and its tables, on a busy machine; later ones take a tenth."""
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.1
GIVEN_UP_AFTER = 3
"""Times that a part may end before `cluster up` says so; the keeper goes on trying."""
API_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
PROJECT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Wishes:
    """The options of `cluster up`; None for what stays as it was.

    Attributes:
        workers: processes of this machine's worker; 0 for no worker.
        gpus: those that get a process each, such as "0,1".
        postgres: address of a database, instead of the cluster's own.
        host: address that Prefect's server listens at.
        port: its port; 0 for any that is free.
    """

    workers: int | None = None
    gpus: str | None = None
    postgres: str | None = None
    host: str | None = None
    port: int | None = None


def up(home: ClusterHome, wishes: Wishes, say: Callable[[str], object]) -> Asked:
    """Start a cluster, or bring one that runs to what is wished; return when all of it is ready.

    Args:
        say: told in words what is found, and of each part that is ready.

    Raises:
        ClusterUnavailable: if it cannot be had; the keeper goes on trying what may still come.
    """
    if sys.platform != "linux":
        raise ClusterUnavailable(
            "Linux alone lets a keeper take its parts with it: elsewhere start Prefect's server, "
            "`adaptivedrag deploy` and `adaptivedrag worker` by hand"
        )
    home.make()
    try:
        if home.keeper and _moves(home.asked, wishes):
            say("Another address: all of it is started again")
            down(home)
        with _held_or_kept(home) as alive:
            before = home.state.parts
            if alive is not None and any(part.pid for part in before.values()):
                say("The cluster was not stopped, and is gone: all of it is started again")
            asked = _taken_in(home, wishes, is_running=alive is None)
            keeper = _told(home) if alive is None else _started(home, alive)
            for name, part in _as_they_get_ready(home, asked.revision, keeper):
                say(f"{name}: {_became(part, before.get(name) if alive is None else None)}")
    except OSError as error:
        raise ClusterUnavailable(f"{home.folder}: {error.strerror}") from error
    return asked


def _became(part: PartState, before: PartState | None) -> str:
    """Say what has become of a part that is ready, by what it was before."""
    if part.pid is None:
        return "done"
    runs = "runs" if before and before.pid == part.pid else "started"
    often = f"started again {count(part.restarts, 'time')}" if part.restarts else ""
    return f"{runs}, {often} ({part.trouble})" if often else runs


def down(home: ClusterHome) -> bool:
    """Stop a cluster, and leave none of its processes; return whether there were any.

    Raises:
        ClusterUnavailable: if it runs on another machine.
    """
    if keeper := home.keeper:
        os.kill(keeper, signal.SIGTERM)
    was_alive = home.has_processes
    if not _wait_for(lambda: not home.has_processes, STOP_SECONDS):
        home.kill_processes()
    return was_alive


def _moves(asked: Asked | None, wishes: Wishes) -> bool:
    """Return whether another address is wished than the one that is asked."""
    return asked is not None and (
        wishes.host not in (None, asked.host) or wishes.port not in (None, asked.port)
    )


def running(home: ClusterHome) -> Access | None:
    """Return how to reach the cluster of a home; None if it does not run."""
    if home.keeper and (asked := home.asked) and (secrets := home.secrets):
        return Access.of(asked, secrets)
    return None


@contextmanager
def _held_or_kept(home: ClusterHome) -> Iterator[int | None]:
    """Hold the lock that all processes of the cluster hold; None if a keeper has it.

    What a dead keeper has left is on its way out: it is waited for, and in the end killed.
    """
    alive: int | None = None

    def can_go_on() -> bool:
        nonlocal alive
        alive = home.hold()
        return alive is not None or home.keeper is not None

    if not _wait_for(can_go_on, STOP_SECONDS):
        home.kill_processes()
        if not _wait_for(can_go_on, STOP_SECONDS):
            raise ClusterUnavailable(f"An earlier cluster in {home.folder} does not end")
    try:
        yield alive
    finally:
        if alive is not None:
            os.close(alive)


def _taken_in(home: ClusterHome, wishes: Wishes, *, is_running: bool) -> Asked:
    """Write down what is wished, over what was asked before; make the database if there is none."""
    before, known = home.asked, home.secrets
    workers, gpus = _workers(wishes, before)
    host = wishes.host or (before.host if before else LOOPBACK)
    api = _password_of_api(host, known)
    url, postgres_port = _database(home, wishes.postgres, is_running=is_running)
    port = wishes.port if wishes.port is not None else before.port if before else ANY
    if not is_running:
        with listen(host, port) as socket:
            port = socket.getsockname()[1]
    home.write(Secrets(database_url=SecretStr(url), api=SecretStr(api)))
    if postgres_port is not None and not home.database.is_dir():
        Postgres.find(home.database).create(home, urlsplit(url).password or "")
    asked = Asked(
        host=host,
        port=port,
        postgres_port=postgres_port,
        workers=workers,
        gpus=gpus,
        revision=before.revision + 1 if before else 0,
    )
    home.write(asked)
    return asked


def _workers(wishes: Wishes, before: Asked | None) -> tuple[int | None, str]:
    """Return how many worker processes there are to be, or for which GPUs."""
    if wishes.workers is not None and wishes.gpus is not None:
        raise ClusterUnavailable("--workers and --gpus exclude each other: give one")
    if wishes.gpus is not None and not re.fullmatch(r"\d+(,\d+)*", wishes.gpus):
        raise ClusterUnavailable(f"--gpus {wishes.gpus!r}: give their numbers, such as 0,1")
    if wishes.workers is None and wishes.gpus is None:
        return (before.workers, before.gpus) if before else (None, "")
    return wishes.workers, wishes.gpus or ""


def _password_of_api(host: str, known: Secrets | None) -> str:
    """Return what the API asks for: as the environment says, or as before; "" on loopback."""
    named = os.environ.get(API_AUTH) or (known.api.get_secret_value() if known else "")
    if not named and not is_loopback(host):
        raise ClusterUnavailable(
            f"--host {host} lets other machines start flows, which run code here: set "
            f"{API_AUTH}=user:password, and PREFECT_API_AUTH_STRING to the same over there"
        )
    return named


def _database(home: ClusterHome, wished: str | None, *, is_running: bool) -> tuple[str, int | None]:
    """Return the address of the database, and the port if it is the cluster's own."""
    before, known = home.asked, home.secrets
    is_own = home.database.is_dir()
    if wished and is_own:
        raise ClusterUnavailable(
            f"This cluster has a database of its own in {home.database}: for another one name "
            "another --home"
        )
    if wished:
        url = given_url(wished)
        figures_of(url)
        return url, None
    if known and before and before.postgres_port is None:
        return known.database_url.get_secret_value(), None
    if is_own and not known:
        raise ClusterUnavailable(
            f"The password of the database in {home.database} is gone: bring secrets.json back "
            "from a backup, or name another --home"
        )
    port = before.postgres_port if before else None
    if port is None or not (is_running or _is_free(port)):  # nobody else has to know it
        with listen(LOOPBACK, ANY) as socket:
            port = socket.getsockname()[1]
    password = urlsplit(known.database_url.get_secret_value()).password if known else None
    return own_url(port, password or new_password()), port


def _is_free(port: int) -> bool:
    with suppress(ClusterUnavailable), listen(LOOPBACK, port):
        return True
    return False


def _told(home: ClusterHome) -> int:
    """Tell the keeper that there is something new; return its process number."""
    keeper = home.keeper
    if keeper is None:
        raise ClusterUnavailable("The cluster has ended meanwhile: give the command again")
    os.kill(keeper, signal.SIGHUP)
    return keeper


def _started(home: ClusterHome, alive: int) -> int:
    """Start the keeper, which lives on when this process ends; return its process number."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    with home.log("keeper").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cluster.keeper", str(home.folder), str(alive)],
            env=os.environ | {"PYTHONPATH": path},
            pass_fds=(alive,),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if not _wait_for(lambda: home.keeper is not None or process.poll() is not None, START_SECONDS):
        raise ClusterUnavailable(f"The keeper does not start; its log is {home.log('keeper')}")
    return process.pid


def _as_they_get_ready(
    home: ClusterHome, revision: int, keeper: int
) -> Iterator[tuple[str, PartState]]:
    """Yield each part, by its name, that is ready for what is asked; end when all are.

    Raises:
        ClusterUnavailable: if one ends again and again, takes too long, or the keeper dies.
    """
    deadline = time.monotonic() + START_SECONDS
    told, restarts = set[str](), dict[str, int]()
    while True:
        lives, state = home.keeper == keeper, home.state
        has_heard = state.revision >= revision  # another `up` may have come after this one
        parts = state.parts if has_heard else {}
        if has_heard and state.trouble:
            raise ClusterUnavailable(state.trouble)
        for name, part in parts.items():
            restarts.setdefault(name, part.restarts)
            if part.is_ready and name not in told:
                told.add(name)
                yield name, part
        if parts and state.is_ready:
            return
        late = next((name for name, part in parts.items() if not part.is_ready), "keeper")
        tries = parts[late].restarts - restarts[late] if late in parts else 0
        if tries >= GIVEN_UP_AFTER or not lives or time.monotonic() > deadline:
            raise ClusterUnavailable(_said_of_late(home, late))
        time.sleep(LOOK_SECONDS)


def _said_of_late(home: ClusterHome, part: str) -> str:
    log = home.log(part)
    return f"The {part} of the cluster does not start ({last_line(log) or 'no word'}): see {log}"


def _wait_for(is_so: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; return whether it is in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
