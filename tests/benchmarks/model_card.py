"""The figures and the picture of the pocket models' card.

    python tests/benchmarks/model_card.py docs/pocket.md DRAGBENCH

measures the shipped models on benchmark scenes, which nothing was trained on, and on photographs if
a folder of DragBench samples is named. About ten minutes of one core.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from marked_tables import written
from PIL import Image

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.inversion import invert
from adaptivedrag.metrics.truth import Recovery, TrueResult, recovery
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.pocket_training.measurement import linear_psnr, vae_psnr
from adaptivedrag.pocket_training.pictures import Picture, grid, psnr, to_tensor
from adaptivedrag.pocket_training.vae import round_trip
from adaptivedrag.scenes import DRAG_KINDS, Scene, benchmark_drags, benchmark_scene, drags, render
from adaptivedrag.scenes.canvas import Canvas
from adaptivedrag.segmenter.kinds import load_segmenter
from adaptivedrag.segmenter.segmentation import Sam2

TIMES = (50, 100, 300, 500, 700, 900)
ERROR_SCENES, ERROR_DRAWS = 14, 2
VAE_SCENES = 24
INVERTED_SCENES = 6
POINT_SCENES, POINTS = 14, 6
CHANNELS = (4, 8, 16)
SIZE = 256
INVERSION = InvertImageConfig()


@torch.no_grad()
def noise_errors(model: DiffusionModel, scenes: Sequence[Scene]) -> list[float]:
    """Return the mean squared error of the predicted noise at each of `TIMES`."""
    errors = []
    for time in TIMES:
        generator, alpha, found = (
            torch.Generator().manual_seed(time),
            model.schedule.alpha(time),
            [],
        )
        for scene in scenes:
            mean, _ = model.posterior(render(scene, SIZE).image)
            conditioning = model.encode_prompt(scene.caption())
            for _ in range(ERROR_DRAWS):
                noise = torch.randn(mean.shape, generator=generator)
                noisy = alpha**0.5 * mean + (1 - alpha) ** 0.5 * noise
                predicted = model.predict_noise(noisy, time, conditioning)
                found.append(float((predicted - noise).square().mean()))
        errors.append(float(np.mean(found)))
    return errors


@torch.no_grad()
def inverted(model: DiffusionModel, scene: Scene) -> Picture:
    """Invert a scene for 35 of 50 steps and sample it back, without LoRA."""
    conditioning = model.encode_prompt(scene.caption())
    mean, _ = model.posterior(render(scene, SIZE).image)
    latents = invert(model, mean, conditioning, INVERSION)[:, -1]
    for time in model.schedule.timesteps(INVERSION.num_steps)[-INVERSION.inverted_steps :]:
        noise = model.predict_noise(latents, time, conditioning)
        latents = model.schedule.move(
            latents, noise, time, model.schedule.previous(time, INVERSION.num_steps)
        )
    return model.decode(latents)


@torch.no_grad()
def drawn(model: DiffusionModel, caption: str, *, steps: int = 30, guidance: float = 3) -> Picture:
    """Draw a sample from a caption."""
    latents = torch.randn(1, 8, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(0))
    with_caption, without = model.encode_prompt(caption), model.encode_prompt("")
    for time in model.schedule.timesteps(steps):
        empty = model.predict_noise(latents, time, without)
        noise = empty + guidance * (model.predict_noise(latents, time, with_caption) - empty)
        latents = model.schedule.move(latents, noise, time, model.schedule.previous(time, steps))
    return model.decode(latents)


@torch.no_grad()
def point_overlaps(segmenter: Sam2, scene: Scene, seed: int) -> tuple[list[float], float]:
    """Measure how masks of single points fit, and how alike masks of different points are.

    Returns:
        Overlap (IoU) of the best of three masks with the part or group it fits best, of points in
        different parts; and the mean overlap of the masks of two different points.
    """
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    canvas = Canvas(SIZE)
    scene.paint(canvas)
    answers = [canvas.mask(name) for name in (*canvas.parts[1:], *scene.groups)]
    predictor, random = SAM2ImagePredictor(segmenter.model), np.random.default_rng(seed)
    predictor.set_image(canvas.image())
    numbers = random.permutation(np.unique(canvas.owners))[:POINTS]
    fits, singles = [], []
    for number in numbers:
        rows, cols = np.nonzero(canvas.owners == number)
        pick = random.integers(len(rows))
        point = np.array([[cols[pick] + 0.5, rows[pick] + 0.5]])
        masks, _, _ = predictor.predict(point, np.array([1]), multimask_output=True)
        single, _, _ = predictor.predict(point, np.array([1]), multimask_output=False)
        holding = [canvas.owners == number] + [
            mask for mask in answers if mask[rows[pick], cols[pick]]
        ]
        fits.append(max(_overlap(mask > 0, answer) for mask in masks for answer in holding))
        singles.append(single[0] > 0)
    pairs = [_overlap(one, two) for place, one in enumerate(singles) for two in singles[:place]]
    return fits, float(np.mean(pairs))


def _overlap(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / max(1, (one | two).sum()))


def figures(photographs: Sequence[Picture]) -> list[str]:
    """Return all figures of the card, as Markdown."""
    model, segmenter = DiffusionModel.load(find_diffusion("pocket")), load_segmenter("pocket")
    scenes = [benchmark_scene(number) for number in range(max(VAE_SCENES, ERROR_SCENES))]
    pictures = [render(scene, SIZE).image for scene in scenes[:VAE_SCENES]]
    rows = ["Round trip of the VAE (PSNR in dB), beside the best linear codes of 8×8 patches:", ""]
    sets = {f"{VAE_SCENES} scenes": pictures, f"{len(photographs)} photographs": photographs}
    rows += _round_trips(sets, model)
    back = [inverted(model, scene) for scene in scenes[:INVERTED_SCENES]]
    first = pictures[:INVERTED_SCENES]
    through = [round_trip(model.vae, picture) for picture in first]
    rows += [
        "",
        f"{INVERTED_SCENES} scenes inverted to step 35 of 50 and sampled back, without LoRA: "
        f"{_psnr(back, through):.1f} dB to their round trip, {_psnr(back, first):.1f} dB to the "
        f"scene (the round trip has {_psnr(through, first):.1f}).",
        "",
        *true_results(model),
        "",
        "Mean squared error of the predicted noise (0 is perfect, 1 is knowing nothing), "
        f"{ERROR_SCENES} scenes:",
        "",
        "| time | " + " | ".join(map(str, TIMES)) + " |",
        "| --- |" + " --- |" * len(TIMES),
    ]
    clothing = [scene for scene in scenes[:ERROR_SCENES] if scene.kind == "clothing"]
    others = [scene for scene in scenes[:ERROR_SCENES] if scene.kind != "clothing"]
    for title, chosen in (("all but clothing", others), ("clothing", clothing)):
        errors = noise_errors(model, chosen)
        rows.append(f"| {title} | " + " | ".join(f"{error:.4f}" for error in errors) + " |")
    found = [point_overlaps(segmenter, scene, n) for n, scene in enumerate(scenes[:POINT_SCENES])]
    fits, alike = [fit for each, _ in found for fit in each], [alike for _, alike in found]
    return [
        *rows,
        "",
        f"The segmenter at {len(fits)} points of {POINT_SCENES} scenes, each in another part: the "
        f"best of three masks overlaps a part or group that holds the point by {np.mean(fits):.2f} "
        f"(IoU; above 0.5 at {np.mean(np.array(fits) > 0.5):.0%}). The masks of two points of one "
        f"scene overlap by {np.mean(alike):.2f}; by 1 they would not heed their points.",
    ]


def true_results(model: DiffusionModel) -> list[str]:
    """Measure what even a perfect edit loses by the VAE's round trip."""
    found = defaultdict[str, list[tuple[Recovery, ...]]](list)
    for number, index in benchmark_drags():
        drag = drags(benchmark_scene(number))[index]
        true = TrueResult.of(drag, SIZE)
        pair = tuple(
            recovery(true.before, true.truth, round_trip(model.vae, picture), true.arrival)
            for picture in (true.truth, true.before)
        )
        if pair[0].at_stake:
            found[drag.kind].append(pair)
    kinds = [kind for kind in DRAG_KINDS if found[kind]]
    rows = [
        f"Arrival recovery of the {len(benchmark_drags())} benchmark drags after one round trip, "
        "pooled: of the true result (a perfect edit), and of doing nothing:",
        "",
        "| | " + " | ".join(kinds) + " |",
        "| --- |" + " --- |" * len(kinds),
    ]
    for place, title in enumerate(("the true result", "nothing")):
        each = ([pair[place] for pair in found[kind]] for kind in kinds)
        rows.append(f"| {title} | " + " | ".join(f"{_pooled(some):.2f}" for some in each) + " |")
    return rows


