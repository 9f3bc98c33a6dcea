"""Clocks that are set back, stores that are only read, stores of other versions.

A clock that jumps by up to two days either way while writers publish and a collector deletes
by it; a store on a read-only mount, used by the commands; stores, records and manifests of
an older and a newer schema.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from click.testing import Result
from real_results import Results, make_results
from support.report import NotPossibleHere, Row, Stopwatch, on_seed
from typer.testing import CliRunner

from artifacts import (
    Action,
    ArtifactCorrupt,
    ArtifactStore,
    Circumstances,
    Document,
    StatCache,
    StoreUnavailable,
    digest_bytes,
    digest_file,
)
from artifacts.keys import readable_json
from artifacts.places.backend import Backend
from artifacts.records import seal
from artifacts.upkeep.collect import Policy, collect
from artifacts.upkeep.verify import Verification
from cli import app

SCHEDULES, STEPS, CACHE_TRIALS = 100, 40, 200
DAY = timedelta(days=1)
POLICIES = [Policy(), Policy(keep=()), Policy(keep=(), older_than=DAY), Policy(at_most=2000)]


class JumpingClock(Backend):
    """A folder whose files bear the times of a clock that the test sets."""

    now: float

    def put(self, path: str, data: bytes) -> None:
        super().put(path, data)
        self._stamp(path)

    def _put_if_absent(self, path: str, data: bytes) -> bool:
        written = super()._put_if_absent(path, data)
        if written:
            self._stamp(path)
        return written

    def renew(self, path: str, data: bytes) -> None:
        super().renew(path, data)
        self._stamp(path)

    def sync(self, paths: Iterable[str], folders: bool = True) -> None:
        """Say nothing: no power is lost here."""

    def _stamp(self, path: str) -> None:
        self.now += 0.001
        os.utime(self.root / path, (self.now, self.now))


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("surroundings", seed):
        place = Path(folder)
        yield kept_house_by_a_jumping_clock(place / "clocks", SCHEDULES, seed)
        yield cached_by_a_jumping_clock(place / "cached", CACHE_TRIALS, seed)
        results = make_results(place, images=1, each=1)
        yield only_read(results, place)
        yield of_other_versions(results, place)


def kept_house_by_a_jumping_clock(place: Path, schedules: int, seed: int) -> Row:
    """Publish, collect and jump in random order; read whatever is called a hit."""
    clock, wrong, unhealed, lost, jumps = Stopwatch(), 0, 0, 0, 0
    for schedule in range(schedules):
        draw = random.Random(f"{seed} {schedule}")
        backend = JumpingClock.open(place / str(schedule), create=True)
        backend.now = time.time()
        store = ArtifactStore(backend)
        for _ in range(STEPS):
            match draw.randrange(5):
                case 0 | 1:
                    publish(store, draw.randrange(6))
                case 2 | 3:
                    collect(store, draw.choice(POLICIES), timedelta(hours=1))
                case 4:
                    backend.now += draw.uniform(-2, 2) * DAY.total_seconds()
                    jumps += 1
            wrong += sum(not is_right(store, number) for number in range(6))
        statuses = [status(store, number) for number in range(6)]
        lost += statuses.count("known")
        for number in range(6):
            publish(store, number)
        unhealed += sum(status(store, number) != "hit" for number in range(6))
        unhealed += sum(not is_right(store, number) for number in range(6))
        shutil.rmtree(place / str(schedule))
    return Row(
        "clocks set back and forth under writers and collectors",
        "clear behavior, nothing wrong served",
        f"{schedules} schedules with {jumps} jumps of up to two days: {wrong} wrong results "
        f"served, {unhealed} not made again",
        not wrong and not unhealed,
        clock.seconds,
        f"{lost} results had been collected at the ends. A clock set back makes a collector wait "
        "longer, or take for old what was just used: that costs making it again.",
    )


def action(number: int) -> Action:
    return Action("clocks", 1, {}, {"image": digest_bytes("test", str(number).encode())}, {})


def payload(number: int) -> dict:
    # Two keys share each object.
    return {"numbers": Document({"of": number // 2, "all": list(range(number // 2, 200))})}


def publish(store: ArtifactStore, number: int) -> None:
    told = Circumstances(code="0", started="2026-01-01T00:00:00Z", seconds=0.0)
    store.publish(action(number), payload(number), told)


def status(store: ArtifactStore, number: int) -> str:
    found = store.lookup("clocks", action(number).key)
    return found.status if found else "miss"


def is_right(store: ArtifactStore, number: int) -> bool:
    found = store.lookup("clocks", action(number).key)
    if found is None or found.status == "known":
        return True
    try:
        return store.read(found.record)["numbers"] == payload(number)["numbers"].value
    except ArtifactCorrupt:
        return False


def cached_by_a_jumping_clock(place: Path, trials: int, seed: int) -> Row:
    """Rewrite files under the cache of digests, with the clock set back before or after."""
    clock, draw, wrong = Stopwatch(), random.Random(seed), 0
    place.mkdir()
    cache = StatCache(place / "cache.sqlite")
    true_time = time.time_ns
    for number in range(trials):
        file, jump = place / f"{number}.bin", draw.randrange(-(10**13), 10**13)
        file.write_bytes(draw.randbytes(100))
        with patch("time.time_ns", lambda jump=jump: true_time() + jump):
            wrong += cache.value(file, "file", digest_file) != digest_file(file)
        time.sleep(0.01)  # more than a tick of the file system's clock
        file.write_bytes(draw.randbytes(100))
        then = time.time() + draw.uniform(-1e4, 1e4)
        os.utime(file, (then, then))
        wrong += cache.value(file, "file", digest_file) != digest_file(file)
    return Row(
        "clocks set back and forth under the index of file digests",
        "clear behavior, nothing wrong served",
        f"{trials} files rewritten at the same size under other clocks: {wrong} wrong digests",
        wrong == 0,
        clock.seconds,
        "times are compared for equality, never for order.",
    )


@contextmanager
def read_only(folder: Path, place: Path) -> Iterator[Path]:
    """Mount a folder so that it can only be read.

    Raises:
        NotPossibleHere: if mounting is not allowed here.
    """
    place.mkdir()
    if subprocess.run(["mount", "--bind", folder, place], capture_output=True).returncode:
        raise NotPossibleHere("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def command(*arguments: object) -> Result:
    """Call a command of `adaptivedrag`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def only_read(results: Results, place: Path) -> Row:
    """Call commands on a store that cannot be written."""
    clock, problems = Stopwatch(), list[str]()
    try:
        with read_only(results.root, place / "read-only") as store:
            reading = [
                ("plan", results.job),
                ("status", results.job),
                ("store", "du", results.job),
                ("store", "verify"),
                ("store", "export", results.job, place / "exported"),
            ]
            for arguments in reading:
                done = command(*arguments, "--store", store)
                if done.exit_code:
                    told = f"{done.stdout[-300:]} {done.stderr[-300:]}"
                    problems.append(f"{arguments} ended with {done.exit_code}: {told}")
            writing = [("run", results.job, "--out", place / "out"), ("store", "gc")]
            for arguments in writing:
                done = command(*arguments, "--store", store)
                told = done.stderr.strip()
                if done.exit_code != 2 or "Read-only file system" not in told or "\n" in told:
                    problems.append(f"{arguments[0]} ended with {done.exit_code}: {told}")
            opened = ArtifactStore.open(store, create=False)
            for result in results.all:
                assert opened.read(result.record).keys() == result.payload.keys()
    except NotPossibleHere as reason:
        asked = "clear behavior, documented"
        return Row("a store on a read-only mount", asked, str(reason), None, clock.seconds)
    return Row(
        "a store on a read-only mount",
        "clear behavior, documented",
        f"{len(reading)} reading commands work, {len(writing)} writing ones end with 2 and one "
        f"line: {len(problems)} exceptions",
        not problems,
        clock.seconds,
        "; ".join(problems),
    )


