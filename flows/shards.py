"""Cuts work into pieces of a sensible size: chunks of a stage, and shards of whole images."""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from stages.pipeline import BY_NAME, STAGES

if TYPE_CHECKING:
    from stages.jobs.edit import Edit

T = TypeVar("T")

CHUNK_SECONDS = 60.0
"""A task of Prefect: its server keeps some thirty kilobytes of each for days."""
SHARD_SECONDS = 600.0
ITEMS_REMEMBERED = 32


class StageSeconds:
    """How long an item of a stage takes: a guess or earlier runs at first, then what is seen."""

    def __init__(self, guesses: Mapping[str, float] | None = None) -> None:
        """Start from the medians of an earlier run, where there was one."""
        self._guesses = {stage.name: stage.first_guess for stage in STAGES} | dict(guesses or {})
        self._seen: dict[str, deque[float]] = {}

    def of(self, stage: str) -> float:
        """Return the seconds that the next item of the stage will take."""
        seen = self._seen.get(stage)
        return median(seen) if seen else self._guesses[stage]

    def saw(self, stage: str, seconds: float) -> None:
        """Learn from an item that was just made."""
        self._seen.setdefault(stage, deque(maxlen=ITEMS_REMEMBERED)).append(seconds)

    def seen(self) -> dict[str, float]:
        """Return the medians of the stages of which an item was made."""
        return {stage: round(median(seconds), 3) for stage, seconds in self._seen.items()}


def cut_chunks(batches: Iterable[Sequence[T]], seconds_per_item: float) -> Iterator[list[T]]:
    """Yield the items in runs of whole batches that last `CHUNK_SECONDS` or just longer."""
    length = max(1, math.ceil(CHUNK_SECONDS / max(seconds_per_item, 1e-3)))
    chunk: list[T] = []
    for batch in batches:
        chunk += batch
        if len(chunk) >= length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def cut_shards(
    edits: Sequence["Edit"],
    seconds_of: Callable[[str], float],
    stages: Sequence[str],
    at_least: int = 1,
) -> list[tuple["Edit", ...]]:
    """Cut edits into shards of about `SHARD_SECONDS` of work, every image whole in one shard.

    Two workers on two shards of one job need the same artifact only where different images come to
    the same bytes. The cut depends on its arguments only; in a shard the edits keep their order.

    Args:
        seconds_of: how long an item of a stage takes.
        at_least: the number of shards wanted, as far as there are images.
    """
    if not edits:
        return []
    images = _images(edits)
    work = sum(_work(len(members), seconds_of, stages) for members in images.values())
    wanted = max(at_least, math.floor(work / SHARD_SECONDS), 1)
    return cut_parts(edits, min(wanted, len(images)), seconds_of, stages)


def cut_parts(
    edits: Sequence["Edit"],
    number: int,
    seconds_of: Callable[[str], float],
    stages: Sequence[str],
) -> list[tuple["Edit", ...]]:
    """Cut edits into a number of parts of like work, every image whole in one part.

    The last ones are empty where there are fewer images. See `cut_shards`.
    """
    images = _images(edits)
    work = {digest: _work(len(members), seconds_of, stages) for digest, members in images.items()}
    parts: list[list[tuple[int, Edit]]] = [[] for _ in range(number)]
    loads = [(0.0, index) for index in range(number)]
    for digest in sorted(images, key=lambda name: -work[name]):
        load, index = heapq.heappop(loads)
        parts[index].extend(images[digest])
        heapq.heappush(loads, (load + work[digest], index))
    in_order = sorted((sorted(part, key=_place) for part in parts), key=_first_place)
    return [tuple(edit for _, edit in part) for part in in_order]


def _images(edits: Sequence["Edit"]) -> dict[str, list[tuple[int, "Edit"]]]:
    """Return the edits of each image with their places, by the image's digest."""
    images: dict[str, list[tuple[int, Edit]]] = {}
    for place, edit in enumerate(edits):
        images.setdefault(edit.image.digest, []).append((place, edit))
    return images


def _place(member: tuple[int, "Edit"]) -> int:
    return member[0]


def _first_place(part: Sequence[tuple[int, "Edit"]]) -> float:
    return part[0][0] if part else math.inf


def _work(edits: int, seconds_of: Callable[[str], float], stages: Sequence[str]) -> float:
    """Return the seconds that an image with a number of edits takes."""
    return sum(seconds_of(stage) * (1 if BY_NAME[stage].per_image else edits) for stage in stages)
