"""A stand-in for Slurm: three commands that note what they are asked, and a scheduler for tests.

It is not Slurm: nothing waits for a node, and no limit holds. Of Slurm it has the variables of a
task of an array, and whom a preemption signals: the steps, not the script that started them.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

COMMANDS = {
    "sbatch": """
        number=$(($(ls queue | wc -l) + 1))
        printf '%s\\n' "$@" > queue/$number
        echo $number""",
    "srun": """
        while [ "${1#--}" != "$1" ]; do shift; done
        echo $$ > steps/$SLURM_JOB_ID
        exec "$@" """,
    "scontrol": """
        echo "$*" >> asked""",
}

PATIENCE = 30.0


@dataclass(frozen=True)
class Slurm:
    """A cluster in a folder, in which jobs run, too."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Slurm":
        """Make a cluster in a new folder."""
        for name in ("queue", "steps", "bin"):
            (folder / name).mkdir(parents=True)
        for name, text in COMMANDS.items():
            command = folder / "bin" / name
            command.write_text(f"#!/bin/sh\n# A stand-in for Slurm's {name}.\n{text}\n")
            command.chmod(0o755)
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of whoever queues a job."""
        programs = [self.folder / "bin", Path(sys.executable).parent, os.environ["PATH"]]
        return {**os.environ, "PATH": os.pathsep.join(map(str, programs))}

    @property
    def queue(self) -> list[list[str]]:
        """The words that sbatch was given, in order."""
        files = sorted((self.folder / "queue").iterdir(), key=lambda file: int(file.name))
        return [file.read_text("utf-8").splitlines() for file in files]

    @property
    def asked(self) -> list[str]:
        """The words that scontrol was given."""
        file = self.folder / "asked"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    def start(self, words: list[str], **variables: str) -> "subprocess.Popen[bytes]":
        """Run what was queued, as a job with these variables beside the usual ones."""
        script = next(number for number, word in enumerate(words) if not word.startswith("--"))
        usual = {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "0"}
        return subprocess.Popen(
            ["bash", *words[script:]],
            env={**self.environment, **usual, **variables},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def preempt(self, job: str) -> None:
        """Send a job's step, as soon as there is one, what Slurm sends it."""
        step, deadline = self.folder / "steps" / job, time.monotonic() + PATIENCE
        while not (step.is_file() and step.stat().st_size):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(int(step.read_text("utf-8")), signal.SIGTERM)
