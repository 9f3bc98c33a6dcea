"""The demonstration: rendered scenes with drags whose true results are known, as a job."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from adaptivedrag.presets import DEFAULT_PRESET
from adaptivedrag.scenes import Scene, SceneDrag, demo_edits, render
from stages.images import Pixels

SIZE = 256


@dataclass(frozen=True)
class DemoJob:
    """The job file, and the picture that each edit should give, by the edit's id."""

    path: Path
    truths: dict[str, Path]


def write_demo(folder: Path) -> DemoJob:
    """Render the demo's scenes into `folder`, with a job of their edits and the true results.

    Raises:
        OSError: if the folder cannot be written.
    """
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    edits, truths = [], {}
    for name, scene, caption, drag in demo_edits():
        _save(folder / _file_name(scene), render(scene, SIZE).image)
        truths[name] = folder / "truth" / f"{name}.png"
        _save(truths[name], render(drag.after, SIZE).image)
        edits.append(_line(name, scene, caption, drag))
    _write(folder / "edits.jsonl", "".join(f"{line}\n" for line in edits).encode())
    _write(folder / "demo.toml", f'preset = "{DEFAULT_PRESET}"\n'.encode())
    return DemoJob(folder / "demo.toml", truths)


def _line(name: str, scene: Scene, caption: str, drag: SceneDrag) -> str:
    drags = [
        {"handle": _rounded(handle), "target": _rounded(target)}
        for handle, target in drag.pixels(SIZE)
    ]
    edit = {"id": name, "image": _file_name(scene), "prompt": caption, "drags": drags}
    return json.dumps(edit | {"tags": [scene.kind, drag.kind]})


def _file_name(scene: Scene) -> str:
    return f"{scene.kind.replace(' ', '-')}.png"


def _rounded(point: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in point]


def _save(path: Path, pixels: Pixels) -> None:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    _write(path, encoded.getvalue())


def _write(path: Path, data: bytes) -> None:
    """Write a file unless it says so already: an untouched file need not be read again."""
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)
