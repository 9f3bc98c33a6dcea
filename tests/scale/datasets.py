"""VITON-HD in a night on eight GPUs, and a million edits on 256, by calculation.

Assumed: an edit of each image, with Stable Diffusion 1.5 at 512 px, alone in its passes, which take
as long as [batches.md](batches.md) calculates; two seconds more for each edit; twenty seconds for a
shard to start; 30 ms for a request to object storage. A run of some edits has told how long stages
take, so that shards are ten minutes. What a task, a flow run and an object take is counted in the
parts of this document that do them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.memory import Subject
from benchmarks.roofline import GPUS, drag, infer, measured, train
from support.report import Row

from flows.shards import CHUNK_SECONDS, SHARD_SECONDS

NIGHT = 10.0
GPU = GPUS[0]
PASSES: dict[str, Mapping[Callable[[Subject, int], None], float]] = {
    "plus": {infer: 191.4},
    "paper": {train: 80, drag: 81, infer: 35 + 70},
}
"""Of the UNet, for an edit."""
STAGES = {"plus": 5, "paper": 7}
"""Each has a record and an object."""
BESIDE_PASSES, SHARD_START = 2.0, 20.0


class Kept(NamedTuple):
    """What Prefect's database keeps, as long as it keeps events."""

    rows: int
    bytes: int


TASK, FLOW_RUN = Kept(36, 34_000), Kept(40, 45_000)
FILES, REQUESTS, LISTINGS = 4.3, 30.0, 13.4
"""For an object: in the store, all requests, and those that list."""
ROUND_TRIP = 0.03
"""Seconds of a request to object storage; those of an edit come one after the other."""


@dataclass(frozen=True)
class Dataset:
    """A dataset, and what it is done with.

    Attributes:
        seconds: what an edit takes on one of the GPUs.
    """

    name: str
    edits: int
    gpus: int
    preset: str
    seconds: float

    @property
    def shards(self) -> int:
        return max(self.gpus, math.floor(self.edits * self.seconds / SHARD_SECONDS))

    @property
    def hours(self) -> float:
        """How long it takes from the first shard's start to the last one's end."""
        rounds = math.ceil(self.shards / self.gpus)
        return rounds * (self.edits * self.seconds / self.shards + SHARD_START) / 3600

    @property
    def in_object_storage(self) -> "Dataset":
        """The same with a store that answers each request after `ROUND_TRIP`."""
        return replace(self, seconds=self.seconds + STAGES[self.preset] * REQUESTS * ROUND_TRIP)

    @property
    def tasks(self) -> int:
        """Task runs: the stages of a shard's first edit, and the chunks of all others."""
        chunks = self.edits * self.seconds / self.shards / CHUNK_SECONDS
        return self.shards * (2 * STAGES[self.preset] + math.floor(chunks))

    @property
    def rows(self) -> int:
        """Rows of Prefect's database while it keeps events."""
        return self.shards * FLOW_RUN.rows + self.tasks * TASK.rows

    @property
    def bytes(self) -> int:
        """Bytes of Prefect's database while it keeps events."""
        return self.shards * FLOW_RUN.bytes + self.tasks * TASK.bytes

    def row(self, night: float | None) -> Row:
        """Tell how long it takes; `night` is the time that there is, in hours."""
        objects = self.edits * STAGES[self.preset]
        return Row(
            f"{self.name}, `{self.preset}`: {self.edits:,} edits on {self.gpus} {GPU.name}",
            f"in a night of {night:g} h" if night else "calculated",
            f"{self.hours:.1f} h on a shared disk, {self.in_object_storage.hours:.1f} h with "
            "object storage",
            night is None or self.in_object_storage.hours <= night,
            0.0,
            f"{self.seconds:.1f} s an edit; {self.shards:,} flow runs, {self.tasks:,} tasks, "
            f"{self.rows / 1e6:.2f} million rows, {self.bytes / 1e9:.2f} GB of database; "
            f"{objects / 1e6:.2f} million objects in {objects * FILES / 1e6:.1f} million files; "
            f"{objects * REQUESTS / 1e6:.1f} million requests, {objects * LISTINGS / 1e6:.1f} "
            "million of them listings.",
        )


def rows(_seed: int) -> Iterator[Row]:
    for preset, passes in PASSES.items():
        seconds = BESIDE_PASSES + sum(
            count * measured(run, 1).seconds(GPU) for run, count in passes.items()
        )
        yield Dataset("VITON-HD", 13_679, 8, preset, seconds).row(NIGHT)
        yield Dataset("a million", 1_000_000, 256, preset, seconds).row(None)
