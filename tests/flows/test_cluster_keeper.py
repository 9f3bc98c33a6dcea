"""What keeps the parts of a cluster alive, and takes them with it, on processes that only wait."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import flows.cluster.keeper
import flows.cluster.postgres
from flows.cluster.database import given_url, place_of, url_for_prefect
from flows.cluster.home import Asked, ClusterHome, ClusterUnavailable, Secrets, State
from flows.cluster.keeper import Kept, last_line, listen
from flows.cluster.parts import Part
from flows.cluster.postgres import Postgres

ROOT = Path(__file__).parent.parent.parent
KEEP = """
import sys, time
from pathlib import Path
from flows.cluster.home import ClusterHome
from flows.cluster.keeper import Kept
from flows.cluster.parts import Part
home = ClusterHome(Path(sys.argv[1]))
home.make()
alive = home.hold()
home.be_keeper()
kept = Kept(Part("sleeper", ("sleep", "1000"), {}), home.log("sleeper"), alive)
kept.tend()
print(kept.state.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def home(tmp_path: Path) -> ClusterHome:
    made = ClusterHome(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def keep(home: ClusterHome):
    """Keep a part that runs a command; it is stopped in the end."""
    alive, kept = home.hold(), []

    def start(*command: str, **how) -> Kept:
        part = Part("part", command, dict(os.environ), **how)
        kept.append(Kept(part, home.log("part"), alive))
        kept[-1].tend()
        return kept[-1]

    yield start
    for each in kept:
        each.stop()
    os.close(alive)


def until(is_so: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tended(kept: Kept, is_so: Callable[[], object]) -> None:
    until(lambda: (kept.tend(), is_so())[1])


def lives(pid: int) -> bool:
    """Return whether a process runs; one that is dead and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_part_that_is_killed_is_started_again_and_tells_how_it_ended(keep):
    kept = keep("sh", "-c", "echo I was here; exec sleep 1000")
    tended(kept, lambda: kept.state.is_ready and last_line(kept.log))
    first = kept.state.pid
    os.kill(first, signal.SIGKILL)
    tended(kept, lambda: not kept.state.is_ready)
    assert kept.state.trouble == "signal 9: I was here"
    tended(kept, lambda: kept.state.is_ready)
    assert kept.state.pid != first
    assert kept.state.restarts == 1


def test_a_part_whose_program_is_gone_is_tried_again(keep):
    kept = keep("/no/such/program")
    assert "No such file" in kept.state.trouble
    assert not kept.state.is_ready


def test_a_task_is_done_once_and_again_when_that_is_asked(keep, tmp_path):
    kept = keep("sh", "-c", f"echo done >> {tmp_path}/done", is_task=True)
    tended(kept, lambda: kept.state.is_ready)
    for _ in range(3):
        kept.tend()
    assert (tmp_path / "done").read_text() == "done\n"
    kept.do_again()
    tended(kept, lambda: kept.state.is_ready)
    assert (tmp_path / "done").read_text() == "done\ndone\n"
    assert kept.state.restarts == 0


def test_what_does_not_leave_when_it_is_asked_is_killed_with_its_children(keep, tmp_path):
    script = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/child; wait; sleep 1000"
    kept = keep("sh", "-c", script, patience=0.2)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    pids = [kept.state.pid, int((tmp_path / "child").read_text())]
    assert all(map(lives, pids))
    kept.stop()
    until(lambda: not any(map(lives, pids)))


def test_a_log_begins_anew_when_it_is_long(keep, monkeypatch):
    monkeypatch.setattr(flows.cluster.keeper, "LOG_BYTES", 50_000)
    kept = keep("sh", "-c", "while :; do echo a line of a log; done")
    older = Path(f"{kept.log}.1")
    tended(kept, older.exists)
    until(lambda: last_line(kept.log) == "a line of a log")
    kept.stop()
    assert b"\0" not in kept.log.read_bytes()


def test_nothing_outlives_a_keeper_that_is_killed(tmp_path):
    home = ClusterHome(tmp_path / "home")
    command = [sys.executable, "-c", KEEP, str(home.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as keeper:
        part = int(keeper.stdout.readline())
        assert home.keeper == keeper.pid
        assert home.has_processes
        assert home.hold() is None
        keeper.kill()
    assert home.keeper is None
    until(lambda: not home.has_processes)
    assert not lives(part)


def test_what_is_left_of_a_cluster_is_found_by_its_lock_and_killed(home, keep):
    kept = keep("sh", "-c", "trap '' TERM; sleep 1000; :")
    home.kill_processes()
    until(lambda: not lives(kept.state.pid))


def test_a_cluster_of_another_machine_is_not_touched(home):
    home.be_keeper()
    home.write(State(host="elsewhere"))
    with pytest.raises(ClusterUnavailable, match="runs on elsewhere"):
        _ = home.keeper


def test_a_folder_that_is_used_for_something_else_is_no_home(tmp_path):
    (tmp_path / "photo.png").touch()
    with pytest.raises(ClusterUnavailable, match="in use for something else"):
        ClusterHome(tmp_path).make()
    with pytest.raises(ClusterUnavailable, match="--home"):
        ClusterHome(tmp_path / "photo.png" / "below").make()


def test_nobody_else_reads_what_a_home_holds(home):
    home.write(Secrets(database_url="postgresql://a:hush@b/c"))
    home.write(Asked(port=1, postgres_port=None))
    assert home.secrets.database_url.get_secret_value() == "postgresql://a:hush@b/c"
    assert "hush" not in repr(home.secrets)
    assert {path.stat().st_mode & 0o077 for path in home.folder.iterdir()} == {0}
    (home.folder / "secrets.json").write_text('{"database_url": ["hush"]}')
    with pytest.raises(ClusterUnavailable, match="changed by hand") as raised:
        _ = home.secrets
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///here",
        "postgresql://me:hush@/database",
        "postgresql://me:hush@host",
        "postgresql://me:hush@host:port/database",
        "postgresql://me:hush@host/database?options=x",
        "hush",
    ],
)
def test_an_address_that_is_none_of_a_database_is_refused_without_its_password(url):
    with pytest.raises(ClusterUnavailable, match="--postgres takes an address") as raised:
        given_url(url)
    assert "hush" not in str(raised.value)


def test_the_address_of_a_database_takes_its_password_from_the_environment(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "a/b@c")
    url = given_url("postgres://me@host:6000/runs?sslmode=require")
    assert url == "postgresql://me:a%2Fb%40c@host:6000/runs?sslmode=require"
    assert given_url("postgresql://me:own@host/runs") == "postgresql://me:own@host/runs"
    assert place_of(url) == "host:6000/runs"
    assert url_for_prefect(url) == "postgresql+asyncpg://me:a%2Fb%40c@host:6000/runs?ssl=require"


def test_programs_that_are_not_here_or_of_another_version_are_named(home, monkeypatch):
    programs = home.folder / "16" / "bin"
    programs.mkdir(parents=True)
    for name, does in (("initdb", ""), ("postgres", "echo 'postgres (PostgreSQL) 16.3'")):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(flows.cluster.postgres, "INSTALLED", home.folder)
    home.database.mkdir()
    (home.database / "PG_VERSION").write_text("9\n")
    with pytest.raises(ClusterUnavailable, match="is of PostgreSQL 9, and here is 16"):
        Postgres.find(home.database)
    monkeypatch.setattr(flows.cluster.postgres, "INSTALLED", home.database)
    with pytest.raises(ClusterUnavailable, match="apt install postgresql"):
        Postgres.find(home.database)


def test_a_mark_of_a_server_is_forgotten_if_its_number_is_another_programs(home):
    home.database.mkdir()
    mark = home.database / "postmaster.pid"
    mark.write_text(f"{os.getpid()}\n{home.database}\n")
    Postgres(Path(), None).forget_stranger(home.database)
    assert not mark.exists()


def test_addresses_of_a_cluster():
    everywhere = Asked(host="0.0.0.0", port=4200, postgres_port=None)
    assert everywhere.own_url == "http://127.0.0.1:4200/api"
    assert "0.0.0.0" not in everywhere.api_url
    assert Asked(host="::1", port=1, postgres_port=None).own_url == "http://[::1]:1/api"
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClusterUnavailable, match=f"127.0.0.1:{port} cannot be had"):
            listen("127.0.0.1", port)
