"""A report that programs fill: each a table of what was asked, what was reached, and the seed.

A program is a module with a function `rows(seed)` in the report's folder. Tables stand between
marks in a document, and those of other modules stay.
"""

import argparse
import fcntl
import importlib
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        asked: the figure to reach.
        reached: the figure reached.
        held: whether it was reached; None if it could not be tried here.
        notes: what a reader needs to judge it, in a few words.
    """

    test: str
    asked: str
    reached: str
    held: bool | None
    seconds: float
    notes: str = ""

    @property
    def outcome(self) -> str:
        """What was reached, marked if it was missed or not run."""
        return {True: "", False: "**missed**: ", None: "**not run**: "}[self.held] + self.reached


class NotPossibleHere(Exception):
    """This machine lacks what a fault needs; the message says what."""


Rows = Callable[[int], Iterator[Row]]
"""The function `rows(seed)` of a module, which runs its tests at full size."""


@dataclass
class Stopwatch:
    """Measures the seconds since it was made."""

    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@contextmanager
def on_seed(test: str, seed: int) -> Iterator[None]:
    """Add the seed to any error inside, so that it can be reproduced."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{test}: seed {seed}")
        raise


def table(rows: Iterable[Row], seed: int) -> list[str]:
    """Write rows as a table, with their notes below it."""
    rows = list(rows)
    lines = ["| test | asked | reached | seconds |", "| --- | --- | --- | ---: |"]
    for row in rows:
        cells = (row.test, row.asked, row.outcome, f"{row.seconds:.0f}")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    notes = [f"- {row.test}: {row.notes}" for row in rows if row.notes]
    return [*lines, "", f"Seed {seed}.", *([""] if notes else []), *notes]


def written(document: str, name: str, title: str, lines: Iterable[str]) -> str:
    """Put lines between a module's marks, or at the end under its title if it has none yet."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    body = "\n".join([begin, "", *lines, "", end])
    if begin not in document:
        return f"{document.rstrip()}\n\n## {title}\n\n{body}\n"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: body, document, flags=re.DOTALL)


@dataclass(frozen=True)
class Report:
    """The programs of a folder and their document.

    Attributes:
        at_once: how many modules run at a time, each in its own process.
        first: modules that start first.
    """

    folder: Path
    document: Path
    at_once: int = 1
    first: tuple[str, ...] = ()

    def main(self, description: str) -> int:
        """Run the modules that the command line names, all by default.

        Returns:
            1 if any figure was missed, else 0.
        """
        found = self.modules()
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--only", nargs="+", choices=found, default=list(found), metavar="NAME")
        asked = parser.parse_args()
        with surroundings():
            if len(asked.only) == 1:
                held = [self.fill(name, found[name], asked.seed) for name in asked.only]
            else:
                ordered = sorted(asked.only, key=lambda name: name not in self.first)
                with ThreadPoolExecutor(self.at_once) as pool:
                    held = list(pool.map(lambda name: self.fill_apart(name, asked.seed), ordered))
        return 0 if all(held) else 1

    def modules(self) -> dict[str, Rows]:
        """Find the modules that have rows, by name."""
        names = sorted(path.stem for path in self.folder.glob("*.py"))
        found = {
            name: importlib.import_module(name)
            for name in names
            if "\ndef rows(" in (self.folder / f"{name}.py").read_text()
        }
        return {name: module.rows for name, module in found.items()}

    def fill(self, name: str, rows: Rows, seed: int) -> bool:
        """Run a module, and write its table row by row.

        Returns:
            Whether all its figures were reached.
        """
        say(f"{name}, seed {seed}")
        title = (inspect.getdoc(sys.modules[name]) or name).partition("\n")[0].rstrip(".")
        found: list[Row] = []
        for row in rows(seed):
            found.append(row)
            say(f"  {row.test}: {row.outcome} (asked: {row.asked}; {row.seconds:.0f} s)")
            with one_writer(self.document):
                text = self.document.read_text("utf-8")
                self.document.write_text(written(text, name, title, table(found, seed)), "utf-8")
        return all(row.held is not False for row in found)

    def fill_apart(self, name: str, seed: int) -> bool:
        """Run a module in its own process, and print its name before each of its lines."""
        command = [sys.executable, str(self.folder), "--seed", str(seed), "--only", name]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout
            for line in process.stdout:
                say(f"{name}: {line.rstrip()}")
        return process.returncode == 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def one_writer(document: Path) -> Iterator[None]:
    """Wait for the other process that writes into the document."""
    with document.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def surroundings() -> Iterator[None]:
    """Let neither the user's caches nor the user's Prefect server be touched."""
    with TemporaryDirectory() as folder:
        os.environ |= {
            "XDG_CACHE_HOME": folder,
            "PREFECT_PROFILES_PATH": f"{folder}/no-profiles.toml",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        os.environ.pop("PREFECT_API_URL", None)
        yield
