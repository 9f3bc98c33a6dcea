"""Eight edits together, against the same eight in turn. One thread, pocket model.

`python tests/benchmarks/batches.py` prints the tables of docs/batches.md: for edits of one image,
items that passed through the UNet, time of the batch over the time of eight in turn, and how far
the results lie apart; for edits of eight images, the throughput of a batch over that of one by one.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from adaptivedrag.config import EditConfig, InvertImageConfig, Runtime
from adaptivedrag.drag import DragProblem, DragTask, Hooks
from adaptivedrag.inversion import invert
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.lora import adapter
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.painting import HoledPicture, paint_holes
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.presets import POCKET
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.scenes import benchmark_scene, render
from adaptivedrag.superpixels import Superpixels
from adaptivedrag.warp.pasting import Pasted

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


@dataclass(frozen=True, eq=False)
class Eight:
    """Eight images on their way through the stages, without a LoRA."""

    model: DiffusionModel
    size: int

    @cached_property
    def images(self) -> list[np.ndarray]:
        """Rendered scenes."""
        return [render(benchmark_scene(number), self.size).image for number in range(EDITS)]

    @cached_property
    def frame(self) -> Frame:
        """That of every image."""
        return self.model.frame(self.size, self.size, self.size)

    @cached_property
    def settings(self) -> EditConfig:
        """A few steps of everything."""
        shape = (self.model.vae.config.latent_channels, *self.frame.latent_size)
        few = {
            "invert_image": {"num_steps": 10, "inverted_steps": 4},
            "optimize_latent": {"steps": 4, "max_steps": 4, "stop_distance": 0.01},
            "sample_image": {"hole_rounds": 1},
        }
        return EditConfig().scaled_to(*shape).merged(few)

    @cached_property
    def prompts(self) -> list[Conditioning]:
        """One for each image."""
        return [self.model.encode_prompt(prompt) for prompt in PROMPTS]

    @cached_property
    def clean(self) -> Tensor:
        """Clean latents of the images."""
        return torch.cat([self.model.posterior(image)[0] for image in self.images])

    @cached_property
    def trajectories(self) -> Tensor:
        """Inverted latents of the images."""
        prompts = Conditioning.concatenate(self.prompts)
        return invert(self.model, self.clean, prompts, self.settings.invert_image)

    def invert(self, some: slice) -> None:
        """Invert some of the images."""
        prompts = Conditioning.concatenate(self.prompts[some])
        invert(self.model, self.clean[some], prompts, self.settings.invert_image)

    def sample(self, some: slice) -> None:
        """Sample an edit of some of the images."""
        places = range(EDITS)[some]
        references = [Reference(self.trajectories[place], self.prompts[place]) for place in places]
        edits = [
            replace(_edit(place, self.trajectories[place], self.frame), reference=number)
            for number, place in enumerate(places)
        ]
        settings = self.settings
        sample(
            self.model, references, edits, settings.sample_image, settings.invert_image.num_steps
        )

    def paint(self, some: slice) -> None:
        """Paint a hole in some of the images."""
        hole = np.zeros((self.size, self.size), bool)
        hole[self.size // 3 : self.size // 2, self.size // 3 : self.size // 2] = True
        nothing = np.zeros_like(hole)
        pictures = [
            HoledPicture(
                Pasted(image, hole, nothing, hole, nothing, image), None, prompt, self.frame, seed=0
            )
            for image, prompt in zip(self.images[some], self.prompts[some], strict=True)
        ]
        paint_holes(self.model, pictures, self.settings.sample_image, self.settings.invert_image)

    def drag(self, some: slice) -> None:
        """Drag in the latents of some of the images."""
        method, frame, side = self.settings.optimize_latent, self.frame, self.size
        rows, cols = np.indices(frame.feature_size) // 8
        mask = np.ones(frame.feature_size, bool)
        mask[: len(mask) // 4] = False
        problems = [
            DragProblem(
                self.trajectories[place],
                self.prompts[place],
                [Drag(ImagePoint(side / 3, side / 3), ImagePoint(side / 2, side / 2))],
                Superpixels((rows * (cols.max() + 1) + cols).astype(np.int32)),
                mask,
                frame,
                self.settings.invert_image,
            )
            for place in range(EDITS)[some]
        ]
        method.drag_together(self.model, [DragTask(method, each, Hooks()) for each in problems])

    def train(self, some: slice) -> None:
        """Take a step of training on four samples of some of the images, in one pass.

        All share one adapter, as no stage does.
        """
        latents = self.clean[some].repeat_interleave(4, dim=0)
        prompts = Conditioning.concatenate([each for each in self.prompts[some] for _ in range(4)])
        parameters = [each for each in self.model.unet.parameters() if each.requires_grad]
        times = torch.full((len(latents),), 500)
        loss = self.model.predict(latents, times, prompts).square().mean()
        torch.autograd.grad(loss, parameters)


def gains(size: int, times: int = 2) -> Iterator[str]:
    """Yield the lines of a table: CPU time of eight in turn over that of a batch of eight."""
    model = DiffusionModel.load(find_diffusion(POCKET))
    eight = Eight(model, size)
    yield f"| at {size} px | s an edit, in turn | together | throughput |"
    yield "| --- | ---: | ---: | ---: |"
    works = {
        "`invert_image`": eight.invert,
        "`sample_image` after a drag in latents": eight.sample,
        "`sample_image` with a painted hole": eight.paint,
        "`optimize_latent`": eight.drag,
        "`train_lora`, one adapter for all; not built": eight.train,
    }
    for name, work in works.items():
        with adapter(model.unet, 16, torch.Generator()) if work == eight.train else nullcontext():
            work(slice(1))
            in_turn, together = fastest(work, 1, times), fastest(work, EDITS, times)
        yield f"| {name} | {in_turn:.2f} | {together:.2f} | {in_turn / together:.2f} |"


def fastest(work: Callable[[slice], None], together: int, times: int) -> float:
    """Return the CPU seconds of an edit, the least of several trials."""

    def seconds() -> float:
        before = time.process_time()
        for start in range(0, EDITS, together):
            work(slice(start, start + together))
        return (time.process_time() - before) / EDITS

    return min(seconds() for _ in range(times))


def switches(size: int, times: int = 4) -> Iterator[str]:
    """Yield the lines of a table: CPU time of a pass with each switch of the runtime."""
    wanted = {
        "neither": Runtime(),
        "channels last": Runtime(channels_last=True),
        "compiled": Runtime(compile=True),
        "both": Runtime(channels_last=True, compile=True),
    }
    yield f"| a pass at {size} px | alone, ms | of eight, ms an edit | apart, of the range |"
    yield "| --- | ---: | ---: | ---: |"
    plain = None
    for name, runtime in wanted.items():
        model = DiffusionModel.load(find_diffusion(POCKET))
        model.quicken(runtime)
        eight = Eight(model, size)

        @torch.no_grad()
        def one_pass(some: slice, eight: Eight = eight) -> Tensor:
            prompts = Conditioning.concatenate(eight.prompts[some])
            return eight.model.predict_noise(eight.clean[some], 500, prompts)

        made = one_pass(slice(1))
        plain = made if plain is None else plain
        apart = float((made - plain).abs().max() / (plain.max() - plain.min()))
        one_pass(slice(EDITS))
        alone, together = (1e3 * fastest(one_pass, count, times) for count in (1, EDITS))
        yield f"| {name} | {alone:.0f} | {together:.0f} | {apart:.0e} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that there is no GPU
    print(table(compare(256, InvertImageConfig())), flush=True)  # noqa: T201
    for lines in (gains(256), gains(128), switches(256)):
        print(*lines, sep="\n", flush=True)  # noqa: T201
