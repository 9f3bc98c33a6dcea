"""A disk that is full at every write.

A small disk in memory (tmpfs) is filled up to every 4 KiB of what a stage's payload needs; where
mounting is not allowed, a limit on the size of a file (RLIMIT_FSIZE) falls on each file in turn.
Then a whole job starts on a full disk, and gets more room whenever it stops.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lives import Errand, begin, contents, live, processes, ready, record_numbers, to_the_end
from real_results import Result, make_results
from support import housekeeper
from support.report import NotPossibleHere, Row, Stopwatch, on_seed
from support.tiny_job import write_job

from artifacts import ArtifactError, ArtifactStore, StoreUnavailable
from artifacts.upkeep.verify import Verification

BLOCK = 4096
KIB_MORE = 64


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("full disk", seed):
        place = Path(folder)
        results = make_results(place, images=1, each=1)
        yield publish_without_room(results.of_each_stage, place)
        job = write_job(place / "twelve", place / "model", images=4, each=3)
        yield run_without_room(job, place)


@contextmanager
def small_disk(place: Path, kibibytes: int) -> Iterator[Path]:
    """Mount a disk of a given size.

    Raises:
        NotPossibleHere: if mounting is not allowed here.
    """
    disk = place / "disk"
    disk.mkdir(exist_ok=True)
    options = f"size={kibibytes}k"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise NotPossibleHere("mounting is not allowed here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def publish_without_room(results: list[Result], place: Path, every: int = BLOCK) -> Row:
    """Publish each payload with every amount of room that is not enough."""
    clock = Stopwatch()
    try:
        with small_disk(place, 4096) as disk:
            found = [fill(result, disk, every) for result in results]
        how = f"a tmpfs with room in steps of {every} bytes"
    except NotPossibleHere as reason:
        found = [limit(result, place) for result in results]
        how = f"RLIMIT_FSIZE at every file ({reason})"
    refused = sum(count for count, _ in found)
    broken = [
        f"{r.record.stage}: {b}" for r, (_, told) in zip(results, found, strict=True) for b in told
    ]
    return Row(
        "disk full at every write of a publish, each stage's payload",
        "clear error, no false hit, goes on once there is room",
        f"{refused} refused writes: {len(broken)} unclear errors, false hits or failed repeats",
        not broken and refused >= len(results),
        clock.seconds,
        f"by {how}." + "".join(f" {told}." for told in broken[:5]),
    )


def fill(result: Result, disk: Path, every: int) -> tuple[int, list[str]]:
    """Publish a result with more and more room until it fits."""
    store, ballast = ArtifactStore.open(disk / "store"), disk / "ballast"
    record, refused, broken, spare = result.record, 0, list[str](), 0
    while True:
        free = os.statvfs(disk)
        ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - spare)))
        try:
            kept = store.publish(record.action, result.payload, record.circumstances)
        except StoreUnavailable as error:
            refused += 1
            broken += problems_after(store, result, str(error), "No space left on device")
        else:
            ballast.unlink()
            if kept.object != record.object or store.read(kept).keys() != result.payload.keys():
                broken.append("another object was kept when there was room")
            return refused, broken
        ballast.unlink()
        spare += every


def limit(result: Result, place: Path) -> tuple[int, list[str]]:
    """Publish with a limit on file sizes that each file in turn exceeds."""
    refused, broken, record = 0, list[str](), result.record
    for size in sorted({0, *(size - 1 for size in record.files.values())}):
        target = place / f"limited-{record.stage}-{size}"
        store = ArtifactStore.open(target)
        receiver, sender = processes().Pipe(duplex=False)
        arguments = (target, size, record.action, result.payload, sender)
        child = processes().Process(target=housekeeper.publish_within, args=arguments)
        child.start()
        assert receiver.recv() == "ready"
        told = receiver.recv()
        child.join()
        refused += told != "published"
        broken += problems_after(store, result, told, "File too large")
        kept = store.publish(record.action, result.payload, record.circumstances)
        broken += [] if kept.object == record.object else ["another object was kept"]
    return refused, broken


def problems_after(store: ArtifactStore, result: Result, told: str, reason: str) -> list[str]:
    """Return what is wrong after a publish without enough room."""
    problems = [] if reason in told and "\n" not in told else [f"unclear: {told!r}"]
    if store.lookup(result.record.stage, result.record.key) is not None:
        problems.append("a record was left")
    return problems + [str(f) for f in Verification(store) if f.trouble.is_damage]


def run_without_room(job: Path, place: Path) -> Row:
    """Do a job on a disk that is too small, and add room whenever it stops."""
    clock, stops, unclear, sizes = Stopwatch(), 0, list[str](), KIB_MORE
    ready()
    whole = Errand(job, place / "whole", place / "whole.log")
    to_the_end(whole)
    try:
        with small_disk(place, sizes) as disk:
            errand = replace(whole, location=disk / "store", diary=place / "full.log")
            while told := ended_with(errand):
                stops += 1
                if "No space left on device" not in told or "\n" in told.strip():
                    unclear.append(told)
                sizes += KIB_MORE
                resize = ["mount", "-o", f"remount,size={sizes}k", str(disk)]
                subprocess.run(resize, check=True)
            same = contents(errand.location) == contents(whole.location)
            first = set(record_numbers(errand.location)) == {"0001.json"}
    except NotPossibleHere as reason:
        return Row("a job on a disk that is full", "resumes", str(reason), None, 0)
    return Row(
        "a 12-edit job on a disk that is full, with more room after each stop",
        "clear error, resumes after space returns, final bytes identical",
        f"{stops} stops: {len(unclear)} unclear errors; final bytes "
        f"{'identical' if same else 'differ'}; one record per key: {'yes' if first else 'no'}",
        same and first and not unclear and stops > 0,
        clock.seconds,
        f"{KIB_MORE} KiB more each time." + "".join(f" {told!r}." for told in unclear[:3]),
    )


def ended_with(errand: Errand) -> str:
    """Do a job in a process; return the error that ended it, or nothing."""
    told = errand.diary.with_suffix(".error")
    told.unlink(missing_ok=True)
    process = begin(errand, write_error)
    process.join()
    assert process.exitcode == 0
    return told.read_text() if told.exists() else ""


def write_error(errand: Errand) -> None:
    """Do a job, and write the store's error that ended it to a file."""
    try:
        live(errand)
    except ArtifactError as error:
        errand.diary.with_suffix(".error").write_text(str(error))
