"""Damage to what is stored.

Bits flipped, files cut, extended, filled with zeros, deleted, and swapped between artifacts, in a
store that the real stages filled. After each fault: does `store verify` name the place, does the
next use refuse it, does making the result again repair it? Every fifth result is made again by its
stage, the others by publishing the same payload.
"""

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from real_results import Result, Results, make_results
from support.report import Row, Stopwatch, on_seed
from support.store_faults import delete, extend, flip, truncate, zero

from artifacts import ArtifactCorrupt, ArtifactStore, Key, Lookup, StatCache, digest_file
from artifacts.upkeep.verify import Finding, Verification

FAULTS, CACHE_FAULTS, INDEX_FAULTS, PAIRS = 900, 100, 100, 100
BY_STAGE = 5
WAYS = [flip, truncate, extend, zero, delete, "swap"]
KINDS = ["record", "manifest", "zarr", "safetensors", "png"]


@dataclass
class Count:
    """Counts over all faults."""

    faults: int = 0
    verified: int = 0
    used: int = 0
    healed: int = 0
    by_stage: int = 0
    served: int = 0
    kinds: Counter = field(default_factory=Counter)
    unseen: list[str] = field(default_factory=list)


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("corruption", seed):
        place = Path(folder)
        results = make_results(place, images=2, each=2)
        yield damage_results(results, FAULTS, seed)
        yield damage_digest_cache(place / "cache", CACHE_FAULTS, seed)
        yield damage_record_index(results, place / "index", INDEX_FAULTS, seed)
        yield delete_records(results, PAIRS, seed)


def damage_results(results: Results, faults: int, seed: int) -> Row:
    """Put faults into records and objects, one at a time."""
    clock, draw, count = Stopwatch(), random.Random(seed), Count()
    assert not damage_in(results)
    for number in range(faults):
        try_fault(results, KINDS[number % len(KINDS)], draw, count)
    clean = not damage_in(results)
    kinds = ", ".join(f"{count.kinds[kind]} {kind}" for kind in KINDS)
    every = (count.faults, count.verified, count.used, count.healed)
    return Row(
        "records, manifests, zarr, safetensors, PNG: flipped bits, truncation, deletion, swaps",
        "100 % found on use and by `verify`, healed by a rerun, nothing wrong served",
        f"{count.faults} faults ({kinds}): {count.verified} found by `verify`, {count.used} on "
        f"use, {count.healed} healed, {count.served} wrong results served",
        set(every) == {faults} and not count.served and clean,
        clock.seconds,
        f"their stages made {count.by_stage} of them again."
        + "".join(map(" {}".format, count.unseen[:5])),
    )


def try_fault(results: Results, kind: str, draw: random.Random, count: Count) -> None:
    """Put one fault in, check what finds it, and repair it."""
    hurt, path = draw_file(results, kind, draw)
    pair = [(hurt, path)]
    # A deleted record leaves only an object without one; another row tests that.
    traceless = kind == "record" and is_shared(results, hurt)
    way = draw.choice([way for way in WAYS if not (traceless and way is delete)])
    if way == "swap":
        pair.append(draw_file(results, kind, draw, unlike=path.read_bytes()))
    whole = {path: path.read_bytes() for _, path in pair}
    told = f"{getattr(way, '__name__', way)} of {path.relative_to(results.root)}"
    if way == "swap":
        for path, content in zip(whole, reversed(whole.values()), strict=True):
            path.write_bytes(content)
    else:
        way(path, draw)
    count.faults += 1
    count.kinds[kind] += 1
    if is_named(damaged_places(results, list(Verification(results.store))), whole, results):
        count.verified += 1
    else:
        count.unseen.append(f"`verify` did not see the {told}.")
    if all(is_refused(results, result, kind, count) for result, _ in pair):
        count.used += 1
    else:
        count.unseen.append(f"Use did not see the {told}.")
    healed = [heal(results, result, kind, count) for result, _ in pair]
    if all(healed):
        count.healed += 1
    else:
        count.unseen.append(f"Not healed: the {told}.")
    if kind == "record":
        # Nothing is written over a record, so this test takes back the next number.
        for path, content in whole.items():
            path.write_bytes(content)
            path.with_name("0002.json").unlink(missing_ok=True)


