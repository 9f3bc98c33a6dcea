"""The folder that results are taken away to: shards, each written once, and what is in them.

    DIR/train/00001…   the shards, each of some edits; the hub takes the folder's name for a split
    DIR/export.json    the shards with their digests and their edits; written last

While an export is unfinished, DIR/export.unfinished.jsonl has its terms in the first line, then a
line for each shard. A line is written when its shard is whole on the disk and before that gets its
name, so that whoever goes on knows what is finished, whenever the process before it ended.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from artifacts import ArtifactError
from artifacts.places.folder import sync
from stages.jobs.importers.exported import MANIFEST
from stages.reports.place import ReportUnwritable

JOURNAL, SPLIT = "export.unfinished.jsonl", "train"
UNFINISHED = "unfinished"
FORM = 1
"""Raise when exports change, so that old ones are not gone on with."""
AGAIN = "name another folder, or delete it and export again"


Digests: TypeAlias = Mapping[str, str]
"""What a sample is made of, by what it is for; see `Known.digests`."""


@dataclass(frozen=True)
class Limit:
    """How much a shard holds at most, if a single edit is not more; None: any number."""

    bytes: int | None = None
    edits: int | None = None

    def allows(self, edits: int, size: int) -> bool:
        """Return whether a shard may hold these numbers of edits and bytes."""
        return edits <= (self.edits or edits) and size <= (self.bytes or size)


@dataclass(frozen=True)
class Terms:
    """What holds for all shards of an export."""

    job: str
    format: str
    limit: Limit
    form: int = FORM


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard.

    Attributes:
        sha256: of the file; of a folder that of its files' digests and names, as `sha256sum *`
            prints them.
        edits: the digests of what samples were made of, by the ids of edits.
        left_out: ids of edits that were lost among these.
    """

    name: str
    size: int
    sha256: str
    edits: Mapping[str, Digests]
    left_out: tuple[str, ...] = ()


@dataclass
class Target:
    """The folder of one export, held by this process alone."""

    folder: Path
    terms: Terms
    shards: list[ShardEntry] = field(default_factory=list)
    is_finished: bool = False
    _journal: IO[bytes] | None = None

    @classmethod
    @contextmanager
    def open(cls, folder: Path, terms: Terms) -> Iterator["Target"]:
        """Begin an export, go on with an unfinished one, or take up a finished one.

        Raises:
            InvalidEdit: if the folder holds something else, or another process writes to it.
            ReportUnwritable: if it cannot be written.
        """
        target = cls(folder, terms)
        with _writing(folder):
            if (folder / MANIFEST).exists():
                terms, target.shards = read_manifest(folder / MANIFEST)
                target._check_terms(terms)
                target.is_finished = True
                yield target
                return
            _refuse_others(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / JOURNAL).open("a+b") as target._journal:
                target._go_on()
                try:
                    yield target
                finally:
                    target._discard()

    @property
    def edits(self) -> dict[str, Digests]:
        """The digests of all edits of finished shards, by their ids."""
        return {name: digests for shard in self.shards for name, digests in shard.edits.items()}

    @property
    def left_out(self) -> frozenset[str]:
        """Ids of edits that were lost while shards were written."""
        return frozenset(name for shard in self.shards for name in shard.left_out)

    @property
    def unfinished(self) -> Path:
        """Where a shard is written before it has its name."""
        return self.folder / SPLIT / UNFINISHED

    def add(self, suffix: str, edits: Mapping[str, Digests], left_out: Sequence[str]) -> None:
        """Give a shard that is written its name and its line."""
        name = f"{SPLIT}/{len(self.shards) + 1:05d}{suffix}"
        _sync_all(self.unfinished)
        size, sha256 = _measured(self.unfinished)
        entry = ShardEntry(name, size, sha256, edits, tuple(left_out))
        self._note(asdict(entry))
        self._name(entry)
        self.shards.append(entry)

    def settle(self) -> None:
        """Check what is finished, or finish it: write the manifest, in the place of the journal.

        Raises:
            InvalidEdit: if a shard of a finished export is missing or damaged.
        """
        if self.is_finished:
            self._verify()
            (self.folder / JOURNAL).unlink(missing_ok=True)
            return
        document = {"terms": asdict(self.terms), "shards": [asdict(each) for each in self.shards]}
        data = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
        whole = self.folder / f"{MANIFEST}.{UNFINISHED}"
        whole.write_bytes(data)
        sync(whole)
        whole.rename(self.folder / MANIFEST)
        (self.folder / JOURNAL).unlink()
        sync(self.folder)

    def _verify(self) -> None:
        """Read every byte of all shards.

        Raises:
            InvalidEdit: naming a shard that is missing or not as it was written.
        """
        for shard in self.shards:
            path = self.folder / shard.name
            if not path.exists():
                raise InvalidEdit(f"{path} is missing: {AGAIN}")
            if _measured(path) != (shard.size, shard.sha256):
                raise InvalidEdit(f"{path} is damaged (its sha256 is another): {AGAIN}")

    # What is there

    def _go_on(self) -> None:
        """Read the journal up to its last whole line; finish what the line says is written."""
        assert self._journal is not None
        _lock(self._journal, self.folder)
        self._journal.seek(0)
        lines = self._journal.read().rpartition(b"\n")[0]
        with _ours(self.folder / JOURNAL):
            terms, *shards = map(json.loads, lines.splitlines() or [b"null"])
            self._check_terms(_terms(terms) if lines else self.terms)
            self.shards = [*map(_entry, shards)]
        self._journal.truncate(len(lines) + bool(lines))
        if not lines:
            self._note(asdict(self.terms))
        (self.folder / SPLIT).mkdir(exist_ok=True)
        if self.shards and not (self.folder / self.shards[-1].name).exists():
            self._name(self.shards[-1])
        self._discard()
        self._verify()

    def _check_terms(self, found: Terms) -> None:
        """Refuse to go on with an export of other terms."""
        for name, value in asdict(self.terms).items():
            if (other := asdict(found)[name]) != value:
                raise InvalidEdit(
                    f"{self.folder} holds an export with {name} {_plain(other)}, not "
                    f"{_plain(value)}: {AGAIN}"
                )

    # Writing

    def _discard(self) -> None:
        """Delete a shard that was begun."""
        if self.unfinished.is_dir():
            shutil.rmtree(self.unfinished)
        self.unfinished.unlink(missing_ok=True)

    def _note(self, line: Mapping[str, Any]) -> None:
        assert self._journal is not None
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def _name(self, entry: ShardEntry) -> None:
        with suppress(FileNotFoundError):  # `_verify` says that it is missing
            self.unfinished.rename(self.folder / entry.name)
            sync(self.unfinished.parent)


