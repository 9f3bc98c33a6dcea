"""What the commands unpickle, and where they connect to.

A job on the pocket model is run, planned, shown, evaluated and verified by commands, with
`watched/sitecustomize.py` in all processes, the Prefect server included. No switch keeps libraries
off the network.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from support.report import Row, Stopwatch

ROOT = Path(__file__).parents[2]
QUICK = """
preset = "paper"
[train_lora]
steps = 2
[invert_image]
num_steps = 4
inverted_steps = 3
[optimize_latent]
steps = 2
max_steps = 3
"""
COMMAND = "import flows.run_job; flows.run_job.FEW_EDITS = 0; import cli; cli.app()"
"""The command line, with a Prefect server for small runs, too."""
CONTROL = (
    "import pickle, socket\n"
    "pickle.loads(pickle.dumps(print))\n"
    "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one: one.connect(('192.0.2.1', 9))\n"
)
"""Unpickles something and connects to an address that is reserved for documentation."""


def rows(_seed: int) -> Iterator[Row]:
    clock = Stopwatch()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        told, ends = commands(place)
        control = watched(place, "control", ["-c", CONTROL])[0]
    bites = len(pickles(control)) == len(foreign(control)) == 1
    servers = sum("flows.prefect_server" in each["process"] for each in begun(told))
    ran = (
        f"{len(ends)} commands in {len(begun(told))} processes, {servers} of them a Prefect server"
    )
    failed = [f"{name} ended with {code}" for name, code in ends.items() if code]
    found = pickles(told)
    yield Row(
        "pickle loads during commands",
        "0 from store or dataset",
        f"{len(found)} of any kind; {ran}",
        bites and not failed and servers == 1 and not found,
        clock.seconds,
        "; ".join([*failed, *(f"{each['told']}: {each['stack'][-3:]}" for each in found[:5])]),
    )
    found = foreign(told)
    yield Row(
        "outbound connections during commands",
        "0",
        f"{len(found)} to other machines, {len(connections(told))} to this one; {ran}",
        bites and not failed and servers == 1 and not found,
        clock.seconds,
        "; ".join(f"{each['told']} by {each['process']}" for each in found[:5]),
    )


def commands(place: Path) -> tuple[list[dict], dict[str, int]]:
    """Call the commands one after the other; return all events and the exit code of each."""
    scenes, store, out = (str(place / name) for name in ("scenes", "store", "out"))
    job = f"{scenes}/job.toml"
    told, ends = [], {}

    def call(*arguments: str) -> None:
        found, code = watched(place, arguments[0], ["-c", COMMAND, *arguments])
        told.extend(found)
        ends[" ".join(arguments[:2]) if arguments[0] == "store" else arguments[0]] = code

    call("import", "dragscenes", scenes, "--edits", "2", "--size", "128")
    with Path(job).open("a") as file:
        file.write(QUICK)
    edits = Path(scenes, "edits.jsonl").read_text().splitlines()
    keep = ("--store", store)
    call("plan", job, *keep)
    call("run", job, *keep, "--out", out)
    call("run", job, *keep, "--out", out)
    call("plan", job, *keep)
    call("status", job, *keep)
    call("show", job, json.loads(edits[0])["id"], *keep, "--out", out)
    call("eval", job, *keep, "--out", f"{out}/evaluation")
    call("store", "verify", *keep)
    call("doctor")
    return told, ends


def watched(place: Path, name: str, arguments: list[str]) -> tuple[list[dict], int]:
    """Run Python with the hook; return the events and the exit code."""
    log = place / f"{name}.jsonl"
    log.unlink(missing_ok=True)
    paths = [str(Path(__file__).with_name("watched")), str(ROOT)]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
        "AUDIT_LOG": str(log),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    environment.pop("PREFECT_SERVER_ANALYTICS_ENABLED", None)
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=place, capture_output=True
    )
    return [json.loads(line) for line in log.read_text().splitlines()], done.returncode


def begun(told: list[dict]) -> list[dict]:
    return [each for each in told if each["event"] == "begin"]


def pickles(told: list[dict]) -> list[dict]:
    return [each for each in told if each["event"] in ("pickle.find_class", "torch.load")]


def connections(told: list[dict]) -> list[dict]:
    return [each for each in told if each["event"].startswith("socket.")]


def foreign(told: list[dict]) -> list[dict]:
    return [each for each in connections(told) if not is_here(each)]


def is_here(noted: dict) -> bool:
    """Return whether an address, or a name to look up, is this machine's."""
    address = ast.literal_eval(noted["told"][0])
    if noted["event"] != "socket.getaddrinfo" and not isinstance(address, tuple):
        return True  # a socket of the file system
    host = address[0] if isinstance(address, tuple) else address
    host = host.decode() if isinstance(host, bytes) else host
    return host in (None, "", "localhost", "::1", "0.0.0.0") or host.startswith("127.")
