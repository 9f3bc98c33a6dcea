"""A PostgreSQL database by its address: what it says of itself, and how Prefect's server takes it.

An address holds a password, so no message repeats one.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from flows.cluster.home import LOOPBACK, ClusterUnavailable
from flows.cluster.postgres import OWNER

if TYPE_CHECKING:
    import asyncpg

ANSWER_SECONDS = 10.0
EXAMPLE = "postgresql://user@host:5432/database"

FIGURES = """
select pg_database_size(current_database()) as bytes,
       (select count(*) - 1 from pg_stat_activity where datname = current_database())
         as connections,
       current_setting('server_version') as version
"""


@dataclass(frozen=True)
class DatabaseFigures:
    """What a database says of itself; `connections` are those of others."""

    bytes: int
    connections: int
    version: str


def own_url(port: int, password: str) -> str:
    """Return the address of a cluster's own database."""
    return f"postgresql://{OWNER}:{password}@{LOOPBACK}:{port}/postgres"


def given_url(url: str) -> str:
    """Return an address that a user has given, with the password of PGPASSWORD if it has none.

    Raises:
        ClusterUnavailable: if it is none of PostgreSQL.
    """
    try:
        parts = urlsplit(url)
        known = parts.port is None or parts.port > 0, parts.hostname, parts.path.strip("/")
        is_address = parts.scheme in ("postgresql", "postgres") and all(known)
    except ValueError:  # a port that is none
        is_address = False
    if not is_address or {*dict(parse_qsl(parts.query))} - {"sslmode"}:
        raise ClusterUnavailable(
            f"--postgres takes an address such as {EXAMPLE}, with ?sslmode=require after it or "
            "without"
        )
    password = os.environ.get("PGPASSWORD")
    if parts.password is None and parts.username and password:
        name, _, place = parts.netloc.rpartition("@")
        parts = parts._replace(netloc=f"{name}:{quote(password, safe='')}@{place}")
    return parts._replace(scheme="postgresql").geturl()


def place_of(url: str) -> str:
    """Return where a database is, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def url_for_prefect(url: str) -> str:
    """Return an address as the database library of Prefect's server takes it."""
    parts: SplitResult = urlsplit(url)
    query = parts.query.replace("sslmode=", "ssl=")  # the only option that `given_url` lets pass
    return parts._replace(scheme="postgresql+asyncpg", query=query).geturl()


def figures_of(url: str) -> DatabaseFigures:
    """Ask a database for its figures.

    Raises:
        ClusterUnavailable: if it does not answer, or does not let us in.
    """
    import asyncpg

    try:
        return DatabaseFigures(**asyncio.run(_ask(url)))
    except asyncpg.InvalidPasswordError as error:
        who = urlsplit(url).username
        raise ClusterUnavailable(
            f"The database {place_of(url)} does not take the password of {who}: give another in "
            "PGPASSWORD or ~/.pgpass"
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ClusterUnavailable(f"No database answers at {place_of(url)} ({said})") from error


async def _ask(url: str) -> "asyncpg.Record":
    import asyncpg

    connection = await asyncpg.connect(url, timeout=ANSWER_SECONDS)
    try:
        return await connection.fetchrow(FIGURES, timeout=ANSWER_SECONDS)
    finally:
        await connection.close(timeout=1)
