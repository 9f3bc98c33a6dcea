"""The fault tests at full size, and their report.

    make faults
    make faults ONLY=corruption SEED=7

runs every module of this folder that has a function `rows(seed)`, or those named, and writes their
tables between their marks in `docs/reliability.md`. Tables of other modules stay. Modules run two
at a time, each in its own process. Exit code 1 if any figure was missed.
"""

import argparse
import fcntl
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fault_rows import Row, Rows, table, written

HERE = Path(__file__).parent
LONG = ("real_runs", "fuzz", "power_loss", "kills")
"""Modules that start first, so that none runs alone at the end."""
AT_ONCE = 2
DOCUMENT = HERE.parents[1] / "docs" / "reliability.md"


def modules() -> dict[str, Rows]:
    """Find the modules that have rows, by name."""
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    found = {
        name: importlib.import_module(name)
        for name in names
        if not name.startswith("test_") and "\ndef rows(" in (HERE / f"{name}.py").read_text()
    }
    return {name: module.rows for name, module in found.items()}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def report(name: str, rows: Rows, seed: int) -> bool:
    """Run a module and write its table row by row; return whether all its figures were reached."""
    say(f"{name}, seed {seed}")
    title = (inspect.getdoc(sys.modules[name]) or name).partition("\n")[0].rstrip(".")
    found: list[Row] = []
    for row in rows(seed):
        found.append(row)
        say(f"  {row.test}: {row.outcome} (asked: {row.asked}; {row.seconds:.0f} s)")
        with one_writer():
            text = written(DOCUMENT.read_text("utf-8"), name, title, table(found, seed))
            DOCUMENT.write_text(text, "utf-8")
    return all(row.held is not False for row in found)


@contextmanager
def one_writer() -> Iterator[None]:
    """Wait for the other process that writes into the document."""
    with DOCUMENT.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def report_apart(name: str, seed: int) -> bool:
    """Run a module in its own process, and print its name before each of its lines."""
    command = [sys.executable, __file__, "--seed", str(seed), "--only", name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            say(f"{name}: {line.rstrip()}")
    return process.returncode == 0


def main() -> int:
    found = modules()
    parser = argparse.ArgumentParser(description="Fault tests at full size.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=found, default=list(found), metavar="MODULE")
    asked = parser.parse_args()
    # Neither the user's caches nor the user's Prefect server.
    with TemporaryDirectory() as folder:
        os.environ |= {
            "XDG_CACHE_HOME": folder,
            "PREFECT_PROFILES_PATH": f"{folder}/no-profiles.toml",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        os.environ.pop("PREFECT_API_URL", None)
        if len(asked.only) == 1:
            held = [report(name, found[name], asked.seed) for name in asked.only]
        else:
            ordered = sorted(asked.only, key=lambda name: name not in LONG)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                held = list(pool.map(lambda name: report_apart(name, asked.seed), ordered))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
