"""Clusters, workers and submissions on this machine, by the commands that users give."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from support.marked import MARK, left_behind

from flows.cluster.home import ClusterHome

ROOT = Path(__file__).parents[2]
WAITING = Path(__file__).parent / "waiting"
GONE_WITHIN = 10.0
"""No process may be left this long after the end of a cluster, in seconds."""


@dataclass
class Place:
    """A folder, and the environment of all processes that are started for it.

    Attributes:
        wait: seconds that each stage waits; None for real stages.
    """

    folder: Path
    wait: float | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    api_url: str = ""

    @property
    def home(self) -> Path:
        """The home of the cluster."""
        return self.folder / "cluster"

    @property
    def diary(self) -> Path:
        """What happened in the stages; see `diary`."""
        return self.folder / "diary"

    @property
    def environment(self) -> dict[str, str]:
        paths = [ROOT, ROOT / "tests", WAITING]
        waits = {} if self.wait is None else {"SCALE_WAIT": str(self.wait)}
        server = {"PREFECT_API_URL": self.api_url} if self.api_url else {}
        return {
            **os.environ,
            **waits,
            **server,
            MARK: self.mark,
            "SCALE_DIARY": str(self.diary),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONUNBUFFERED": "1",
            **self.more,
        }

    def beside(self, name: str) -> "Place":
        """Return a place in this one, with a diary of its own."""
        folder = self.folder / name
        folder.mkdir()
        return replace(self, folder=folder, api_url="")

    def start(self, *words: object, log: str) -> "subprocess.Popen[bytes]":
        """Start a command; what it says goes into a file of this place."""
        return self.start_python("-m", "cli", *words, log=log)

    def start_python(self, *words: object, log: str) -> "subprocess.Popen[bytes]":
        """Start Python; what it says goes into a file of this place."""
        with self.log(log).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *map(str, words)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def call(self, *words: object) -> str:
        """Give a command; return what it said.

        Raises:
            RuntimeError: if it did not end with 0.
        """
        return self.wait_for(self.start(*words, log=str(words[0])), str(words[0]))

    def wait_for(self, process: "subprocess.Popen[bytes]", log: str) -> str:
        """Wait for a process; return what its log says.

        Raises:
            RuntimeError: if it did not end with 0.
        """
        code, said = process.wait(), self.log(log).read_text()
        if code:
            raise RuntimeError(f"{log} ended with {code}: {said[-2000:]}")
        return said

    def log(self, name: str) -> Path:
        """Return the file of what commands say."""
        return self.folder / f"{name}.log"

    def left_behind(self) -> int:
        """Count the processes of this place that do not go away, and end them."""
        return left_behind(self.mark, GONE_WITHIN)


@contextmanager
def place(wait: float | None = None, more: Mapping[str, str] | None = None) -> Iterator[Place]:
    """Yield a place of its own, which is gone in the end with all its processes."""
    with TemporaryDirectory(prefix="scale-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL may run as another user than we do
        found = Place(Path(folder), wait, more or {})
        try:
            yield found
        finally:
            left_behind(found.mark, 0)


@contextmanager
def cluster(at: Place, workers: int = 0) -> Iterator[None]:
    """Have PostgreSQL, Prefect's server and some worker processes while the block runs."""
    at.call("cluster", "up", "--home", at.home, "--workers", workers)
    asked = ClusterHome(at.home).asked
    assert asked
    at.api_url = asked.own_url
    try:
        yield
    finally:
        at.call("cluster", "down", "--home", at.home)


def on_s3(port: int) -> dict[str, str]:
    """Return the variables by which stores are found on an S3 server of this machine."""
    return {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def ask_database(at: Place, query: str) -> list[asyncpg.Record]:
    """Ask the database of a cluster that runs."""

    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(secrets.database_url.get_secret_value())
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    secrets = ClusterHome(at.home).secrets
    assert secrets
    return asyncio.run(ask())