def _refuse_others(folder: Path) -> None:
    if folder.is_dir() and not (folder / JOURNAL).exists() and any(folder.iterdir()):
        raise InvalidEdit(f"{folder} holds other things: name a new folder, or an empty one")


def _lock(journal: IO[bytes], folder: Path) -> None:
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidEdit(f"another process exports to {folder}: let it end") from None
    except OSError:  # some shared file systems know no locks
        return
    if (folder / MANIFEST).exists():
        raise InvalidEdit(f"another process has finished {folder} just now: nothing is to do")


def read_manifest(path: Path) -> tuple[Terms, list[ShardEntry]]:
    """Return the terms and shards of a finished export.

    Raises:
        InvalidEdit: if it is another file.
    """
    with _ours(path):
        found = json.loads(path.read_bytes())
        return _terms(found["terms"]), [*map(_entry, found["shards"])]


@contextmanager
def _ours(path: Path) -> Iterator[None]:
    try:
        yield
    except InvalidEdit:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidEdit(f"{path} is of no export: name another folder") from None


def _terms(document: Mapping[str, Any]) -> Terms:
    return Terms(**{**document, "limit": Limit(**document["limit"])})


def _entry(document: Mapping[str, Any]) -> ShardEntry:
    return ShardEntry(**{**document, "left_out": tuple(document["left_out"])})


def _plain(value: Any) -> str:
    """Write a term for people."""
    given = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
    return json.dumps(given)


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _sync_all(path: Path) -> None:
    for file in _files(path):
        sync(file)
    for folder in [each for each in path.rglob("*") if each.is_dir()] if path.is_dir() else []:
        sync(folder)


def _measured(path: Path) -> tuple[int, str]:
    """Return the bytes and the sha256 of a shard."""
    digests = {each: _sha256(each) for each in _files(path)}
    size = sum(each.stat().st_size for each in digests)
    if not path.is_dir():
        return size, digests[path]
    lines = "".join(f"{digest}  {each.relative_to(path)}\n" for each, digest in digests.items())
    return size, hashlib.sha256(lines.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (AdaptiveDragError, ArtifactError):
        raise
    except OSError as error:
        raise ReportUnwritable(
            f"{folder} cannot be written ({error.strerror or error}): make room, or name another "
            "folder; what is finished is kept"
        ) from error
