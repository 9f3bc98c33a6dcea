"""Training runs on disk: checkpoints, loss log and sample sheets of one pocket model.

RUN/checkpoint.safetensors    the last state, replaced atomically
RUN/losses.jsonl              one line per logged step
RUN/samples/000500.png        what the averaged model could do then
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file, save_file

from adaptivedrag.pocket_training.training import Losses, Training, train


@dataclass(frozen=True)
class Pace:
    """How often a run saves, and when it stops.

    Attributes:
        until: time.monotonic() at which the run pauses; None trains to the schedule's end.
    """

    until: float | None
    log_every: int = 20
    checkpoint_seconds: float = 120.0
    sheet_every: int = 250


def resume(training: Training, folder: Path) -> bool:
    """Restore a run from its folder; return False if the folder holds none."""
    checkpoint = folder / "checkpoint.safetensors"
    if not checkpoint.exists():
        return False
    training.restore(load_file(checkpoint))
    return True


def save(training: Training, folder: Path) -> None:
    """Replace the checkpoint; a kill leaves either the earlier or the new one whole."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "checkpoint.tmp"
    save_file({name: value.contiguous() for name, value in training.state().items()}, fresh)
    os.replace(fresh, folder / "checkpoint.safetensors")


def continue_run(training: Training, folder: Path, pace: Pace) -> int:
    """Resume, train and save as the pace says; return the steps done in all."""
    resume(training, folder)
    _forget(folder / "losses.jsonl", training.steps_done)
    folder.mkdir(parents=True, exist_ok=True)
    steps = train(training, _keeper(training, folder, pace))
    save(training, folder)
    return steps


def _keeper(training: Training, folder: Path, pace: Pace) -> Callable[[int, Losses], bool]:
    saved = time.monotonic()

    def keep(step: int, losses: Losses) -> bool:
        nonlocal saved
        if step % pace.log_every == 0:
            _log(folder, step, losses)
        if step % pace.sheet_every == 0:
            _draw(training, folder, step)
        if time.monotonic() - saved > pace.checkpoint_seconds:
            save(training, folder)
            saved = time.monotonic()
        return pace.until is None or time.monotonic() < pace.until

    return keep


def _log(folder: Path, step: int, losses: Losses) -> None:
    line = {"step": step, "time": round(time.time(), 1)}
    line |= {name: round(value, 5) for name, value in losses.items()}
    with (folder / "losses.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def _forget(log: Path, steps_done: int) -> None:
    """Drop the lines of steps that a killed run took after its last checkpoint."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(x for x in lines if json.loads(x)["step"] <= steps_done))


def _draw(training: Training, folder: Path, step: int) -> None:
    sheet = folder / "samples" / f"{step:06d}.png"
    sheet.parent.mkdir(exist_ok=True)
    Image.fromarray(training.sample_sheet()).save(sheet)
