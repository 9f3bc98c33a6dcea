"""The forms in which results are taken away: one module each, and what such a module has."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stages.exporters import image_folder, parquet, webdataset
from stages.exporters.sample import Sample


class Shard(Protocol):
    """A file or folder that is being written."""

    def add(self, sample: Sample) -> None:
        """Write an edit."""

    def close(self) -> None:
        """Finish the shard."""


class Format(Protocol):
    """A form of shards."""

    SUFFIX: str
    """Of a shard's name; "" for a folder."""
    OVERHEAD: int
    """Bytes that an edit takes at most beside its pictures and its row."""

    def opener(self) -> Callable[[Path], Shard]:
        """Return what begins a shard at a path where nothing is.

        Raises:
            InvalidEdit: if a library is missing.
        """

    def rows(self, shard: Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of a shard, with pictures as `import` takes them."""


FORMATS: Mapping[str, Format] = {
    "imagefolder": image_folder,
    "parquet": parquet,
    "webdataset": webdataset,
}
"""By the names that the hub's datasets have for them."""
