"""Memory that runs out at each stage.

A job of a tiny random model, its LoRA trained on four samples at once. In each stage with a UNet
the second pass runs out of memory once, twice, and so on down to the lowest rung of the stage's
ladder, by the error that PyTorch raises on a GPU; the other stages run out in their own code, by an
error of the CPU. The results are compared with those made with enough memory.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from support.memory_faults import difference, short_of_memory
from support.report import Row, Stopwatch, on_seed
from support.tiny_job import write_job
from support.tiny_models import write_model

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from stages.jobs.reader import load_job
from stages.pipeline import STAGES
from stages.workbench import Workbench

TOLERANCE = 1e-5
WITHOUT_UNET = {
    "extract_superpixels": "adaptivedrag.superpixels.divide_image",
    "build_mask": "adaptivedrag.masks.build_mask",
}


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("short memory", seed):
        place = Path(folder)
        yield run_short_of_memory(write_job(place / "job", write_model(place / "model")), place)


def run_short_of_memory(job: Path, place: Path) -> Row:
    """Let each stage run out of memory at every rung but its lowest; compare the results."""
    clock, tries, problems, largest = Stopwatch(), 0, list[str](), 0.0
    (edit,) = load_job(job).edits
    edit = replace(edit, config=edit.config.merged({"train_lora": {"batch_size": 4}}))
    store = ArtifactStore.open(place / "store")
    for stage in STAGES:
        whole = Workbench(store, Runtime(threads=1)).perform(stage.name, edit)
        ladder = stage.ladder(edit.config)
        for times in range(1, len(ladder)):
            tries += 1
            bench = Workbench(store, Runtime(threads=1))
            with ExitStack() as stack:
                if stage.name in WITHOUT_UNET:
                    stack.enter_context(failing(WITHOUT_UNET[stage.name], times))
                else:
                    stack.enter_context(short_of_memory(times=times))
                again = bench.perform(stage.name, edit, force=True)
            apart = difference(store, whole, again)
            largest = max(largest, apart)
            if again.circumstances.memory_saved_by != ladder[times].measures:
                problems.append(f"{stage.name}: {again.circumstances.memory_saved_by} is recorded")
            if apart > TOLERANCE:
                problems.append(f"{stage.name}, {', '.join(ladder[times].measures)}: {apart:.1e}")
    return Row(
        "out of memory, raised at each stage and each rung of its ladder",
        f"the next rung is taken and recorded, the same result within {TOLERANCE:g}",
        f"{tries} rungs of {len(STAGES)} stages taken; largest relative difference {largest:.1e}; "
        f"{len(problems)} problems",
        not problems and tries >= len(STAGES),
        clock.seconds,
        "; ".join(problems[:5]),
    )


def failing(name: str, times: int):
    """Let a function ask for more memory than there is, a number of times."""
    plain, left = resolve_name(name), [None] * times

    def short(*arguments):
        if left:
            left.pop()
            np.empty(10**15)
        return plain(*arguments)

    return patch(name, short)
