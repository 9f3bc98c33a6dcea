"""Workers, their processes and the server are killed while a job is done.

Sixty edits of twelve images with the real stages on a tiny random model, in a store on an S3 server
(moto's). Two workers; every 20 s one of them, its process, or both are killed with -9, and started
again as a service manager does; the server is killed once. The job is submitted twice. Its results
are compared with those of `adaptivedrag run` in one process.
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diary import notes
from judging import differences, wrong_results
from loopback import Place, cluster, on_s3, place
from support.report import Row, Stopwatch, on_seed
from support.s3_server import BUCKET, s3_location, serve_s3
from support.tiny_job import write_job
from support.tiny_models import write_model
from workers import KilledWorker, draw_victim

from artifacts import ArtifactStore
from flows.cluster.home import ClusterHome
from flows.cluster.parts import SERVER

EVERY = 20.0
SECOND_SUBMISSION = 10.0
GIVE_UP = 420.0
IMAGES, EACH = 12, 5


@dataclass
class Killing:
    """What is done to a job while it is at work."""

    at: Place
    draw: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    def follow(self, submissions: list["subprocess.Popen[bytes]"]) -> None:
        """Kill until all submissions have ended, or for as long as anybody would wait."""
        workers = [KilledWorker(self.at, number) for number in range(2)]
        clock, strikes = Stopwatch(), 0
        while any(each.poll() is None for each in submissions) and clock.seconds < GIVE_UP:
            time.sleep(0.2)
            if clock.seconds >= (strikes + 1) * EVERY:
                strikes += 1
                self.strike(workers)
            for worker in workers:
                worker.tend()
        processes = [*submissions, *(worker.process for worker in workers)]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    def strike(self, workers: list[KilledWorker]) -> None:
        worker, whom = draw_victim(workers, self.draw)
        self.killed.update(worker.kill(whom))
        if self.killed.total() >= 2 and not self.killed["server"]:
            os.kill(ClusterHome(self.at.home).state.parts[SERVER].pid, signal.SIGKILL)
            self.killed["server"] += 1


def rows(seed: int) -> Iterator[Row]:
    with on_seed("kills", seed), serve_s3() as port, place(more=on_s3(port)) as at:
        job = write_job(at.folder / "job", write_model(at.folder / "model"), IMAGES, EACH)
        yield kill(at, port, job, random.Random(seed))


def kill(at: Place, port: int, job: Path, draw: random.Random) -> Row:
    """Do a job in one process, and again while things are killed; compare both."""
    clock = Stopwatch()
    alone = at.beside("alone")
    alone.call("run", job, "--store", f"s3://{BUCKET}/whole", "--out", alone.folder / "out")
    killing = Killing(at, draw)
    with cluster(at):
        submit = ["submit", job, "--watch", "--shards", IMAGES, "--store", f"s3://{BUCKET}/store"]
        submit += ["--out", at.folder / "out"]
        first = at.start(*submit, log="submit")
        time.sleep(SECOND_SUBMISSION)
        killing.follow([first, second := at.start(*submit, log="submit-again")])
        codes = first.returncode, second.returncode
    left = at.left_behind()
    stores = (ArtifactStore.open(s3_location(port, name)) for name in ("store", "whole"))
    problems = [*differences(*stores), *wrong_results(at.folder / "out", IMAGES * EACH)]
    problems += [f"exit code {code}" for code in codes if code]
    diary = notes(at.diary)
    again = sum(note.was_there for note in diary)
    began, ended = (sum(note.event == event for note in diary) for event in ("began", "ended"))
    told = ", ".join(f"{count} times {whom}" for whom, count in sorted(killing.killed.items()))
    return Row(
        "60 edits on 2 workers: worker, child or both killed every 20 s, the server once",
        "all done, exit code 0, bytes as of one process, finished stages done again: 0, no shard "
        "stuck, no process left",
        f"killed: {told}; exit codes {codes[0]} and {codes[1]}; {len(problems)} differences; "
        f"finished stages done again: {again}; {left} processes left",
        not problems and not again and not left,
        clock.seconds,
        f"{began} executions of stages, {began - ended} of them cut off. "
        + "; ".join(problems[:5]),
    )
