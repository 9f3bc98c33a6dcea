"""Fuzzing of the three parsers that read files of strangers.

The job parser (edits and job file), the parsers of the store (records, manifests, payloads under a
manifest that vouches for them), and the reader of pickles. Coverage-guided, by atheris, which is no
part of the project: install it beside a copy of the project (`pip install atheris`), and

    python tests/faults/fuzz.py job 200        # one target for 200 seconds
    make faults ONLY=fuzz                      # all of them, ten minutes together

A target holds if it raises only errors that it documents, and answers within a minute. atheris
keeps an input that breaks it in the working folder, or in the report; add it to the suite as a
test.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.report import Row

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "faults")]

SECONDS = 600
LONGEST_INPUT = 4096


def job_target(place: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Read a job file and its edits, with a NUL between them."""
    from support import hostile_cases as cases

    from adaptivedrag.errors import InvalidEdit
    from stages.jobs.reader import load_job

    folder = place / "job"
    folder.mkdir()
    (folder / "cat.png").write_bytes(cases.png(64, 48, bytes(65 * 48)))

    def read(data: bytes) -> None:
        toml, _, lines = data.partition(b"\0")
        (folder / "job.toml").write_bytes(toml)
        (folder / "edits.jsonl").write_bytes(lines)
        with suppress(InvalidEdit):
            for bad in load_job(folder / "job.toml").bad:
                assert str(bad).isprintable(), str(bad)

    good = json.dumps(cases.line("cat", prompt="a cat", tags=["x"], settings={})).encode()
    written = [line for line, _ in cases.LINES.values()]
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in written]
    seeds = [b"\0" + good + b"\n" + line for line in lines if len(line) < LONGEST_INPUT]
    return read, [*seeds, *(toml + b"\0" + good for toml, _ in cases.JOBS.values())]


def store_target(_place: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Read sealed JSON as record, manifest and attempt, and a manifest's payload; sealed again.

    The first byte says which. Without a seal no input would pass the checksum.
    """
    import hashlib

    import numpy as np

    from artifacts import (
        Action,
        ArtifactCorrupt,
        Circumstances,
        Document,
        Picture,
        TensorFile,
        digest_bytes,
    )
    from artifacts.payload import decode, encode
    from artifacts.records import Manifest, Record, unseal, unseal_object

    payload = {
        "latents": np.zeros((2, 3, 4), "float16"),
        "flat": np.arange(12, dtype="int32").reshape(3, 4),
        "number": np.array(1.5),
        "lora": TensorFile({"up": np.zeros((4, 2))}),
        "preview": Picture(np.zeros((5, 7, 3), "uint8")),
        "verdict": Document({"moved": [1, 2.5, None]}),
    }
    encoded = encode(payload)
    paths = sorted(encoded.files)
    action = Action("invert_image", 1, {"steps": 5}, {"image": digest_bytes("test", b"")}, {})
    record = Record(
        stage=action.stage,
        version=1,
        key=action.key,
        config=dict(action.config),
        inputs=dict(action.inputs),
        models={},
        object=encoded.object,
        logical=encoded.manifest.logical,
        files={path: len(data) for path, data in encoded.files.items()},
        circumstances=Circumstances(code="1", started="2026-01-01T00:00:00Z", seconds=1.0),
        summary={"steps": 1},
    )

    def sealed(body: bytes) -> bytes:
        digest = hashlib.sha256(body).hexdigest().encode()
        return b'{"sha256":"%s","body":%s}' % (digest, body)

    def read(data: bytes) -> None:
        which, body = data[0] if data else 0, data[1:]
        with suppress(ValueError, ArtifactCorrupt):
            if which == 0:
                found = Record.from_bytes(sealed(body))
                with suppress(ValueError, TypeError):
                    assert found.action.key
            elif which == 1:
                decode(Manifest.from_bytes(sealed(body)), encoded.files)
            elif which == 2:
                assert isinstance(unseal_object(sealed(body)), dict)
            elif which == 3:
                unseal(body)
            else:
                path = paths[which % len(paths)]
                decode(encoded.manifest, {**encoded.files, path: body})

    files = [bytes([100 + n]) + encoded.files[paths[(100 + n) % len(paths)]] for n in range(12)]
    bodies = [unseal(record.to_bytes()), unseal(encoded.manifest.to_bytes()), b'{"reason":"x"}']
    return read, [*(bytes([n]) + body for n, body in enumerate(bodies)), *files]


def pickle_target(place: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Import a sample of DragBench."""
    import numpy as np
    from support import hostile_cases as cases

    from adaptivedrag.errors import InvalidEdit
    from stages.jobs.importers import import_dragbench

    folder = place / "bench" / "art" / "one"
    folder.mkdir(parents=True)
    (folder / "original_image.png").write_bytes(cases.png(64, 48, bytes(65 * 48)))

    def read(data: bytes) -> None:
        (folder / "meta_data.pkl").write_bytes(data)
        with suppress(InvalidEdit):
            import_dragbench(place / "bench")

    good = [cases.meta(np.ones((2, 2)), np.eye(4)), cases.meta(cases.POINTS, np.eye(3, dtype=bool))]
    return read, [*good, *(data for data, _ in cases.PICKLES.values() if len(data) < LONGEST_INPUT)]


TARGETS = {"job": job_target, "store": store_target, "pickle": pickle_target}


def fuzz(name: str, seconds: int, seed: int = 0) -> None:
    """Fuzz a target in this process, which libFuzzer ends."""
    import atheris

    with (
        TemporaryDirectory() as folder,
        atheris.instrument_imports(include=["stages", "artifacts", "adaptivedrag", "tomllib"]),
    ):
        read, examples = TARGETS[name](Path(folder))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, example in enumerate(examples):
            (corpus / str(number)).write_bytes(example)
        options = (f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=60")
        limits = ("-rss_limit_mb=2000", "-print_final_stats=1", f"-seed={seed + 1}")
        atheris.Setup([sys.argv[0], *options, *limits, str(corpus)], read)
        atheris.Fuzz()


def rows(seed: int) -> Iterator["Row"]:
    """Fuzz all targets, each in a process of its own."""
    from support.report import Row, Stopwatch

    asked = "no uncaught exception"
    for name in TARGETS:
        clock, test = Stopwatch(), f"fuzz of the {name} parser"
        if importlib.util.find_spec("atheris") is None:
            yield Row(test, asked, "atheris is not installed", None, clock.seconds)
            continue
        with TemporaryDirectory() as folder:
            line = [sys.executable, __file__, name, str(SECONDS // len(TARGETS)), str(seed)]
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
            crashes = [path.read_bytes().hex() for path in Path(folder).glob("*-*")]
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        told = f"{runs[1] if runs else 'unknown'} inputs, {len(crashes)} that broke it"
        held = done.returncode == 0 and not crashes and runs is not None
        notes = "" if held else f"input {' '.join(crashes)}: {done.stderr[-300:]}"
        yield Row(test, asked, told, held, clock.seconds, " ".join(notes.split()))


if __name__ == "__main__":
    fuzz(sys.argv[1], *map(int, sys.argv[2:]))
