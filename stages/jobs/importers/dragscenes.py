"""DragScenes: scenes that are rendered here, with true masks and known true results."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptivedrag.errors import InvalidEdit
from stages.images import Pixels
from stages.jobs.importers.writer import (
    IMAGE_FOLDER,
    MASK_FOLDER,
    Imported,
    cannot_write,
    write_job,
    write_png,
)

if TYPE_CHECKING:
    from adaptivedrag.scenes import Rendering, SceneDrag

SIZES = range(64, 2049)
"""Sides of the pictures, in pixels."""


def dragscenes(count: int | None, scenes: int = 25) -> tuple[tuple[int, int], ...]:
    """Choose drags of DragScenes: `count` on the first `scenes`, or the ablation's if None.

    Raises:
        InvalidEdit: if there are fewer.
    """
    from adaptivedrag.scenes import ablation_drags, benchmark_drags

    try:
        return ablation_drags() if count is None else benchmark_drags(scenes, count)
    except ValueError as error:
        raise InvalidEdit(
            f"DragScenes cannot give {count} edits on {scenes} scenes: {error}"
        ) from None


def import_dragscenes(
    directory: Path, edits: Sequence[tuple[int, int]], *, size: int = 256
) -> Imported:
    """Render scenes and write a job of their drags, with the true masks as the edits' masks.

    The true mask is what the dragged part covers before the drag and after it. Edits of one scene
    share their image and prompt.

    Args:
        directory: folder for images, masks and the job.
        edits: scene number and index of the drag, as `adaptivedrag.scenes.benchmark_drags` has it.
        size: side of the pictures in pixels.

    Raises:
        InvalidEdit: if the size or an index is out of range, or `directory` cannot be written.
    """
    from adaptivedrag.scenes import benchmark_scene, drags, render

    if size not in SIZES:
        raise InvalidEdit(
            f"size {size} is out of range: pictures of scenes have {SIZES[0]} to {SIZES[-1]} pixels"
        )
    lines: list[dict[str, Any]] = []
    try:
        for number in dict.fromkeys(number for number, _ in edits):
            scene = benchmark_scene(number)
            seen, before = drags(scene), render(scene, size)
            image = f"{IMAGE_FOLDER}/scene-{number:03d}.png"
            write_png(directory, image, before.image)
            shared = {"image": image, "prompt": scene.caption()}
            for index in (index for own, index in edits if own == number):
                if index >= len(seen):
                    raise InvalidEdit(f"scene {number} has {len(seen)} drags, and none is {index}")
                line = _scene_line(number, index, seen[index], size) | shared
                line["tags"] = [scene.kind, seen[index].kind]
                write_png(directory, line["mask"], _true_mask(before, seen[index], size))
                lines.append(line)
    except OSError as error:
        raise cannot_write(directory, error) from error
    images = len({line["image"] for line in lines})
    job = write_job(directory, directory, lines, is_benchmark=True)
    return Imported(job, images, sum(len(line["drags"]) for line in lines), ())


def _scene_line(number: int, index: int, drag: "SceneDrag", size: int) -> dict[str, Any]:
    name = f"scene-{number:03d}-{index}-{drag.kind}"
    return {
        "id": name,
        "drags": [
            {"handle": _rounded(handle), "target": _rounded(target)}
            for handle, target in drag.pixels(size)
        ],
        "mask": f"{MASK_FOLDER}/{name}.png",
        "scene": {"number": number, "drag": index},
    }


def _true_mask(before: "Rendering", drag: "SceneDrag", size: int) -> Pixels:
    from adaptivedrag.scenes import render

    mask = before.mask(drag.part) | render(drag.after, size).mask(drag.part)
    return np.where(mask, 255, 0).astype(np.uint8)


def _rounded(point: Sequence[float]) -> list[float]:
    return [round(float(value), 2) for value in point]
