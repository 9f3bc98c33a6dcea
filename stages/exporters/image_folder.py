"""Folders of pictures with a metadata.jsonl, in the layout of the hub's "imagefolder"."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stages.exporters.sample import IMAGE, PICTURES, Sample, line_of, row_of

SUFFIX = ""
OVERHEAD = 0
METADATA = "metadata.jsonl"


def opener() -> "Callable[[Path], FolderShard]":
    """Return what begins a shard; a folder needs no library."""
    return FolderShard


class FolderShard:
    """A folder with a folder for each kind of picture, and a line of metadata for each edit."""

    def __init__(self, path: Path) -> None:
        """Begin an empty folder."""
        path.mkdir(parents=True)
        for column in PICTURES:
            (path / column).mkdir()
        self._path, self._metadata = path, (path / METADATA).open("wb")

    def add(self, sample: Sample) -> None:
        """Write the pictures of an edit, and its line."""
        names = {column: f"{column}/{sample.name}.png" for column in PICTURES}
        for column, name in names.items():
            (self._path / name).write_bytes(sample.pictures[column])
        row = {_key(column): name for column, name in names.items()} | sample.row
        self._metadata.write(line_of(row) + b"\n")

    def close(self) -> None:
        """Finish the metadata."""
        self._metadata.close()


def rows(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard, with the paths of pictures relative to the export's folder."""
    place = shard.relative_to(shard.parent.parent).as_posix()
    with (shard / METADATA).open("rb") as lines:
        for line in lines:
            row = row_of(line)
            names = {column: f"{place}/{row.pop(_key(column))}" for column in PICTURES}
            yield row | names


def _key(column: str) -> str:
    """Return how a line names a picture: the hub's datasets make the column of it again."""
    return "file_name" if column == IMAGE else f"{column}_file_name"
