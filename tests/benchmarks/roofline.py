"""What batches gain on a GPU, by calculation: Stable Diffusion 1.5 in bfloat16 at 512 px.

`python tests/benchmarks/roofline.py` prints a table of `docs/batches.md`. It needs no GPU: the
full-size model lives on torch's meta device (`memory.py`), and every operator that is called adds
its floating-point operations and the bytes of what it reads and writes. An operator takes as long
as the slower of both on the device, and the host needs some time to launch it; a pass takes as long
as the slower of device and host. Operators that only make a view cost nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from memory import META, SD_15, Subject, fused_attention, size_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from adaptivedrag.model.lora import adapter

LAUNCH = 20e-6
"""Seconds that the host needs for an operator, with its share of Python: a UNet of 32 channels,
whose kernels are next to nothing, takes 33 µs for each on a core of 2026's cloud machines."""
OF_PEAK, OF_BANDWIDTH = 0.5, 0.75
"""Shares of a GPU's figures that kernels of this size reach."""


@dataclass(frozen=True)
class Gpu:
    """Peak of dense bfloat16 operations and memory bandwidth, per second."""

    name: str
    flops: float
    bandwidth: float


GPUS = (Gpu("A100 80 GB", 312e12, 2.04e12), Gpu("H100 SXM", 989e12, 3.35e12))


class Roofline(TorchDispatchMode):
    """Time of the operators that are called while it is active.

    Attributes:
        device: seconds of each GPU's kernels, by its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.flops, self.moved = 0, 0, 0
        self.device = {gpu.name: 0.0 for gpu in GPUS}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if any(
            each.alias_info and not each.alias_info.is_write for each in function._schema.returns
        ):
            return made
        count = flop_registry.get(function._overloadpacket)
        flops = count(*args, **(kwargs or {}), out_val=made) if count else 0
        touched = [each for each in tree_leaves((args, kwargs, made)) if isinstance(each, Tensor)]
        moved = size_of(*touched)
        self.launches += 1
        self.flops += flops
        self.moved += moved
        for gpu in GPUS:
            by_work = flops / (OF_PEAK * gpu.flops)
            self.device[gpu.name] += max(by_work, moved / (OF_BANDWIDTH * gpu.bandwidth))
        return made

    def seconds(self, gpu: Gpu) -> float:
        """Return the time that all of it takes on a GPU."""
        return max(self.device[gpu.name], self.launches * LAUNCH)


def infer(subject: Subject, items: int) -> None:
    """Predict noise, as inversion, sampling and painting do."""
    with torch.no_grad():
        subject.model.predict_noise(subject.latents(items), 681, subject.conditioning())


def drag(subject: Subject, items: int) -> None:
    """Predict noise and features, and go back to the latents."""
    latents = subject.latents(items).requires_grad_(True)
    noise, features = subject.model.predict_with_features(latents, 681, subject.conditioning())
    torch.autograd.grad(noise.sum() + features.float().sum(), latents)


def train(subject: Subject, images: int) -> None:
    """Train a LoRA on four samples of each image; one for each image would cost more."""
    items = 4 * images
    parameters = [each for each in subject.model.unet.parameters() if each.requires_grad]
    times = torch.zeros(items, dtype=torch.long, device=META)
    predicted = subject.model.predict(subject.latents(items), times, subject.conditioning())
    torch.autograd.grad(predicted.sum(), parameters)


PASSES: dict[str, Callable[[Subject, int], None]] = {
    "a pass of inversion, sampling or painting": infer,
    "a step of the drag loop": drag,
    "a step of LoRA training, four samples an image": train,
}


def measured(run: Callable[[Subject, int], None], items: int, subject: Subject = SD_15) -> Roofline:
    """Return what a pass over a number of edits costs."""
    unet, cost = subject.model.unet, Roofline()
    adapted = adapter(unet, 16, torch.Generator()) if run is train else nullcontext()
    with fused_attention(), adapted, cost:
        run(subject, items)
    return cost


def table() -> Iterator[str]:
    """Yield the lines of the table, in Markdown."""
    yield (
        "| | edits | operators | TFLOP | GB moved | GPU | device, ms | host, ms | ms an edit "
        "| gain |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    for name, run in PASSES.items():
        costs = {items: measured(run, items) for items in (1, 8)}
        for gpu in GPUS:
            alone = costs[1].seconds(gpu)
            for items, cost in costs.items():
                each = cost.seconds(gpu) / items
                yield (
                    f"| {name} | {items} | {cost.launches:,} | {cost.flops / 1e12:.2f} "
                    f"| {cost.moved / 1e9:.1f} | {gpu.name} | {1e3 * cost.device[gpu.name]:.1f} "
                    f"| {1e3 * cost.launches * LAUNCH:.1f} | {1e3 * each:.1f} "
                    f"| {alone / each:.1f} |"
                )


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
