"""The folder of a cluster: what was asked of it, its secrets, its state, and who is alive.

cluster.json   what was asked          secrets.json   passwords, for the owner's eyes alone
state.json     what the keeper says    logs/          of each part; renewed at `LOG_BYTES`
alive          held by every process   keeper         held by the keeper; holds its number
postgres/      the database            prefect/       the server's own files
"""

import contextlib
import fcntl
import os
import platform
import secrets
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import platformdirs
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer

from flows.proxies import is_loopback

LOOPBACK = "127.0.0.1"
EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}
"""Addresses that stand for all of a machine, and its own among them."""
ROOTS_HOME = Path("/var/lib/adaptivedrag")


Document = TypeVar("Document", bound=BaseModel)


class ClusterUnavailable(RuntimeError):
    """A cluster cannot be started, changed or found; the message is one line with what to do."""


class Asked(BaseModel):
    """What was asked of a cluster, by the options of `cluster up`.

    Attributes:
        host: where Prefect's server listens.
        port: of Prefect's server.
        postgres_port: of the cluster's own PostgreSQL; None for one that was given.
        workers: processes of this machine's worker; None to let it decide.
        gpus: those that get a process each, such as "0,1"; "" to let the worker decide.
        revision: rises with each `cluster up`, so that the keeper can say which it has heard.
    """

    model_config = ConfigDict(frozen=True)

    host: str = LOOPBACK
    port: int
    postgres_port: int | None
    workers: int | None = None
    gpus: str = ""
    revision: int = 0

    @property
    def api_url(self) -> str:
        """Where Prefect's API is for those who may reach it."""
        return self._url(platform.node() if self.host in EVERYWHERE else self.host)

    @property
    def own_url(self) -> str:
        """Where this machine's own processes find the API, whatever its name leads to."""
        return self._url(EVERYWHERE.get(self.host, self.host))

    @property
    def is_private(self) -> bool:
        """Whether no other machine reaches the server."""
        return is_loopback(self.host)

    def _url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/api"


class Secrets(BaseModel):
    """What nobody but the owner of a cluster may read.

    Attributes:
        database_url: as asyncpg takes it, with its password.
        api: the user and password that Prefect's API asks for, as "user:password"; "" for none.
    """

    model_config = ConfigDict(frozen=True)

    database_url: SecretStr
    api: SecretStr = SecretStr("")

    @field_serializer("database_url", "api", when_used="json")
    def _plain(self, value: SecretStr) -> str:
        return value.get_secret_value()


@dataclass(frozen=True)
class Access:
    """How processes of this machine reach Prefect's API; `password` is "" if none is asked for."""

    api_url: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, asked: Asked, secrets: Secrets) -> "Access":
        """Return how they reach that of a cluster."""
        return cls(asked.own_url, secrets.api.get_secret_value())

    @property
    def environment(self) -> dict[str, str]:
        """The variables that Prefect reads."""
        password = {"PREFECT_API_AUTH_STRING": self.password} if self.password else {}
        return {"PREFECT_API_URL": self.api_url, **password}


class PartState(BaseModel):
    """How a part of a cluster is.

    Attributes:
        pid: of its process; None while it has none.
        since: when this process was started, or the task ended.
        is_ready: whether it does what it is for.
        restarts: how often it was started again since the keeper began.
        trouble: how its last process ended, "" if none has.
    """

    pid: int | None = None
    since: datetime | None = None
    is_ready: bool = False
    restarts: int = 0
    trouble: str = ""


class State(BaseModel):
    """What the keeper says of its cluster.

    Attributes:
        revision: the latest one that it has heard.
        host: the machine it runs on.
        trouble: why it could not do what was asked with this revision, "" if it could.
    """

    revision: int = -1
    host: str = ""
    trouble: str = ""
    parts: dict[str, PartState] = {}

    @property
    def is_ready(self) -> bool:
        """Whether every part is ready."""
        return bool(self.parts) and all(part.is_ready for part in self.parts.values())


