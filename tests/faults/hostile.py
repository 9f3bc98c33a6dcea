"""Malicious and broken inputs, by the commands.

A job of every hostile line in `tests/support/hostile_cases.py` and two good edits is run, every
hostile job file is planned, every hostile pickle imported. Then each file that unfolds into far
more than it is, is read in its own process, whose memory is measured.
"""

import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from support.report import Row, Stopwatch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))
MEMORY_LIMIT = 1_200_000_000

from support import hostile_cases as cases  # noqa: E402

QUICK = 'preset = "paper"\nlora = "off"\n[invert_image]\nnum_steps = 4\ninverted_steps = 3\n' + (
    "[optimize_latent]\nsteps = 2\nmax_steps = 3\n"
)
MEASURED = """
import re, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import hostile
try:
    told = hostile.{function}(Path(sys.argv[1]))
except Exception as error:
    told = f"{{type(error).__name__}}: {{error}}"
# The process's own peak: ru_maxrss begins with that of whoever started it.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) * 1024)
print(told)
"""


def rows(_seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        yield hostile_lines(Path(folder))
    with TemporaryDirectory() as folder:
        yield hostile_job_files(Path(folder))
    with TemporaryDirectory() as folder:
        yield hostile_pickles(Path(folder))
    with TemporaryDirectory() as folder:
        yield bombs(Path(folder))


def command(place: Path, *arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=place, capture_output=True, text=True, env=environment)


def snapshot(folder: Path) -> dict[str, str]:
    """Return every path below a folder with its content; links and pipes are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {path.readlink()}"
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = "folder or pipe"
    return found


def is_clear(text: str, said: str) -> bool:
    return said in text and text.isprintable() and len(text) < 700


def hostile_lines(place: Path) -> Row:
    """Run the good edits between the bad ones."""
    clock = Stopwatch()
    job = cases.write_job(place / "data" / "job")
    job.write_text(QUICK)
    before = snapshot(place / "data")
    (place / "work").mkdir()
    done = command(place / "work", "run", job, "--store", place / "store", "--out", place / "out")
    said = {"lines": 0}
    results = (place / "out" / "results.jsonl").read_text().splitlines()
    found = {row["line"]: row for row in map(json.loads, results) if row["status"] == "bad"}
    good = [row["id"] for row in map(json.loads, results) if row["status"] == "done"]
    unclear = [
        name
        for number, (name, (_, fragment)) in enumerate(cases.LINES.items(), start=2)
        if number not in found or not is_clear(found[number]["reason"], fragment)
    ]
    said["lines"] = len(cases.LINES) - len(unclear)
    page = (place / "out" / "index.html").read_text("utf-8")
    problems = [
        *(f"unclear: {name}" for name in unclear),
        *(["a traceback"] if "Traceback" in done.stderr + done.stdout else []),
        *([f"ended with {done.returncode}"] if done.returncode != 1 else []),
        *(["markup of a user in the page"] if "<script>" in page else []),
        *(["inputs were changed"] if snapshot(place / "data") != before else []),
        *(["something was written elsewhere"] if snapshot(place / "work") else []),
    ]
    return Row(
        "malicious and broken edits and images, run",
        "at least 60 clear errors, the others done",
        f"{said['lines']} of {len(cases.LINES)} clear lines, {len(good)} of 2 good edits done, "
        f"{len(problems)} problems",
        not problems and len(good) == 2 and len(cases.LINES) >= 60,
        clock.seconds,
        "; ".join(problems) or "no traceback, inputs as before, nothing written elsewhere",
    )


def hostile_job_files(place: Path) -> Row:
    clock, problems = Stopwatch(), list[str]()
    good = cases.write_job(place / "data" / "job")
    for number, (name, (toml, said)) in enumerate(cases.JOBS.items()):
        path = good.with_name(f"{number}.toml")
        path.write_bytes(toml)
        before = snapshot(place / "data")
        done = command(place, "plan", path, "--store", place / "store")
        told = done.stderr.strip()
        if done.returncode != 2 or not is_clear(told, said):
            problems.append(f"{name}: {done.returncode} {told[-200:]}")
        if snapshot(place / "data") != before or (place / "store").exists():
            problems.append(f"{name}: something was written")
    return Row(
        "hostile job files, planned",
        "one clear line each",
        f"{len(cases.JOBS)} job files, {len(problems)} problems",
        not problems,
        clock.seconds,
        "; ".join(problems),
    )


def hostile_pickles(place: Path) -> Row:
    clock = Stopwatch()
    written = {"good": cases.meta(cases.POINTS)}
    written |= {f"bad-{n:03d}": data for n, (data, _) in enumerate(cases.PICKLES.values())}
    for name, data in written.items():
        folder = place / "data" / "art" / name
        folder.mkdir(parents=True)
        (folder / "meta_data.pkl").write_bytes(data)
        (folder / "original_image.png").write_bytes(cases.png(64, 48, bytes(65 * 48)))
    before = snapshot(place / "data")
    (place / "work").mkdir()
    done = command(place / "work", "import", "dragbench", place / "data", "--out", place / "out")
    lines = done.stdout.splitlines()
    problems = [
        name
        for number, (name, (_, said)) in enumerate(cases.PICKLES.items())
        if not any(f"bad-{number:03d}" in line and is_clear(line.strip(), said) for line in lines)
    ]
    problems += [f"ended with {done.returncode}"] * bool(done.returncode)
    problems += ["something was written"] * (snapshot(place / "data") != before)
    problems += ["something was written elsewhere"] * bool(snapshot(place / "work"))
    return Row(
        "hostile pickles, imported",
        "one clear line each",
        f"{len(cases.PICKLES)} pickles, {len(problems)} problems",
        not problems,
        clock.seconds,
        "; ".join(problems),
    )


def big_png(width: int, height: int, color: int, samples: int) -> bytes:
    """Return a PNG of black pixels in as few bytes as zlib can."""
    packer, row = zlib.compressobj(9), bytes(1 + width * samples)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = (cases.chunk(b"IHDR", header), cases.chunk(b"IDAT", packed), cases.chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif_of_frames(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return (
        head
        + (b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00") * count
        + b";"
    )


def tiff_of_frames(count: int) -> bytes:
    """Return a TIFF of many directories that share their pixels."""
    entries = [(256, 3, 64), (257, 3, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 3, 64), (279, 4, 4096)]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    packed, first = struct.pack("<H", len(entries)) + packed, 8 + 4096
    size = len(packed) + 4
    parts = (packed + struct.pack("<I", first + size * n) for n in range(1, count))
    return b"II*\0" + struct.pack("<I", first) + bytes(4096) + b"".join(parts) + packed + bytes(4)


def inspect(path: Path) -> str:
    """Read an image as a plan does."""
    from artifacts import StatCache
    from stages.jobs.image_files import inspect_image

    found = inspect_image(path, StatCache(path.with_suffix(".sqlite")))
    return f"{found.width}x{found.height}"


def read_object(path: Path) -> str:
    """Read the one result of a store."""
    from artifacts import ArtifactStore

    store = ArtifactStore.open(path, create=False)
    (record,) = store.records_of("build_mask")
    return str(
        {name: getattr(part, "shape", len(part)) for name, part in store.read(record).items()}
    )


def store_of(place: Path, files: dict[str, bytes], part: dict) -> Path:
    """Write a store whose one object has these files, under a true manifest."""
    from artifacts import Action, ArtifactStore, Circumstances
    from artifacts.payload import Encoded, object_id
    from artifacts.records import MANIFEST, Manifest, PartInfo, Record, StoredFile

    stored = [
        StoredFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in sorted(files.items())
    ]
    logical = hashlib.sha256(b"").hexdigest()
    manifest = Manifest(files=tuple(stored), parts={"a": PartInfo(**part)}, logical=logical)
    data = manifest.to_bytes()
    every = {**files, MANIFEST: data}
    action = Action("build_mask", 1, {}, {}, {})
    record = Record(
        stage=action.stage, version=1, key=action.key, config={}, inputs={}, models={},
        object=object_id(data), logical=logical,
        files={path: len(each) for path, each in every.items()},
        circumstances=Circumstances(code="1", started="2026-01-01T00:00:00Z", seconds=1.0),
    )  # fmt: skip
    ArtifactStore.open(place).adopt(record, Encoded(every, manifest, record.object))
    return place


def chunk_bomb(place: Path, size: int) -> Path:
    """Return a store with an array of four bytes whose chunk unfolds to `size` bytes."""
    import numpy as np
    from numcodecs.zstd import Zstd

    from artifacts.payload import encode

    files = dict(encode({"a": np.zeros(4, "uint8")}).files)
    del files["manifest.json"]
    bomb = bytes(Zstd(19).encode(bytes(size)))
    bomb += struct.pack("<I", _crc32c(bomb))
    index = struct.pack("<QQ", 0, len(bomb))
    files["a.zarr/c.0"] = bomb + index + struct.pack("<I", _crc32c(index))
    return store_of(place, files, {"kind": "array", "dtype": "uint8", "shape": [4]})


def _crc32c(data: bytes) -> int:
    import google_crc32c  # zarr has it

    return google_crc32c.value(data)


def entries_bomb(place: Path, count: int) -> Path:
    header = {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(count)}
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text
    return store_of(place, {"a.safetensors": data}, {"kind": "tensors"})


def lying_header(place: Path) -> Path:
    data = struct.pack("<Q", 1 << 60) + b"{}"
    return store_of(place, {"a.safetensors": data}, {"kind": "tensors"})


def shape_bomb(place: Path) -> Path:
    import numpy as np

    from artifacts.payload import encode

    files = dict(encode({"a": np.zeros((4, 4), "uint8")}).files)
    del files["manifest.json"]
    described = json.loads(files["a.zarr/zarr.json"]) | {"shape": [1 << 20, 1 << 20]}
    described["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 20, 1 << 20]
    files["a.zarr/zarr.json"] = json.dumps(described).encode()
    part = {"kind": "array", "dtype": "uint8", "shape": [1 << 20, 1 << 20]}
    return store_of(place, files, part)


def bombs(place: Path) -> Row:
    """Read files that unfold into far more than they are, in processes whose memory is measured."""
    clock = Stopwatch()
    images = {
        "900 million pixels": (big_png(30_000, 30_000, 0, 1), "far too many pixels"),
        "178 million pixels, just below Pillow's limit": (
            big_png(13_370, 13_370, 0, 1),
            "178.8 million pixels",
        ),
        "63.9 million pixels, just below ours": (big_png(8000, 7990, 2, 3), "8000x7990"),
        "the same with transparency": (big_png(8000, 7990, 6, 4), "8000x7990"),
        "a GIF of 200,000 frames": (gif_of_frames(200_000), "64x64"),
        "a TIFF of 100,000 frames": (tiff_of_frames(100_000), "64x64"),
    }
    made = {}
    for number, (name, (data, said)) in enumerate(images.items()):
        path = place / f"{number}.png"
        path.write_bytes(data)
        made[name] = ("inspect", path, said)
    stores = {
        "a chunk that unfolds to 2 GB": (
            chunk_bomb(place / "s0", 2_000_000_000),
            "does not unfold",
        ),
        "100,000 tensors": (entries_bomb(place / "s1", 100_000), "{'a': 100000}"),
        "a header of 2^60 bytes": (lying_header(place / "s2"), "cannot be decoded"),
        "an array of 2^40 bytes": (shape_bomb(place / "s3"), "larger than any"),
    }
    made |= {name: ("read_object", path, said) for name, (path, said) in stores.items()}
    problems, most, size = list[str](), 0, 0
    for name, (function, path, said) in made.items():
        memory, told = measured(function, path)
        most = max(most, memory)
        size += path.stat().st_size
        if memory >= MEMORY_LIMIT or said not in told:
            problems.append(f"{name}: {memory >> 20} MiB, {told[-150:]}")
    return Row(
        "decompression bombs",
        "refused or read within 1.2 GB",
        f"{len(made)} bombs, at most {most / 1e6:.0f} MB, {len(problems)} problems",
        not problems,
        clock.seconds,
        "; ".join(problems),
    )


def measured(function: str, path: Path) -> tuple[int, str]:
    """Call a function of this module in its own process; return its memory and its answer."""
    paths = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]
    code = MEASURED.format(paths=paths, function=function)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    memory, _, told = done.stdout.partition("\n")
    return int(memory or MEMORY_LIMIT), told or done.stderr
