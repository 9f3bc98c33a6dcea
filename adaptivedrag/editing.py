"""One edit from image to image, in memory (paper, Fig. 2): the modules in their order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from adaptivedrag.config import EditConfig, Runtime
from adaptivedrag.drag import DragProblem, DragResult, Hooks
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.inversion import invert
from adaptivedrag.masks import build_mask, image_mask, latent_mask
from adaptivedrag.model.diffusion import DiffusionModel, native_image, working_image
from adaptivedrag.model.lora import lora_applied, seed_of_draws, train_lora
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.points import Drag, ImagePoint, lies_inside
from adaptivedrag.presets import POCKET, preset
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.segmenter.segmenter import load_segmenter
from adaptivedrag.superpixels import Superpixels, divide_image

Pixels = UInt8[np.ndarray, "h w 3"]
CPU = Runtime()


@dataclass(frozen=True)
class EditResult:
    """An edited image and what led to it."""

    image: Pixels
    mask: Bool[np.ndarray, "h w"]
    """Editable mask at the image's own size."""
    superpixels: Superpixels
    drag: DragResult
    lora_losses: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    """What is odd about the mask, a line each."""


def edit(
    image: Pixels,
    drags: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    *,
    prompt: str = "",
    mask: Bool[np.ndarray, "h w"] | None = None,
    model: str = POCKET,
    segmenter: str = POCKET,
    config: EditConfig | None = None,
    lora: bool = True,
    runtime: Runtime = CPU,
) -> EditResult:
    """Drag what is at each handle to its target; everything in memory, nothing is cached.

    Args:
        image: uint8 RGB of any size.
        drags: pairs of handle and target, each (x, y) in pixels of the image.
        mask: True where the image may change; only for `build_mask.mode = "user"`.
        model: "pocket", a diffusers Stable Diffusion 1.x directory, or a hub id.
        segmenter: "pocket", a SAM 2 checkpoint file, or a hub id.
        config: settings for 512 px; the preset `paper` by default.
        lora: whether to fit a LoRA to the image first.

    Raises:
        InvalidEdit: for a point outside the image, or a mask that is missing or of another size.
        ModelUnavailable: if weights are not where they were looked for.
        NotFinite: if a loss or the latents stop being finite.
    """
    pairs = [Drag(ImagePoint(*handle), ImagePoint(*target)) for handle, target in drags]
    settings = config or preset("paper", model)
    _check(image, pairs, mask, settings)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    diffusion = DiffusionModel.load(find_diffusion(model), settings.dtype, runtime.device)
    frame = diffusion.frame(*image.shape[:2], settings.working_size)
    settings = settings.scaled_to(diffusion.vae.config.latent_channels, *frame.latent_size)
    working, conditioning = working_image(image, frame), diffusion.encode_prompt(prompt)
    posterior = diffusion.posterior(working)

    weights, losses = None, []
    if lora:
        rows, cols = frame.image_latents
        mean, deviation = (part[..., :rows, :cols] for part in posterior)
        seed = seed_of_draws(settings.seed, working, prompt)
        weights, losses = train_lora(
            diffusion, (mean, deviation), conditioning, settings.train_lora, seed=seed
        )
    superpixels, segments = divide_image(
        working,
        frame.feature_size,
        settings,
        lambda: load_segmenter(segmenter, runtime.device),
    )
    editable, warnings = build_mask(settings.build_mask, superpixels, segments, pairs, frame, mask)
    with lora_applied(diffusion.unet, weights):
        (trajectory,) = invert(diffusion, posterior[0], conditioning, settings.invert_image)
        problem = DragProblem(
            trajectory=trajectory,
            conditioning=conditioning,
            image=working,
            drags=pairs,
            superpixels=superpixels,
            segments=segments,
            mask=editable,
            frame=frame,
            inversion=settings.invert_image,
        )
        dragged = settings.optimize_latent.drag(diffusion, problem, Hooks())
        held = torch.from_numpy(latent_mask(editable)).to(diffusion.device)
        _, clean = sample(
            diffusion,
            [Reference(trajectory[: dragged.level + 1], conditioning)],
            [DraggedEdit(dragged.latents, 0, pairs, frame, held)],
            settings.sample_image,
            settings.invert_image.num_steps,
        )
    return EditResult(
        image=native_image(diffusion.decode(clean), frame),
        mask=image_mask(editable, frame),
        superpixels=superpixels,
        drag=dragged,
        lora_losses=tuple(losses),
        warnings=tuple(warnings),
    )


def _check(
    image: Pixels,
    drags: Sequence[Drag],
    mask: Bool[np.ndarray, "h w"] | None,
    settings: EditConfig,
) -> None:
    height, width = image.shape[:2]
    for number, drag in enumerate(drags, start=1):
        for name, point in zip(("handle", "target"), drag, strict=True):
            if not lies_inside(point, width, height):
                raise InvalidEdit(
                    f"{name} {number} at ({point.x:g}, {point.y:g}) lies outside the "
                    f"{width}x{height} image"
                )
    if not drags:
        raise InvalidEdit("there are no drags: name at least one handle and target")
    if settings.build_mask.mode == "user" and (mask is None or mask.shape != (height, width)):
        raise InvalidEdit('build_mask.mode is "user": give a bool mask of the image\'s size')
