"""Eight edits of one image inverted and sampled together, against the same eight in turn.

`python tests/benchmarks/batches.py` prints a table: items that passed through the UNet, time of the
batch over the time of eight in turn, and how far the results lie apart. One thread, pocket model.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adaptivedrag.config import EditConfig, InvertImageConfig
from adaptivedrag.inversion import invert
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.presets import POCKET
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.scenes import benchmark_scene, render

PROMPTS = ("", "a car", "a red car", "a house", "a dog", "a face", "a chair", "flowers")
EDITS = len(PROMPTS)


@dataclass(frozen=True)
class Comparison:
    """One stage of the eight edits, in a batch and in turn.

    Attributes:
        items: passes of the UNet per item: of the batch, and of the eight in turn.
        wall: seconds of the batch over seconds of the eight in turn.
        cpu: the same of CPU time.
        latents: largest difference of a latent, as a share of their range.
        pixels: largest difference of a pixel before it is rounded, as a share of 255.
        levels: values of the eight images that are another level of 255 after rounding.
        values: values of the eight images.
    """

    stage: str
    items: tuple[int, int]
    wall: float
    cpu: float
    latents: float
    pixels: float
    levels: int
    values: int


def compare(size: int, inversion: InvertImageConfig) -> list[Comparison]:
    """Compare both stages on a rendered scene of `size` pixels a side."""
    model = DiffusionModel.load(find_diffusion(POCKET))
    frame = model.frame(size, size, size)
    clean, _ = model.posterior(render(benchmark_scene(5), size).image)
    settings = EditConfig().scaled_to(clean.shape[1], *frame.latent_size).sample_image
    prompts = [model.encode_prompt(prompt) for prompt in PROMPTS]

    inversions = _compared(
        "invert_image",
        model,
        lambda: invert(
            model, clean.expand(EDITS, -1, -1, -1), Conditioning.concatenate(prompts), inversion
        ),
        lambda: torch.cat([invert(model, clean, prompt, inversion) for prompt in prompts]),
    )
    (trajectory,) = invert(model, clean, prompts[0], inversion)
    reference = Reference(trajectory, prompts[0])
    edits = [_edit(number, trajectory, frame) for number in range(EDITS)]
    samples = _compared(
        "sample_image",
        model,
        lambda: sample(model, [reference], edits, settings, inversion.num_steps)[1],
        lambda: torch.cat(
            [sample(model, [reference], [edit], settings, inversion.num_steps)[1] for edit in edits]
        ),
    )
    return [inversions, samples]


def _edit(number: int, trajectory: Tensor, frame: Frame) -> DraggedEdit:
    """Return an edit whose latents have been moved at random, with a drag of its own."""
    generator = torch.Generator().manual_seed(number)
    coarse = torch.randn(1, len(trajectory[0]), 4, 4, generator=generator)
    moved = torch.nn.functional.interpolate(coarse, size=frame.latent_size, mode="bilinear")
    across = frame.width * (number + 1) / (EDITS + 2)
    drag = Drag(ImagePoint(across, frame.height / 3), ImagePoint(across, frame.height / 2))
    editable = torch.ones(frame.latent_size, dtype=torch.bool)
    return DraggedEdit(trajectory[-1:] + 0.3 * moved, 0, [drag], frame, editable)


def _compared(
    stage: str, model: DiffusionModel, together: Callable[[], Tensor], in_turn: Callable[[], Tensor]
) -> Comparison:
    together_latents, items, wall, cpu = _measured(model, together)
    latents, items_in_turn, wall_in_turn, cpu_in_turn = _measured(model, in_turn)
    last = [each if each.ndim == 4 else each[:, -1] for each in (together_latents, latents)]
    ours, theirs = (_pixels(model, each) for each in last)
    return Comparison(
        stage,
        (items, items_in_turn),
        wall / wall_in_turn,
        cpu / cpu_in_turn,
        float((together_latents - latents).abs().max() / (latents.max() - latents.min())),
        float((ours - theirs).abs().max() / 255),
        int((ours.round() != theirs.round()).sum()),
        ours.numel(),
    )


def _measured(
    model: DiffusionModel, work: Callable[[], Tensor]
) -> tuple[Tensor, int, float, float]:
    before, wall, cpu = replace(model.passes), time.perf_counter(), time.process_time()
    latents = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return latents, model.passes.since(before)["unet_forwards"], wall, cpu


@torch.no_grad()
def _pixels(model: DiffusionModel, latents: Tensor) -> Tensor:
    """Decode latents to pixels in 0..255, not rounded; one by one, as the stage does."""
    scale = model.vae.config.scaling_factor
    decoded = torch.cat([model.vae.decode(item[None] / scale).sample for item in latents])
    return (decoded / 2 + 0.5).clamp(0, 1) * 255


def table(comparisons: list[Comparison]) -> str:
    """Return the comparisons as a table in Markdown."""
    lines = [
        "| stage | UNet items, batch | in turn | ratio | wall time | CPU time "
        "| latents, of range | pixels, of 255 | levels changed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in comparisons:
        batch, in_turn = found.items
        lines.append(
            f"| {found.stage} | {batch:,} | {in_turn:,} | {batch / in_turn:.3f} "
            f"| {found.wall:.2f} | {found.cpu:.2f} | {found.latents:.1e} | {found.pixels:.1e} "
            f"| {found.levels:,} of {found.values:,} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table(compare(256, InvertImageConfig())))  # noqa: T201
