"""A job of any size with all its results, made in seconds: a real store, and nothing is edited.

    PYTHONPATH=tests python tests/benchmarks/many_edits.py FOLDER EDITS [EDITS_PER_IMAGE]

Pictures are small but real, and what is made of them can be read and drawn; what the witness says
differs from edit to edit.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.made_up import payloads, picture
from support.tiny_models import write_model

from artifacts import (
    ArtifactStore,
    Circumstances,
    Record,
    digest_json,
)
from artifacts.payload import Encoded, Payload, encode, object_id
from artifacts.places.backend import Backend
from artifacts.records import MANIFEST, Manifest, StoredFile
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job
from stages.pipeline import STAGES, WITNESS
from stages.planning.resolved import Resolved
from stages.stage import Stage

CIRCUMSTANCES = Circumstances(
    code="0.1.0",
    libraries={"torch": "2.13.0", "diffusers": "0.42.1", "numpy": "2.3.0", "zarr": "3.1.6"},
    started="2026-01-01T00:00:00+00:00",
    seconds=1.5,
)


class Hasty(Backend):
    """A store that does not wait for the disk, since a benchmark's data may be lost."""

    def sync(self, paths, folders=True):
        """Sync nothing."""


TINY = 'model = "model"\nsegmenter = "segmenter.pt"\n'
EMBEDDED = 'model = "pocket"\nsegmenter = "pocket"\n'


def write_dataset(folder: Path, edits: int, per_image: int = 1, models: str = TINY) -> Path:
    """Write a job with a tiny model, or with the embedded ones; return its path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if models == TINY:
        if not (folder / "model").exists():
            write_model(folder / "model")
        (folder / "segmenter.pt").write_bytes(b"weights")
    for number in range(-(-edits // per_image)):
        (folder / "images" / f"{number:06d}.png").write_bytes(picture(number))
    with (folder / "edits.jsonl").open("w") as file:
        for number in range(edits):
            image, turn = divmod(number, per_image)
            edit = {
                "id": f"edit-{number:06d}",
                "image": f"{image:06d}.png",
                "prompt": f"a photo of scene {image}",
                "drags": [{"handle": [20, 20 + turn % 40], "target": [40, 30]}],
                "tags": ["benchmark"],
            }
            file.write(json.dumps(edit) + "\n")
    job = folder / "job.toml"
    job.write_text(f'preset = "paper"\n{models}image_root = "images"\n')
    return job


def fill(edits: tuple[Edit, ...], location: Path) -> int:
    """Publish results of all stages of all edits; return their number."""
    store = ArtifactStore(Hasty.open(ArtifactStore.open(location).location, create=True))
    forms = {name: Form.of(payload, summary) for name, (payload, summary) in payloads().items()}
    made: dict[str, Record] = {}
    numbers = itertools.count()
    for edit in edits:
        resolved, records = Resolved.of(edit), dict[str, Record]()
        for stage in STAGES:
            key = resolved.action(stage, records).key
            if key not in made:
                record, encoded = forms[stage.name].filled(stage, resolved, records, next(numbers))
                made[key] = store.adopt(record, encoded)
            records[stage.name] = made[key]
    return len(made)


@dataclass(frozen=True)
class Form:
    """The form of a stage's results: each has other bytes in one file."""

    encoded: Encoded
    summary: Mapping[str, Any]
    varied: str

    @classmethod
    def of(cls, payload: Payload, summary: Mapping[str, Any]) -> "Form":
        """Encode a payload once."""
        encoded = encode(payload)
        pictures = [name for name in encoded.files if name.endswith(".png")]
        return cls(encoded, summary, (pictures or list(encoded.files))[0])

    def filled(
        self, stage: Stage, resolved: Resolved, upstream: Mapping[str, Record], number: int
    ) -> tuple[Record, Encoded]:
        """Return a result of a stage, and its record."""
        files = {name: data for name, data in self.encoded.files.items() if name != MANIFEST}
        if self.varied.endswith(".png"):
            mode = "L" if stage.name == "build_mask" else "RGB"
            files[self.varied] = picture(number, mode)
        elif self.varied.endswith(".json"):
            files[self.varied] += _blanks(number)
        else:
            files[self.varied] = files[self.varied][:-8] + number.to_bytes(8, "big")
        manifest = self._manifest(files, number)
        data = manifest.to_bytes()
        action = resolved.action(stage, upstream)
        record = Record(
            stage=stage.name,
            version=action.version,
            key=action.key,
            config=dict(action.config),
            inputs=dict(action.inputs),
            models=dict(action.models),
            object=object_id(data),
            logical=manifest.logical,
            files={**{name: len(data) for name, data in files.items()}, MANIFEST: len(data)},
            circumstances=CIRCUMSTANCES,
            summary=dict(self.summary) | (_seen(number) if stage is WITNESS else {}),
        )
        return record, Encoded({**files, MANIFEST: data}, manifest, record.object)

    def _manifest(self, files: Mapping[str, bytes], number: int) -> Manifest:
        changed = _stored(self.varied, files[self.varied])
        return self.encoded.manifest.model_copy(
            update={
                "files": tuple(
                    changed if file.path == self.varied else file
                    for file in self.encoded.manifest.files
                ),
                "logical": digest_json("benchmark", number),
            }
        )


def _blanks(number: int) -> bytes:
    """Return white space that is unique to a number; JSON is the same with it."""
    return f"{number:032b}".replace("0", " ").replace("1", "\n").encode()


def _seen(number: int) -> dict[str, Any]:
    """Return what the witness says of an edit: most handles arrive, and some are lost."""
    distance = number * 37 % 223 / 10
    verdict = "lost" if number % 41 == 0 else "reached" if distance < 4 else "stalled"
    point = {"verdict": verdict, "distance": distance, "handle": [20.0, 20.0]}
    return {"verdict": verdict, "points": [{**point, "end": [40.0, 30.0], "target": [40.0, 30.0]}]}


def _stored(path: str, data: bytes) -> StoredFile:
    import hashlib

    return StoredFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def main(arguments: list[str]) -> Iterator[str]:
    """Write the job and its store; yield lines about them."""
    folder = Path(arguments[0])
    job = write_dataset(folder, *map(int, arguments[1:]))
    loaded = load_job(job)
    yield f"{job}: {len(loaded.edits)} edits, {len(loaded.bad)} that cannot be done"
    yield f"{folder / 'store'}: {fill(loaded.edits, folder / 'store')} artifacts"


if __name__ == "__main__":
    for line in main(sys.argv[1:]):
        sys.stdout.write(line + "\n")
