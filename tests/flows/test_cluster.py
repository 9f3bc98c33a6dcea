"""A real cluster: the commands of docs/cluster.md, a server that is killed, and nothing left."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from support.finished_job import finish, write_job

from artifacts import ArtifactStore
from flows.cluster.control import Wishes, down, running, up
from flows.cluster.database import figures_of
from flows.cluster.home import ClusterHome, ClusterUnavailable
from flows.cluster.postgres import Postgres
from flows.prefect_settings import PrefectUnavailable
from flows.workers.deployment import users_server
from stages.browsing import STORE
from stages.jobs.reader import load_job

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text("utf-8")

PASSWORD = "swordfish"

Command = Callable[..., str]


@pytest.fixture(scope="module")
def home() -> Iterator[ClusterHome]:
    """The home of a cluster, where PostgreSQL's user may enter, if this process is root's."""
    folder = Path(tempfile.mkdtemp(prefix="adaptivedrag-"))
    folder.chmod(0o711)
    place = ClusterHome(folder / "adaptivedrag" / "cluster")
    try:
        Postgres.find(place.database)
    except ClusterUnavailable as error:
        pytest.skip(str(error))
    yield place
    down(place)
    shutil.rmtree(folder)


@pytest.fixture
def command(home: ClusterHome, tmp_path: Path) -> Command:
    """Give a command of the page beside a `job.toml` that is done; return what it prints."""
    job = write_job(tmp_path / "job", edits=1)
    finish(load_job(job).edits[0], ArtifactStore.open(job.parent / STORE))
    environment = os.environ | {
        "XDG_DATA_HOME": str(home.folder.parent.parent),
        "OMP_NUM_THREADS": "1",
        "PREFECT_SERVER_API_AUTH_STRING": f"me:{PASSWORD}",
    }

    def give(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=job.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return give


def of_page() -> dict[str, list[str]]:
    """Return the five commands of the page, by their name."""
    block = PAGE.split("\n\n    ")[1].split("\n\n")[0]
    lines = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    return {" ".join(words[:2] if words[0] == "cluster" else words[:1]): words for words in lines}


@pytest.mark.slow
def test_a_cluster_does_a_job_survives_its_server_and_leaves_nothing(home, command, monkeypatch):
    page = of_page()
    assert page.keys() == {"cluster up", "submit", "cluster status", "worker", "cluster down"}
    first = command(*page["cluster up"])
    parts = home.state.parts
    assert all(f"{name}: " in first for name in ("database", "server", "deployment", "worker"))
    assert f"export PREFECT_API_URL={running(home).api_url}\n" in first
    page_of_prefect = running(home).api_url.removesuffix("api")
    told = httpx.get(f"{page_of_prefect}ui-settings").json()
    assert (told["api_url"], told["default_ui"]) == ("/api", "v1")
    monkeypatch.setenv("PREFECT_API_URL", running(home).api_url)
    with pytest.raises(PrefectUnavailable, match="PREFECT_API_AUTH_STRING"), users_server():
        pass
    os.kill(parts["server"].pid, signal.SIGKILL)
    again = command("cluster", "up", "--workers=1")
    assert "database: runs\n" in again
    assert "worker: started\n" in again
    assert re.search(r"server: .*, started again 1 time \(signal 9", again)
    assert b"--processes=1" in Path(f"/proc/{home.state.parts['worker'].pid}/cmdline").read_bytes()
    assert "Nothing to submit" in command(*page["submit"])
    shown = command(*page["cluster status"])
    assert "Waiting: 0 flow runs" in shown
    assert " online" in shown
    bad_wishes_change_nothing(home)
    no_password_is_told(home)
    assert str(home.folder) in command(*page["cluster down"])
    assert not home.has_processes
    assert home.database.is_dir()
    assert "No cluster runs" in command(*page["cluster status"], code=1)


def bad_wishes_change_nothing(home: ClusterHome) -> None:
    asked, before = home.asked, home.state
    url = home.secrets.database_url.get_secret_value()
    other = ClusterHome(home.folder.parent / "other")
    false = url.replace(urlsplit(url).password, "hush")
    bad = {
        "exclude each other": (home, Wishes(workers=1, gpus="0")),
        "their numbers": (home, Wishes(gpus="all")),
        "another --home": (home, Wishes(postgres=url)),
        "already in use": (other, Wishes(port=asked.port)),
        "does not take the password of adaptivedrag": (other, Wishes(postgres=false)),
        "No database answers": (other, Wishes(postgres="postgresql://me:hush@127.0.0.1:9/x")),
        "PREFECT_SERVER_API_AUTH_STRING": (other, Wishes(host="0.0.0.0")),
    }
    for said, (place, wishes) in bad.items():
        with pytest.raises(ClusterUnavailable, match=f"(?i){said}") as raised:
            up(place, wishes, print)
        assert "hush" not in str(raised.value)
        assert "\n" not in str(raised.value)
    assert not other.has_processes
    assert home.state == before
    assert home.asked == asked


def no_password_is_told(home: ClusterHome) -> None:
    url = home.secrets.database_url.get_secret_value()
    assert figures_of(url).connections <= 20
    passwords = [PASSWORD.encode(), urlsplit(url).password.encode()]
    logs = b"".join(path.read_bytes() for path in home.log("keeper").parent.iterdir())
    assert b"ready to accept connections" in logs
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
    assert b"flows.cluster.keeper" in shown
    assert not any(password in text for password in passwords for text in (logs, shown))
    worker = Path(f"/proc/{home.state.parts['worker'].pid}/environ").read_bytes()
    assert passwords[1] not in worker
