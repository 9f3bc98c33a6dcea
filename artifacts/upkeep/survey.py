"""Goes through a whole store: every record, object and checkpoint that lies there.

Nothing is looked up by key, so it also finds what nobody would ask for. It lists folders by prefix,
many at a time, and yields results as it finds them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from artifacts.errors import ArtifactCorrupt
from artifacts.keys import Digest, Key, is_digest
from artifacts.layout import ACTIONS, OBJECTS, PROGRESS, number_of
from artifacts.places.backend import Backend, Entry
from artifacts.places.parallel import at_once
from artifacts.records import Record


@dataclass(frozen=True)
class Folder:
    """A folder whose files belong together, and the files by relative path."""

    path: str
    files: dict[str, Entry]

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition("/")[2]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @property
    def modified(self) -> datetime:
        """Time at which its newest file was written."""
        return max(entry.modified for entry in self.files.values())


@dataclass(frozen=True)
class RecordFile:
    """A file in a record's place.

    Attributes:
        record: what it says, or None.
        problem: why it does not count, or "".
    """

    path: str
    stage: str
    key: Key
    number: int
    entry: Entry
    record: Record | None
    problem: str


@dataclass(frozen=True)
class ActionFolder:
    """An action's folder: its records, oldest first, and other files."""

    folder: Folder
    stage: str
    records: tuple[RecordFile, ...]
    strays: tuple[str, ...]

    @property
    def key(self) -> Key:
        """The action's key, if the folder's name is one."""
        return Key(self.folder.name)

    @property
    def newest(self) -> Record | None:
        """The record that counts."""
        return next((f.record for f in reversed(self.records) if f.record), None)


def stages_of(backend: Backend, kind: str = ACTIONS) -> list[str]:
    """Return the names of the stages with anything of a kind."""
    return backend.folders(kind)


def actions(backend: Backend, stage: str) -> Iterator[ActionFolder]:
    """Read every record of a stage."""
    above = f"{ACTIONS}/{stage}"
    shards = [f"{above}/{shard}" for shard in backend.folders(above)]
    read = partial(_read_actions, backend, stage)
    for found in at_once(read, shards, backend.parallel):
        yield from found


def objects(backend: Backend) -> Iterator[Folder]:
    """List every object's folder; its name need not be a digest."""
    shards = [f"{OBJECTS}/{shard}" for shard in backend.folders(OBJECTS)]
    for found in at_once(partial(list_folders, backend), shards, backend.parallel):
        yield from found


def checkpoints(backend: Backend, stage: str) -> Iterator[Folder]:
    """List the checkpoints of every action of a stage, by key."""
    yield from list_folders(backend, f"{PROGRESS}/{stage}")


def list_folders(backend: Backend, above: str) -> list[Folder]:
    """List all files below the folders of a folder, by folder, in one listing.

    A file directly in `above` makes a folder of its own, with "" as its only path.
    """
    files: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in backend.entries(above):
        name, _, path = entry.path.partition("/")
        files[name][path] = entry
    return [Folder(f"{above}/{name}", found) for name, found in sorted(files.items())]


def is_object(folder: Folder) -> bool:
    """Return whether a folder lies where the object of its name belongs."""
    shard, name = folder.path.split("/")[1:]
    return is_digest(name) and name.startswith(shard) and len(shard) == 2


def references(found: Iterable[ActionFolder]) -> dict[Digest, list[RecordFile]]:
    """Return which records name each object."""
    naming: defaultdict[Digest, list[RecordFile]] = defaultdict(list)
    for action in found:
        for file in action.records:
            if file.record:
                naming[file.record.object].append(file)
    return dict(naming)


def _read_actions(backend: Backend, stage: str, shard: str) -> list[ActionFolder]:
    return [_read_action(backend, stage, folder) for folder in list_folders(backend, shard)]


def _read_action(backend: Backend, stage: str, folder: Folder) -> ActionFolder:
    numbers = {path: number_of(path) for path in sorted(folder.files)}
    strays = tuple(path for path, number in numbers.items() if number is None)
    if not is_digest(folder.name) or folder.path.split("/")[-2] != folder.name[:2]:
        return ActionFolder(folder, stage, (), tuple(folder.files))
    found = (
        _read_record(backend, stage, folder, path, number)
        for path, number in numbers.items()
        if number is not None
    )
    return ActionFolder(folder, stage, tuple(sorted(found, key=lambda f: f.number)), strays)


def _read_record(
    backend: Backend, stage: str, folder: Folder, name: str, number: int
) -> RecordFile:
    path, key = f"{folder.path}/{name}", Key(folder.name)
    file = partial(RecordFile, path, stage, key, number, folder.files[name])
    try:
        data = backend.get(path)
        if data is None:
            return file(None, "is gone")
        record = Record.from_bytes(data)
    except (ValueError, ArtifactCorrupt) as error:
        return file(None, f"cannot be read: {_first_line(error)}")
    if (record.stage, record.key, record.number) != (stage, key, number):
        place = f"{record.stage} {record.key} number {record.number}"
        return file(None, f"is in the wrong place: it belongs to {place}")
    return file(record, "")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
