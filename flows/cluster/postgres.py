"""PostgreSQL: the machine's own programs with a database in the cluster's home."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flows.cluster.home import LOOPBACK, ClusterHome, ClusterUnavailable

OWNER = "adaptivedrag"
"""The database's own name for who owns it."""
CONNECTIONS = 60
"""Prefect's server takes 20 at most; the others are for backups and people."""
INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs, by version."""
ROOTS_STAND_IN = "postgres"


@dataclass(frozen=True)
class Postgres:
    """PostgreSQL's programs of one version, and who runs them: None for the user of this process.

    It refuses to run as root.
    """

    programs: Path
    user: pwd.struct_passwd | None

    @classmethod
    def find(cls, database: Path) -> "Postgres":
        """Find the programs for a database: those of its version, or the first for a new one.

        Raises:
            ClusterUnavailable: if there are none, or nobody to run them.
        """
        versions = {folder: _version_of(folder) for folder in _folders()}
        if not versions:
            raise ClusterUnavailable(
                "PostgreSQL's programs are not here: install them (on Debian with `apt install "
                "postgresql`), or name a database of yours with --postgres"
            )
        needed = _version_needed(database)
        for folder, version in versions.items():
            if needed in (None, version):
                return cls(folder, _stand_in())
        raise ClusterUnavailable(
            f"The database in {database} is of PostgreSQL {needed}, and here is "
            f"{', '.join(versions.values())}: install {needed} beside it, or use pg_upgrade"
        )

    def command(self, database: Path, port: int) -> tuple[str, ...]:
        """Return the command that serves a database on loopback."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": port,
            "unix_socket_directories": "",  # their path has to be short, and a home's may be long
            "max_connections": CONNECTIONS,
            "log_line_prefix": "%m [%p] ",
            # Tables of events grow and are emptied all day.
            "autovacuum_vacuum_scale_factor": 0.05,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return (str(self.programs / "postgres"), "-D", str(database), *options)

    def forget_stranger(self, database: Path) -> None:
        """Remove the mark of a server whose process number is that of another program by now.

        PostgreSQL takes any living process of its user for a server of its own; a machine that
        went down leaves such marks.
        """
        mark = database / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError):
            number = int(mark.read_text().split()[0])
            if Path(f"/proc/{number}/comm").read_text().strip() != "postgres":
                mark.unlink()

    def answers(self, port: int) -> bool:
        """Return whether a server at a port of this machine takes connections."""
        asked = [
            str(self.programs / "pg_isready"),
            "--quiet",
            f"--host={LOOPBACK}",
            f"--port={port}",
        ]
        return subprocess.run(asked, check=False).returncode == 0

    def create(self, home: ClusterHome, password: str) -> None:
        """Make the database of a home, whole or not at all.

        Raises:
            ClusterUnavailable: if it cannot be made.
        """
        fresh = home.database.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            fresh.mkdir(mode=0o700)
            with tempfile.NamedTemporaryFile(dir=home.folder) as file:  # for its owner alone
                file.write(password.encode())
                file.flush()
                self._initialize(fresh, file.name)
            fresh.rename(home.database)
        except OSError as error:
            raise ClusterUnavailable(
                f"No database could be made in {home.folder} ({error.strerror})"
            ) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _initialize(self, folder: Path, password_file: str) -> None:
        if self.user:
            for path in (folder, password_file):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        done = self._run(
            str(self.programs / "initdb"),
            f"--pgdata={folder}",
            f"--username={OWNER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        )
        if done.returncode:
            home, said = folder.parent, re.findall(r"(?:error|FATAL): *(.*)", done.stderr)
            if self.user and "Permission denied" in done.stderr:
                said = [
                    f"PostgreSQL does not run as root, and its user {self.user.pw_name} may not "
                    "enter there: name a folder that all may pass through with --home"
                ]
            raise ClusterUnavailable(f"No database could be made in {home}: {'; '.join(said)}")

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as PostgreSQL's user."""
        ids = (self.user.pw_uid, self.user.pw_gid) if self.user else (None, None)
        return subprocess.run(
            command,
            user=ids[0],
            group=ids[1],
            extra_groups=[] if self.user else None,
            cwd="/",
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )


def _folders() -> Iterator[Path]:
    """Yield the folders with PostgreSQL's programs: the user's choice first, then by version."""
    named = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    with suppress(OSError, subprocess.CalledProcessError):
        told = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        named.append(Path(told.stdout.strip()))
    installed = sorted(INSTALLED.glob("[0-9]*/bin"), key=lambda folder: -int(folder.parent.name))
    for folder in dict.fromkeys([*named, *installed]):
        if (folder / "initdb").is_file():
            yield folder


def _version_of(folder: Path) -> str:
    """Return the major version of the programs in a folder."""
    asked = [str(folder / "postgres"), "--version"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", told)
    return found[1] if found else "no version that it tells"


def _version_needed(database: Path) -> str | None:
    """Return the major version that a database needs; None if it is not there."""
    with suppress(FileNotFoundError):
        return (database / "PG_VERSION").read_text().strip()
    return None


def _stand_in() -> pwd.struct_passwd | None:
    """Return who runs PostgreSQL in root's place; None if this process is not root's.

    Raises:
        ClusterUnavailable: if there is nobody.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ROOTS_STAND_IN)
    except KeyError:
        raise ClusterUnavailable(
            f"PostgreSQL does not run as root, and there is no user {ROOTS_STAND_IN} to run it: "
            "run as another user, or name a database of yours with --postgres"
        ) from None
