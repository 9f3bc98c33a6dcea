"""The cluster of a machine: `cluster up`, `cluster down` and `cluster status`."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from flows.cluster.control import Wishes, down, running, up
from flows.cluster.database import figures_of, place_of
from flows.cluster.home import Access, ClusterHome, ClusterUnavailable, PartState
from flows.cluster.parts import DATABASE, SERVER, WORKER
from flows.outcomes import ALL_DONE, SOME_FAILED
from flows.prefect_server import PrefectServer
from flows.prefect_settings import configured_api_url, load_prefect
from flows.terminal.console import say, say_list, say_table
from flows.terminal.jobs import first_lines
from stages.reports.wording import Table, count, duration

if TYPE_CHECKING:
    from flows.cluster.queue import Queue, RunSeen


SHORT_OF_ROOM = 500_000_000
"""Bytes on the disk of a database below which it may soon take nothing."""


def start_cluster(home: Path | None, wishes: Wishes) -> None:
    """Start a cluster or bring it to what is wished; print where it is."""
    place = _home(home)
    asked = up(place, wishes, say)
    say(f"Home: {place.folder}")
    say(f"Prefect's page: {asked.api_url.removesuffix('api')}")
    say(f"export PREFECT_API_URL={asked.api_url}")
    if not asked.is_private:
        say("export PREFECT_API_AUTH_STRING=…  # as PREFECT_SERVER_API_AUTH_STRING was set here")


def stop_cluster(home: Path | None) -> None:
    """Stop a cluster; its data stay."""
    place = _home(home)
    was_running = down(place)
    say(f"Stopped; the data stay in {place.folder}" if was_running else _absent(place))


def show_cluster(home: Path | None) -> int:
    """Print how each part of a cluster is, and what its workers are at.

    Returns:
        0 if all is well, else 1.
    """
    place = _home(home)
    cluster, asked = running(place), place.asked
    if cluster is None or asked is None:
        say(_absent(place))
        return SOME_FAILED
    parts = place.state.parts
    rows = [_row(place, name, part) for name, part in parts.items()]
    say_table(Table(("part", "state", "since", "process", "log"), rows))
    say(f"Prefect's page: {asked.api_url.removesuffix('api')}")
    faults = [f"{name}: {part.trouble}" for name, part in parts.items() if not part.is_ready]
    if (free := shutil.disk_usage(place.folder).free) < SHORT_OF_ROOM:
        faults.append(f"{DATABASE}: {decimal(free)} are left on the disk of {place.folder}")
    faults += [*_database_faults(place), *_queue_faults(cluster, has_workers=WORKER in parts)]
    say_list("Not well", faults)
    return SOME_FAILED if faults else ALL_DONE


def name_cluster() -> None:
    """Let Prefect find the cluster of this user where no other server is named, and say so.

    To be called before Prefect is imported.
    """
    if configured_api_url() is None and (cluster := running(ClusterHome.usual())):
        os.environ.update(cluster.environment)
        say(f"With the cluster of this machine, {cluster.api_url}", stderr=True)


def _home(folder: Path | None) -> ClusterHome:
    return ClusterHome(folder.expanduser().absolute()) if folder else ClusterHome.usual()


def _absent(home: ClusterHome) -> str:
    return f"No cluster runs in {home.folder}"


def _row(home: ClusterHome, name: str, part: PartState) -> list[str]:
    state = "ready" if part.is_ready else "starts" if part.pid else "down"
    again = f", started again {count(part.restarts, 'time')}" if part.restarts else ""
    return [name, state + again, _since(part.since), str(part.pid or ""), str(home.log(name))]


def _since(moment: datetime | None) -> str:
    if moment is None:
        return ""
    passed = duration((datetime.now(UTC) - moment).total_seconds())
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({passed})"


def _database_faults(home: ClusterHome) -> Iterator[str]:
    """Print what the database says of itself; yield that it says nothing."""
    assert home.secrets
    url = home.secrets.database_url.get_secret_value()
    try:
        figures = figures_of(url)
    except ClusterUnavailable as error:
        yield f"{DATABASE}: {error}"
        return
    connections = count(figures.connections, "connection")
    size = f"{decimal(figures.bytes)}, {connections}"
    say(f"Database: {place_of(url)}, PostgreSQL {figures.version}, {size}")


def _queue_faults(cluster: Access, *, has_workers: bool) -> Iterator[str]:
    """Print what the workers are at; yield what is wrong with that."""
    if not PrefectServer(cluster.api_url).answers():
        yield f"{SERVER}: does not answer at {cluster.api_url}"
        return
    load_prefect()
    from flows.cluster.queue import queue_of

    queue = queue_of(cluster)
    _say_queue(queue)
    if has_workers and not any(worker.is_online for worker in queue.workers):
        yield f"{WORKER}: none is online, so that nothing submitted would be done"


def _say_queue(queue: "Queue") -> None:
    workers = [
        f"{each.name} {'online' if each.is_online else 'offline'}, heard {_since(each.heard)}"
        for each in queue.workers
    ]
    say_list("Workers", first_lines(workers))
    say_list("At hand", first_lines([_said_of(run) for run in queue.at_hand]))
    say(f"Waiting: {count(queue.waiting, 'flow run')}")


def _said_of(run: "RunSeen") -> str:
    how = f"since {_since(run.since)}" if run.since else "starts"
    return f"{run.name} {how} by {run.where}" if run.where else f"{run.name} {how}"
