"""What a job asks of object storage, counted at an S3 server (moto's) on this machine.

Stages that do not wait, one edit of each image, one worker, one shard. Each request is a line of
the server's log.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.many_edits import EMBEDDED, write_dataset
from loopback import Place, ask_database, cluster, on_s3, place
from support.report import Row, Stopwatch
from support.s3_server import BUCKET, s3_location, serve_s3

from artifacts import ArtifactStore

EDITS = 50
GIVE_UP = 600.0
REQUEST = re.compile(rf'"(?P<method>[A-Z]+) /{BUCKET}(?P<path>\S*) HTTP')


@dataclass
class Requests:
    """Requests by their kind since the last look."""

    kinds: Counter[str] = field(default_factory=Counter)

    def hear(self, line: str) -> None:
        """Take in a line of the server's log."""
        if found := REQUEST.search(line):
            is_listing = "list-type=2" in found["path"]
            self.kinds["LIST" if is_listing else found["method"]] += 1

    def told(self, edits: int) -> str:
        """Say how many there were for an edit, and forget them."""
        found, self.kinds = self.kinds, Counter()
        kinds = (f"{count / edits:.1f} {kind}" for kind, count in sorted(found.items()))
        return f"{', '.join(kinds) or 'none'} per edit"


def rows(_seed: int) -> Iterator[Row]:
    requests = Requests()
    with serve_s3(requests.hear) as port, place(0, {**on_s3(port), "SCALE_DIARY": ""}) as at:
        job = write_dataset(at.folder / "job", EDITS, models=EMBEDDED)
        store = ArtifactStore.open(s3_location(port, "store"))
        keep = ["--store", f"s3://{BUCKET}/store"]
        yield counted("`plan`, nothing done", requests, lambda: at.call("plan", job, *keep))
        with cluster(at):
            submit = ["submit", job, *keep, "--out", at.folder / "out"]
            yield counted("`submit`", requests, lambda: at.call(*submit))
            worker = at.start("worker", "--processes", 1, log="worker")
            yield counted("all stages by a worker", requests, lambda: wait_until_completed(at))
            worker.terminate()
            worker.wait()
        yield counted("`plan`, all done", requests, lambda: at.call("plan", job, *keep))
        yield files_in(store)


def wait_until_completed(at: Place) -> None:
    """Wait until every flow run is, by Prefect's database: it asks nothing of the store."""
    deadline = time.monotonic() + GIVE_UP
    left = "select 1 from flow_run where state_type != 'COMPLETED'"
    while ask_database(at, left):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done after {GIVE_UP:g} s")
        time.sleep(1)


def files_in(store: ArtifactStore) -> Row:
    """Tell how many files there are for an edit."""
    clock, sizes = Stopwatch(), store.backend.sizes("")
    folders = sorted(Counter(path.partition("/")[0] for path in sizes).items())
    return Row(
        "files in the store",
        "counted",
        f"{len(sizes) / EDITS:.1f} per edit",
        True,
        clock.seconds,
        ", ".join(f"{count / EDITS:.1f} in {folder}" for folder, count in folders),
    )


def counted(what: str, requests: Requests, do: Callable[[], object]) -> Row:
    """Do something, and tell what it asked of the server."""
    clock = Stopwatch()
    requests.kinds.clear()
    do()
    return Row(f"requests of {what}", "counted", requests.told(EDITS), True, clock.seconds)