def draw_file(
    results: Results, kind: str, draw: random.Random, unlike: bytes | None = None
) -> tuple[Result, Path]:
    """Draw a file of a kind whose bytes differ from these."""
    holders = [(r, path) for r in results.all for path in files_of(results, r) if is_of(kind, path)]
    return draw.choice([holder for holder in holders if holder[1].read_bytes() != unlike])


def files_of(results: Results, result: Result) -> list[Path]:
    record = result.record
    folder = object_folder(results, result)
    return [record_path(results, result), *(folder / path for path in sorted(record.files))]


def is_of(kind: str, path: Path) -> bool:
    match kind:
        case "record":
            return "actions" in path.parts
        case "manifest":
            return path.name == "manifest.json"
        case "zarr":
            return path.parent.suffix == ".zarr"
    return path.suffix == f".{kind}"


def record_path(results: Results, result: Result) -> Path:
    record = result.record
    return results.root / "actions" / record.stage / record.key[:2] / record.key / "0001.json"


def object_folder(results: Results, result: Result) -> Path:
    return results.root / "objects" / result.record.object[:2] / result.record.object


def damage_in(results: Results) -> list[Finding]:
    return [f for f in Verification(results.store) if f.trouble.is_damage]


def damaged_places(results: Results, findings: list[Finding]) -> set[Path]:
    return {results.root / finding.path for finding in findings}


def is_named(places: set[Path], hurt: dict[Path, bytes], results: Results) -> bool:
    """Return whether verification named every file; a deleted record shows by what is left."""
    return all(
        path in places or (not path.exists() and "actions" in path.parts and places)
        for path in hurt
    )


def is_refused(results: Results, result: Result, kind: str, count: Count) -> bool:
    """Use a result: a damaged record must be skipped, damaged bytes must be refused."""
    if kind == "record":
        found = looked_up(results, result)
        count.served += any(one and one.record != result.record for one in found)
        return found == [None, None]
    try:
        results.store.read(result.record)
    except ArtifactCorrupt:
        return [one.status for one in looked_up(results, result)] == ["known", "known"]
    count.served += 1
    return False


def looked_up(results: Results, result: Result) -> list[Lookup | None]:
    """Look a key up alone, and as one of many through the index of records."""
    stage, key, store = result.record.stage, result.record.key, results.store
    return [store.lookup(stage, key), store.lookup_many(stage, [key]).get(key)]


def heal(results: Results, result: Result, kind: str, count: Count) -> bool:
    """Make a result again; return whether it is there with the same bytes."""
    record = result.record
    if count.faults % BY_STAGE == 0:
        results.bench.perform(record.stage, result.edit)
        count.by_stage += 1
    else:
        results.store.publish(record.action, result.payload, record.circumstances, record.summary)
    found = results.store.lookup(record.stage, record.key)
    if found is None or found.status != "hit" or found.record.object != record.object:
        return False
    results.store.read(found.record)
    return True


