"""Edits that go through a model together: eight against eight in turn.

Edits of eight images on the pocket model at its own 256 px, without a LoRA, one thread, CPU time.
On a GPU by calculation, since none was at hand. [batches.md](batches.md) says how both is found.
"""

from collections.abc import Iterator

import torch
from benchmarks.batches import EDITS, Eight, fastest
from benchmarks.roofline import GPUS, infer, measured
from support.report import Row, Stopwatch

from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.presets import POCKET

SIDE, TIMES = 256, 2
ASKED, ASKED_OF_GPU = 1.3, 3.0


def rows(_seed: int) -> Iterator[Row]:
    torch.set_num_threads(1)
    yield on_cpu(Eight(DiffusionModel.load(find_diffusion(POCKET)), SIDE))
    yield on_gpus()


def on_cpu(eight: Eight) -> Row:
    """Time inversion and sampling, and the drag loop."""
    clock = Stopwatch()
    in_turn, together = (
        {
            work.__name__: fastest(work, size, TIMES)
            for work in (eight.invert, eight.sample, eight.drag)
        }
        for size in (1, EDITS)
    )
    gains = {name: in_turn[name] / together[name] for name in in_turn}
    both = (in_turn["invert"] + in_turn["sample"]) / (together["invert"] + together["sample"])
    return Row(
        "8 edits together against 8 in turn, pocket model, CPU",
        f"inversion and sampling: at least {ASKED} times the throughput; drag loop: faster",
        f"inversion and sampling {both:.2f}, drag loop {gains['drag']:.2f} times",
        both >= ASKED and gains["drag"] > 1,
        clock.seconds,
        f"inversion {gains['invert']:.2f}, sampling {gains['sample']:.2f}. LoRAs of several images "
        "at once gained too little to be built.",
    )


def on_gpus() -> Row:
    """Calculate a pass of eight edits against eight passes of one."""
    clock = Stopwatch()
    one, eight = measured(infer, 1), measured(infer, EDITS)
    gains = {gpu.name: EDITS * one.seconds(gpu) / eight.seconds(gpu) for gpu in GPUS}
    told = ", ".join(f"{gain:.1f} times on an {name}" for name, gain in gains.items())
    return Row(
        "the same, Stable Diffusion 1.5 at 512 px in bfloat16 on a GPU",
        f"at least {ASKED_OF_GPU:.0f} times the throughput",
        f"by calculation {told}",
        None,
        clock.seconds,
    )