def _pooled(found: Sequence[Recovery]) -> float:
    error, at_stake = map(sum, zip(*found, strict=True))
    return float(1 - error / at_stake)


def _round_trips(sets: Mapping[str, Sequence[Picture]], model: DiffusionModel) -> list[str]:
    sets = {name: images for name, images in sets.items() if images}
    linear = {name: linear_psnr(CHANNELS, images) for name, images in sets.items()}
    rows = [f"| | {' | '.join(sets)} |", "| --- |" + " --- |" * len(sets)]
    for count in CHANNELS:
        values = (f"{linear[name][count]:.1f}" for name in sets)
        rows.append(f"| linear code, {count} channels | {' | '.join(values)} |")
    values = (f"**{vae_psnr(model.vae, images):.1f}**" for images in sets.values())
    return [*rows, f"| **pocket VAE, 8 channels** | {' | '.join(values)} |"]


def _psnr(one: Sequence[Picture], two: Sequence[Picture]) -> float:
    return float(
        np.mean([psnr(to_tensor([a]), to_tensor([b])) for a, b in zip(one, two, strict=True)])
    )


def sheet() -> Picture:
    """Show scenes, through the VAE, inverted and back, from their captions, and their segments."""
    model, segmenter = DiffusionModel.load(find_diffusion("pocket")), load_segmenter("pocket")
    columns = []
    for number in range(INVERTED_SCENES):
        scene = benchmark_scene(number)
        picture = render(scene, SIZE).image
        with torch.no_grad():
            through = round_trip(model.vae, picture)
        columns.append(
            [
                picture,
                through,
                inverted(model, scene),
                drawn(model, scene.caption()),
                _colored(segmenter.segments(picture)),
            ]
        )
    return grid(list(zip(*columns, strict=True)))


def _colored(segments: np.ndarray) -> Picture:
    """Draw segments over each other, largest first, each in its own color."""
    random, out = np.random.default_rng(0), np.zeros((SIZE, SIZE, 3), np.uint8)
    for segment in segments:
        out[segment] = random.integers(60, 256, 3)
    return out


def main(document: Path, photographs: Path | None = None) -> None:
    """Write the figures between the marks of the card, and the picture beside it."""
    torch.set_grad_enabled(False)
    files = sorted(photographs.glob("*/*/original_image.png")) if photographs else []
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    document.write_text(written(document.read_text("utf-8"), figures(images)), "utf-8")
    picture = Image.fromarray(sheet())
    small = picture.resize(
        (picture.width * 3 // 8, picture.height * 3 // 8), Image.Resampling.LANCZOS
    )
    small.save(document.parent / "images" / "pocket-samples.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
