"""A power loss that takes what was not synced.

Every write, deletion and fsync of real publishes is written into a journal. The journal is cut
after each event, and folders are laid out as a disk may hold them then: an unsynced file is whole,
cut, zeros, empty or not there, at its old or its new content, and an unsynced folder may be gone
with all that is in it.
"""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from real_results import Result, make_results
from support.report import Row, Stopwatch, on_seed
from support.store_faults import truncate

from artifacts import ArtifactCorrupt, ArtifactStore
from artifacts.layout import object_folder
from artifacts.places.backend import Backend
from artifacts.upkeep.collect import Policy, collect

LOSSES_PER_EVENT = 4
AT_ONCE = timedelta(seconds=-1)
"""A grace period that keeps nothing back, not even what is written in the same tick."""
BLOCK = 4096


@dataclass(frozen=True)
class Event:
    """A write or a synced replacement (with bytes), a deletion, an fsync of a file or a folder."""

    what: str
    path: str
    data: bytes = b""


Journal = list[Event]


class JournaledBackend(Backend):
    """A folder whose every change is written into a journal, `journal`."""

    journal: Journal

    def put(self, path: str, data: bytes) -> None:
        super().put(path, data)
        self.journal.append(Event("write", path, data))

    def _put_if_absent(self, path: str, data: bytes) -> bool:
        written = super()._put_if_absent(path, data)
        if written:
            self.journal.append(Event("write", path, data))
        return written

    def renew(self, path: str, data: bytes) -> None:
        is_new = self.get(path) != data
        super().renew(path, data)
        if is_new:
            self.journal.append(Event("replace", path, data))

    def delete(self, paths: Iterable[str], lasting: bool = False) -> None:
        for path in paths:
            super().delete([path])
            self.journal.append(Event("delete", path))
            if lasting:
                self.sync([path])