@dataclass(frozen=True)
class ClusterHome:
    """The folder of a cluster."""

    folder: Path

    @classmethod
    def usual(cls) -> "ClusterHome":
        """Return the home in the user's data folder.

        Root's is elsewhere unless XDG_DATA_HOME names one: PostgreSQL runs as another user, who
        may not enter root's folders.
        """
        if os.geteuid() == 0 and "XDG_DATA_HOME" not in os.environ:
            return cls(ROOTS_HOME / "cluster")
        return cls(platformdirs.user_data_path("adaptivedrag") / "cluster")

    def make(self) -> None:
        """Make the folder; one that is there has to be a cluster's, or empty.

        Raises:
            ClusterUnavailable: if it cannot be had.
        """
        try:
            if not self.folder.exists():
                self.folder.mkdir(parents=True)
                # PostgreSQL's user has to pass through a folder of root's.
                self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
            elif any(self.folder.iterdir()) and not (self.folder / "alive").exists():
                raise ClusterUnavailable(
                    f"{self.folder} is in use for something else: name an empty folder, or one "
                    "that is not there yet, with --home"
                )
            (self.folder / "alive").touch(0o600)
            self.log("keeper").parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ClusterUnavailable(
                f"{self.folder} cannot be a cluster's home ({error.strerror}): name a folder that "
                "can be written with --home"
            ) from error

    @property
    def database(self) -> Path:
        """The data folder of PostgreSQL."""
        return self.folder / "postgres"

    @property
    def prefect(self) -> Path:
        """The folder of Prefect's server."""
        return self.folder / "prefect"

    def log(self, part: str) -> Path:
        """Return the log of a part."""
        return self.folder / "logs" / f"{part}.log"

    @property
    def asked(self) -> Asked | None:
        """What was asked last; None if nothing ever was."""
        return _read(self.folder / "cluster.json", Asked)

    @property
    def secrets(self) -> Secrets | None:
        """The secrets; None if there are none yet."""
        return _read(self.folder / "secrets.json", Secrets)

    @property
    def state(self) -> State:
        """What the keeper said last."""
        return _read(self.folder / "state.json", State) or State()

    def write(self, document: Asked | Secrets | State) -> None:
        """Write a document whole, for the owner's eyes.

        Raises:
            OSError: if it cannot be written.
        """
        name = {Asked: "cluster", Secrets: "secrets", State: "state"}[type(document)]
        # For its owner alone, from the first byte.
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
            try:
                file.write(document.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, self.folder / f"{name}.json")
            except OSError:
                os.unlink(file.name)
                raise

    @property
    def keeper(self) -> int | None:
        """The process number of the keeper that lives; None if there is none.

        Raises:
            ClusterUnavailable: if it lives on another machine, which shares this folder.
        """
        lock = self.folder / "keeper"
        if not _is_held(lock):
            return None
        if (host := self.state.host) not in ("", platform.node()):
            raise ClusterUnavailable(f"This cluster runs on {host}: give the command there")
        with contextlib.suppress(OSError, ValueError):
            return int(lock.read_text())
        return None

    @property
    def has_processes(self) -> bool:
        """Whether any process of the cluster lives."""
        return _is_held(self.folder / "alive")

    def hold(self) -> int | None:
        """Take the lock that all processes of a cluster hold; None if there are any.

        Those that inherit the descriptor hold it too. It is free when the last one is gone.
        """
        fd = os.open(self.folder / "alive", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def be_keeper(self) -> None:
        """Take the keeper's lock until this process ends; who holds the other is the only one."""
        fd = os.open(self.folder / "keeper", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)  # waits for those who only look
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())

    def kill_processes(self) -> None:
        """Kill what is left of the cluster: the processes that hold its lock."""
        for pid in _holders(self.folder / "alive"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def new_password() -> str:
    """Return a password that nobody can guess, of letters that no address has to quote."""
    return secrets.token_urlsafe(24)


def _read(path: Path, form: type[Document]) -> Document | None:
    try:
        return form.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        # Without the error's words: they may hold a secret.
        raise ClusterUnavailable(
            f"{path} cannot be read: it is another user's, or was changed by hand"
        ) from error


def _is_held(path: Path) -> bool:
    """Return whether any process has a file locked."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _holders(path: Path) -> Iterator[int]:
    """Yield the processes of this user, but this one, that have a file open."""
    wanted = path.stat()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        pid = int(folder.parent.name)
        with contextlib.suppress(OSError):  # another user's, or gone
            if pid != os.getpid() and any(
                os.path.samestat(fd.stat(), wanted) for fd in folder.iterdir()
            ):
                yield pid
