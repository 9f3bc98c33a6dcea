"""Tar files for WebDataset, written by its own library; any reader of tar files reads them."""

import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from adaptivedrag.errors import InvalidEdit
from stages.exporters.sample import PICTURES, Sample, line_of, row_of

SUFFIX = ".tar"
OVERHEAD = 1024 * (len(PICTURES) + 1)
"""Bytes at most that the heads and fillings of an edit's files take."""
LONGEST_NAME = 60
"""Of an id in the name of a file, which tar limits to 100 letters."""


def opener() -> "Callable[[Path], TarShard]":
    """Return what begins a shard.

    Raises:
        InvalidEdit: if webdataset is not here.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise InvalidEdit(
            "WebDataset is written by webdataset, which is not here: "
            "pip install 'adaptivedrag[webdataset]'"
        ) from None
    return TarShard


class TarShard:
    """A tar file with four files for each edit, such as 000000-dog.edited.png; it knows no clock.

    A reader takes a name up to its first dot for the sample's, and ids may have dots: they become
    underscores, and numbers keep the names apart. The id itself is in the JSON.
    """

    def __init__(self, path: Path) -> None:
        """Begin an empty file."""
        from webdataset import TarWriter

        self._file, self._count = path.open("wb"), 0
        self._writer = TarWriter(self._file, user="", group="", mode=0o644, encoder=False, mtime=0)

    def add(self, sample: Sample) -> None:
        """Write the files of an edit."""
        key = f"{self._count:06d}-{sample.name.replace('.', '_')[:LONGEST_NAME]}"
        pictures = {f"{column}.png": data for column, data in sample.pictures.items()}
        self._writer.write({"__key__": key, "json": line_of(sample.row), **pictures})
        self._count += 1

    def close(self) -> None:
        """Finish the file."""
        with self._file:
            self._writer.close()


def rows(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard, with pictures as bytes."""
    with tarfile.open(shard) as tar:
        for _, members in groupby(tar, lambda member: member.name.partition(".")[0]):
            # Read in turn: a stream of members knows no way back.
            files = {member.name.partition(".")[2]: _read(tar, member) for member in members}
            yield row_of(files["json"]) | {c: files[f"{c}.png"] for c in PICTURES}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""
