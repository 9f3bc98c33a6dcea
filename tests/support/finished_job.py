"""A job whose results were published by hand: real files and a real store, no model run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.tiny_models import shared_model

from artifacts import ArtifactStore, Circumstances, Document, Picture, Record, TensorFile
from stages.jobs.edit import Edit
from stages.pipeline import STAGES
from stages.planning.resolved import Resolved

CIRCUMSTANCES = Circumstances(code="1", started="2024-01-01T00:00:00+00:00", seconds=1.5)


def write_job(
    folder: Path,
    edits: int = 2,
    toml: str = "",
    image: str = "cat.png",
    model: str | Path | None = None,
) -> Path:
    """Write a job over one image of 96x64 pixels, with a tiny model unless another is named."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, cols = np.mgrid[0:64, 0:96]
    pixels = np.stack([rows * 3, cols * 2, 255 - rows * 2], axis=-1).astype(np.uint8)
    pixels[20:40, 20:40] = (230, 90, 40)
    Image.fromarray(pixels).save(folder / image)
    (folder / "segmenter.pt").write_bytes(b"weights")
    lines = [
        {
            "id": f"edit-{number}",
            "image": image,
            "prompt": "a <b>cat</b>",
            "drags": [{"handle": [30, 30], "target": [50 + number % 40, 30]}],
            "tags": ["even" if number % 2 == 0 else "odd"],
        }
        for number in range(edits)
    ]
    (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = f'model = {json.dumps(str(model or shared_model()))}\nsegmenter = "segmenter.pt"\n'
    (folder / "job.toml").write_text(f'preset = "paper"\n{names}{toml}')
    return folder / "job.toml"


def finish(
    edit: Edit,
    store: ArtifactStore,
    *,
    until: str = "locate_handles",
    shade: int = 128,
    distance: float = 19.0,
    verdict: str = "stalled",
) -> dict[str, Record]:
    """Publish made-up results of an edit's stages, in order.

    Args:
        shade: of the edited image.
        distance: from the target to where the witness finds the handle, in pixels.
        verdict: of the witness.
    """
    resolved, records = Resolved.of(edit), dict[str, Record]()
    payloads = dict(_payloads(resolved, shade, distance, verdict))
    for stage in STAGES:
        if not stage.off(resolved.edit):
            payload, summary = payloads[stage.name]
            action = resolved.action(stage, records)
            records[stage.name] = store.publish(action, payload, CIRCUMSTANCES, summary)
        if stage.name == until:
            break
    return records


def _payloads(
    resolved: Resolved, shade: int, distance: float, verdict: str
) -> Iterator[tuple[str, tuple[dict[str, Any], Mapping[str, Any]]]]:
    frame, image = resolved.frame, resolved.edit.image
    rows, cols = frame.feature_size
    handle, target = resolved.edit.drags[0]
    labels = (np.arange(rows)[:, None] // 16 * 100 + np.arange(cols)[None] // 16).astype(np.int32)
    mask = np.zeros((image.height, image.width), np.uint8)
    mask[15:45, 15:80] = 255
    steps = np.linspace(frame.to_feature(handle), frame.to_feature(target), 12, dtype=np.float32)
    point = {
        "handle": [*handle],
        "end": [*target],
        "target": [*target],
        "verdict": "reached",
        "distance": 0.4,
    }
    drag = {"steps": 11, "budget": 80, "verdict": "reached", "points": [point]}
    result = np.full((image.height, image.width, 3), shade, np.uint8)
    latents = np.zeros((2, 4, *frame.latent_size), np.float32)
    yield "train_lora", ({"lora": TensorFile({"weight": np.ones(3, np.float32)})}, {"steps": 80})
    yield "invert_image", ({"latents": latents}, {})
    yield "extract_superpixels", ({"labels": labels, "centroids": np.zeros((4, 2))}, {})
    yield "build_mask", ({"mask": labels > 100, "picture": Picture(mask)}, {"warnings": []})
    yield "optimize_latent", ({"latent": latents[:1], "tracks": steps[:, None]}, drag)
    yield "sample_image", ({"image": Picture(result)}, {})
    seen = {"verdict": verdict, "points": [{**point, "verdict": verdict, "distance": distance}]}
    yield "locate_handles", ({"handles": Document(seen["points"])}, seen)