def of_other_versions(results: Results, place: Path) -> Row:
    """Meet stores, records and manifests of other schemas."""
    clock, problems, cases = Stopwatch(), list[str](), 0
    for version in (0, 2, "1", None):
        cases += 1
        problems += store_of_version(place / f"version-{version}", version)
    result = results.of_each_stage[0]
    record = result.record
    folder = results.root / "actions" / record.stage / record.key[:2] / record.key
    for version in (0, 2):
        cases += 1
        other = record.model_dump(mode="json") | {"schema_version": version, "number": 2}
        (folder / "0002.json").write_bytes(seal(other))
        found = results.store.lookup(record.stage, record.key)
        if found is None or found.record != record:
            problems.append(f"a record of schema {version} counted")
        told = [str(f) for f in Verification(results.store)]
        if not any("schema_version" in line and "0002.json" in line for line in told):
            problems.append(f"verify did not name the schema of a record: {told}")
        (folder / "0002.json").unlink()
    return Row(
        "a store, records and manifests of an older and a newer schema",
        "clear behavior, documented",
        f"{cases} cases: {len(problems)} misread or unclear",
        not problems,
        clock.seconds,
        "; ".join(problems),
    )


def store_of_version(place: Path, version: object) -> list[str]:
    """Open a store of another version; nothing in it may change."""
    place.mkdir()
    (place / "format.json").write_bytes(
        readable_json({"store": "adaptivedrag", "version": version})
    )
    before = (place / "format.json").read_bytes()
    problems = []
    for create in (True, False):
        try:
            ArtifactStore.open(place, create=create)
        except StoreUnavailable as error:
            if f"version {version!r}" not in str(error) or "\n" in str(error):
                problems.append(f"unclear: {error}")
        else:
            problems.append(f"a store of version {version!r} was opened")
    if [path.name for path in place.iterdir()] != ["format.json"] or before != (
        place / "format.json"
    ).read_bytes():
        problems.append(f"a store of version {version!r} was changed")
    return problems