def damage_digest_cache(place: Path, faults: int, seed: int) -> Row:
    """Damage the cache of file digests, from which keys are made."""
    clock, draw, wrong, counted = Stopwatch(), random.Random(seed), 0, Counter()
    place.mkdir()
    photos = [place / f"{number}.bin" for number in range(20)]
    for number, photo in enumerate(photos):
        photo.write_bytes(bytes([number]) * 5000)
    time.sleep(2.1)  # younger files are not remembered
    truth = [digest_file(photo) for photo in photos]
    path, other = place / "files.sqlite", place / "other.sqlite"
    for photo, false in zip(photos, reversed(truth), strict=True):
        StatCache(path).value(photo, "file", digest_file)
        StatCache(other).value(photo.with_name(photo.name), "mask", lambda _, f=false: f)
    whole = path.read_bytes()
    for number in range(faults):
        way = WAYS[number % len(WAYS)]
        counted[getattr(way, "__name__", way)] += 1
        path.write_bytes(whole)
        if way == "swap":
            shutil.copy(other, path)
        else:
            way(path, draw)
        cache = StatCache(path)
        wrong += [cache.value(photo, "file", digest_file) for photo in photos] != truth
    return Row(
        "the index of file digests (SQLite): the same faults",
        "nothing wrong served",
        f"{faults} faults: {wrong} wrong digests",
        wrong == 0,
        clock.seconds,
        "each row of the cache has a checksum; a broken cache is started again.",
    )


def damage_record_index(results: Results, place: Path, faults: int, seed: int) -> Row:
    """Damage the index of records, which replaces reading them."""
    clock, draw, wrong, counted = Stopwatch(), random.Random(seed), 0, Counter()
    place.mkdir()
    elsewhere = Results(results.job, place / "store", results.bench, results.all)
    shutil.copytree(results.root, elsewhere.root, copy_function=shutil.copyfile)
    with patch.dict(os.environ, XDG_CACHE_HOME=str(place)):
        time.sleep(2.1)  # younger records are not remembered
        truth, _ = plans_of(elsewhere), plans_of(results)
        index, other = sorted(
            (place / "adaptivedrag" / "stores").glob("*.sqlite"),
            key=lambda path: path.stat().st_mtime_ns,
        )
        whole = index.read_bytes()
        for number in range(faults):
            way = WAYS[number % len(WAYS)]
            counted[getattr(way, "__name__", way)] += 1
            index.write_bytes(whole)
            if way == "swap":
                shutil.copy(other, index)
            else:
                way(index, draw)
            wrong += plans_of(elsewhere) != truth
    return Row(
        "the index of records (SQLite): the same faults",
        "nothing wrong served",
        f"{faults} faults ({', '.join(f'{counted[name]} {name}' for name in counted)}): {wrong} "
        "wrong answers",
        wrong == 0 and len(truth) == len(results.all),
        clock.seconds,
        "a row counts only while its record's file is the one that was read.",
    )


def plans_of(results: Results) -> dict[Key, Lookup]:
    """Look up everything as `plan` does, in a freshly opened store."""
    store, found = ArtifactStore.open(results.root), {}
    for stage in {result.record.stage for result in results.all}:
        keys = [result.record.key for result in results.all if result.record.stage == stage]
        found |= store.lookup_many(stage, keys)
    return found


def is_shared(results: Results, result: Result) -> bool:
    """Return whether another key's record names the same object."""
    return sum(other.record.object == result.record.object for other in results.all) > 1


def delete_records(results: Results, losses: int, seed: int) -> Row:
    """Delete the newest record of a key and, if no other names it, its object."""
    clock, draw, told, made_again = Stopwatch(), random.Random(seed), 0, 0
    for _ in range(losses):
        result = draw.choice(results.all)
        record, held = result.record, {p: p.read_bytes() for p in files_of(results, result)}
        record_path(results, result).unlink()
        if not is_shared(results, result):
            shutil.rmtree(object_folder(results, result))
        told += bool(list(Verification(results.store)))
        assert results.store.lookup(record.stage, record.key) is None
        results.store.publish(record.action, result.payload, record.circumstances, record.summary)
        made_again += {path: path.read_bytes() for path in held} == held
    return Row(
        "the newest record of a key deleted, and its object unless another record names it",
        "a miss, made again",
        f"{losses} losses: {made_again} made again with the same bytes; {told} found by `verify`",
        made_again == losses,
        clock.seconds,
        "`verify` finds this only where a later result names the lost one as its input; otherwise "
        "nothing shows that the record was ever there.",
    )