class CarelessBackend(JournaledBackend):
    """The control: without fsync, names are safe and bytes are not."""

    def sync(self, paths: Iterable[str], folders: bool = True) -> None:
        above = {parent for path in paths for parent in PurePosixPath(path).parents}
        for folder in above if folders else ():
            descriptor = os.open(self.root / folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


@contextmanager
def journaled_fsync(journal: Journal, root: Path) -> Iterator[None]:
    """Write every fsync below a folder into the journal, as the system sees it."""
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path == root or root in path.parents:
            journal.append(Event("fsync", path.relative_to(root).as_posix()))

    os.fsync = noting
    try:
        yield
    finally:
        os.fsync = fsync


@dataclass
class Version:
    """What a file was from one event on; None for nothing."""

    data: bytes | None
    is_synced: bool = False
    is_named: bool = False
    """Whether the folder was synced since."""


@dataclass
class Disk:
    """What a disk holds for certain, and what it may hold."""

    files: dict[str, list[Version]] = field(default_factory=dict)
    named_folders: set[str] = field(default_factory=set)

    def happen(self, event: Event) -> None:
        if event.what in ("write", "replace"):
            version = Version(event.data, is_synced=event.what == "replace")
            self.files.setdefault(event.path, []).append(version)
        elif event.what == "delete":
            self.files[event.path].append(Version(None, is_synced=True))
        elif event.path in self.files:
            self.files[event.path][-1].is_synced = True
        else:
            self._sync_folder(event.path)

    def _sync_folder(self, folder: str) -> None:
        for path, versions in self.files.items():
            parents = [str(parent) for parent in PurePosixPath(path).parents]
            if parents[0] == folder:
                versions[-1].is_named = True
            elif folder in parents:
                self.named_folders.add(parents[parents.index(folder) - 1])

    def lose(self, draw: random.Random) -> dict[str, bytes]:
        """Draw what is there after the power comes back."""
        gone: dict[str, bool] = {}
        left = {}
        for path, versions in self.files.items():
            folders = [str(parent) for parent in PurePosixPath(path).parents][:-1]
            for folder in folders:
                if folder not in gone:
                    gone[folder] = folder not in self.named_folders and draw.random() < 0.3
            data = None if any(gone[f] for f in folders) else self._content(versions, draw)
            if data is not None:
                left[path] = data
        return left

    @staticmethod
    def _content(versions: list[Version], draw: random.Random) -> bytes | None:
        certain = max((n for n, version in enumerate(versions) if version.is_named), default=-1)
        chosen = draw.randrange(certain, len(versions))
        if chosen < 0 or versions[chosen].data is None:
            return None
        data = versions[chosen].data
        if versions[chosen].is_synced:
            return data
        # Disks write whole blocks: a file can end at any of them.
        cut = data[: draw.randrange(0, len(data) + 1, BLOCK)]
        return draw.choice([data, b"", bytes(len(data)), cut])


@dataclass
class Count:
    """What was found after the losses."""

    losses: int = 0
    events: int = 0
    hits: int = 0
    bad: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    unhealed: list[str] = field(default_factory=list)
    torn_records: int = 0


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("power loss", seed):
        place = Path(folder)
        results = make_results(place, images=1, each=2).of_each_stage
        yield lose_power(results, place / "ours", LOSSES_PER_EVENT, seed)
        yield lose_power_without_fsync(results, place / "careless", 1, seed)


def lose_power(results: list[Result], place: Path, losses: int, seed: int) -> Row:
    """Lose power after every event of publishing, superseding, repairing and checkpoints."""
    clock = Stopwatch()
    count = lose_everywhere(results, place, JournaledBackend, losses, random.Random(seed))
    problems = count.bad + count.undone + count.unhealed
    return Row(
        "power lost after every write, deletion and fsync",
        "0 accepted bad artifacts",
        f"{count.losses} losses at {count.events} events: {len(count.bad)} of {count.hits} hits "
        f"bad; {len(count.undone)} published results lost; {len(count.unhealed)} not made again",
        not problems,
        clock.seconds,
        f"{count.torn_records} torn records, which readers skip."
        + "".join(f" {problem}." for problem in problems[:3]),
    )


def lose_power_without_fsync(results: list[Result], place: Path, losses: int, seed: int) -> Row:
    """Leave out the syncing, to show that this test can fail."""
    clock = Stopwatch()
    count = lose_everywhere(results, place, CarelessBackend, losses, random.Random(seed))
    return Row(
        "the same without fsync of files",
        "must fail",
        f"{count.losses} losses: {len(count.bad)} of {count.hits} hits bad, "
        f"{len(count.undone)} published results lost",
        bool(count.bad and count.undone),
        clock.seconds,
        "the files of a bad hit have the right sizes; reading finds it by its sha256.",
    )


def lose_everywhere(
    results: list[Result],
    place: Path,
    kind: type[JournaledBackend],
    losses: int,
    draw: random.Random,
) -> Count:
    """Write a journal, and look at what is left of it after a loss at each of its events."""
    journal, safe = written_journal(results, place / "first", kind)
    count, disk = Count(events=len(journal)), Disk()
    for number, event in enumerate(journal, start=1):
        disk.happen(event)
        for _ in range(losses):
            with TemporaryDirectory(dir=place) as folder:
                lay_out(Path(folder), disk.lose(draw))
                kept = [r for r, span in zip(results, safe, strict=True) if number in span]
                judge(Path(folder), results, kept, count)
    return count


def written_journal(
    results: list[Result], root: Path, kind: type[JournaledBackend]
) -> tuple[Journal, list[range]]:
    """Publish each result, supersede the first, collect and remake it, damage and repair the last.

    Returns:
        The journal, and for each result the events after which it has to be there.
    """
    root.mkdir(parents=True)
    backend = kind.open(root, create=True)
    backend.journal = journal = []
    first, last = results[0].record, results[-1].record
    begun, hurt = [], {}
    with journaled_fsync(journal, root):
        store = ArtifactStore(backend)
        # As `open` does on a new folder.
        store._check_format(create=True)
        for result in results:
            record = result.record
            store.put_progress(record.stage, record.key, 1, result.payload)
            store.put_progress(record.stage, record.key, 2, result.payload)
            store.publish(record.action, result.payload, record.circumstances)
            begun.append(len(journal))
            store.drop_progress(record.stage, record.key)
        store.publish(first.action, results[0].payload, first.circumstances, replace=True)
        hurt[first.key] = len(journal) + 1
        policy = Policy(keep={result.record.key for result in results[1:]})
        assert collect(store, policy, AT_ONCE).removed
        store.publish(first.action, results[0].payload, first.circumstances)
        hurt.setdefault(last.key, len(journal) + 1)
        repair(store, results[-1], root, journal)
    end = len(journal) + 1
    keys = [result.record.key for result in results]
    return journal, [range(at, hurt.get(k, end)) for at, k in zip(begun, keys, strict=True)]


def repair(store: ArtifactStore, result: Result, root: Path, journal: Journal) -> None:
    """Damage a result without marking it, and publish it again."""
    record = result.record
    path = f"{object_folder(record.object)}/{min(record.files)}"
    truncate(root / path, random.Random(0))
    folder = str(PurePosixPath(path).parent)
    journal.append(Event("write", path, (root / path).read_bytes()))
    journal += [Event("fsync", path), Event("fsync", folder)]
    store.publish(record.action, result.payload, record.circumstances)


def lay_out(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def judge(root: Path, results: list[Result], kept: list[Result], count: Count) -> None:
    """Read all that is called a hit, then do again what is not; `kept` has to be there."""
    count.losses += 1
    store = ArtifactStore.open(root)
    for result in results:
        record = result.record
        found = store.lookup(record.stage, record.key)
        told = f"{record.stage} after event {count.losses}"
        if found and found.status == "hit":
            count.hits += 1
            count.bad += [told] * (not reads_right(store, result))
        elif result in kept:
            count.undone.append(told)
        checkpoint = store.latest_progress(record.stage, record.key)
        if checkpoint and checkpoint.parts.keys() != result.payload.keys():
            count.bad.append(f"checkpoint of {told}")
    for result in results:
        if reads_right(store, result):
            continue
        record = result.record
        store.publish(record.action, result.payload, record.circumstances)
        if not reads_right(store, result):
            count.unhealed.append(f"{record.stage} after event {count.losses}")
    folders = {path.parent for path in (root / "actions").rglob("*.json")}
    torn = (path for folder in folders for path in folder.glob("*.json"))
    count.torn_records += sum(b'"key"' not in path.read_bytes() for path in torn)


def reads_right(store: ArtifactStore, result: Result) -> bool:
    found = store.lookup(result.record.stage, result.record.key)
    if found is None or found.status != "hit":
        return False
    try:
        store.read(found.record)
    except ArtifactCorrupt:
        return False
    return found.record.logical == result.record.logical
