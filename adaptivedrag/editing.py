"""One edit from image to image, in memory (paper, Fig. 2): the modules in their order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from adaptivedrag import presets
from adaptivedrag.config import EditConfig, Runtime
from adaptivedrag.drag import DragProblem, DragResult, Hooks
from adaptivedrag.drag_notes import drag_notes
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.given import GivenDrag, GivenImage, given_drags, given_image, given_mask
from adaptivedrag.inversion import invert
from adaptivedrag.masks import build_mask, image_mask, latent_mask
from adaptivedrag.model.diffusion import DiffusionModel, native_image, working_image
from adaptivedrag.model.lora import lora_applied, seed_of_draws, train_lora
from adaptivedrag.model.weights import find_model
from adaptivedrag.pictures.decoding import Pixels
from adaptivedrag.pictures.masks import DecodedMask
from adaptivedrag.points import Drag, Frame, lies_inside
from adaptivedrag.presets import POCKET
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.segmenter.kinds import load_segmenter
from adaptivedrag.superpixels import Superpixels, divide_image

CPU = Runtime()


@dataclass(frozen=True)
class EditResult:
    """An edited image and what led to it."""

    image: Pixels
    """In sRGB, of the size of the image that was given."""
    mask: Bool[np.ndarray, "h w"]
    """Editable mask at the image's own size."""
    superpixels: Superpixels
    drag: DragResult
    lora_losses: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    """What is odd about the mask, a line each."""
    notes: tuple[str, ...] = ()
    """What was converted of the image, and how the mask was read."""


def edit(
    image: GivenImage,
    drags: Sequence[GivenDrag] | np.ndarray,
    *,
    prompt: str = "",
    mask: GivenImage | None = None,
    model: str = POCKET,
    vae: str | None = None,
    segmenter: str = POCKET,
    preset: str | None = None,
    config: EditConfig | None = None,
    lora: bool = True,
    runtime: Runtime = CPU,
) -> EditResult:
    """Drag what is at each handle to its target; everything in memory, nothing is cached.

    Args:
        image: of any size: a path, a PIL image, or an array (height, width) or (height, width,
            3 or 4) of uint8, uint16 or floats from 0 to 1. What is transparent lies over white.
        drags: pairs of handle and target, each (x, y) in pixels of the image; or four numbers
            each; or {"handle": (x, y), "target": (x, y)}.
        mask: where the image may change, in place of the mask that the settings find: a path, a
            PIL image, or an array (height, width) of bool.
        model: "pocket", a directory in diffusers' layout, a .safetensors file, or a hub id.
        vae: the same of a VAE, in place of the model's own.
        segmenter: "pocket", a SAM 2 checkpoint file, or a hub id.
        preset: named settings; `plus` by default, as on the command line.
        config: settings for 512 px, in place of a preset.
        lora: whether to fit a LoRA to the image first.

    Raises:
        InvalidEdit: for an image that cannot be read, a point outside of it, or a mask that is
            missing or of another size.
        ModelUnavailable: if weights are not where they were looked for.
        NotFinite: if a loss or the latents stop being finite.
    """
    decoded, pairs = given_image(image), given_drags(drags)
    pixels = decoded.pixels
    settings = _settings(preset, config, model, has_mask=mask is not None)
    _check(pixels, pairs)
    user_mask = _user_mask(mask, pixels, settings)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    diffusion = DiffusionModel.load(find_model(model, vae), settings.dtype, runtime.device)
    settings = settings.suited_to(diffusion.architecture)
    frame = diffusion.frame(*pixels.shape[:2], settings.working_size)
    channels, reference = (
        diffusion.vae.config.latent_channels,
        diffusion.architecture.reference_latents,
    )
    settings = settings.scaled_to(channels, *frame.latent_size, reference)
    working, conditioning = working_image(pixels, frame), diffusion.encode_prompt(prompt)
    posterior = diffusion.posterior(working)

    weights, losses = None, []
    if lora:
        seed = seed_of_draws(settings.seed, working, prompt)
        weights, losses = train_lora(
            diffusion, _unpadded(posterior, frame), conditioning, settings.train_lora, seed=seed
        )
    superpixels, segments = divide_image(
        working,
        frame.feature_size,
        settings,
        lambda: load_segmenter(segmenter, runtime.device),
    )
    editable, warnings = build_mask(
        settings.build_mask,
        superpixels,
        segments,
        pairs,
        frame,
        user_mask.values if user_mask else None,
    )
    with lora_applied(diffusion, weights):
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
        notes=(
            *decoded.notes,
            *drag_notes(pairs),
            *diffusion.prompts.notes(prompt),
            *(user_mask.notes if user_mask else ()),
        ),
    )


def _settings(
    preset: str | None, config: EditConfig | None, model: str, *, has_mask: bool
) -> EditConfig:
    if preset is not None and config is not None:
        raise InvalidEdit("preset and config are both given: leave one of them out")
    settings = config or presets.preset(preset or presets.DEFAULT_PRESET, model)
    return settings.merged({"build_mask": {"mode": "user"}}) if has_mask else settings


def _user_mask(mask: GivenImage | None, image: Pixels, settings: EditConfig) -> DecodedMask | None:
    if mask is not None:
        return given_mask(mask, image.shape[:2])
    if settings.build_mask.mode == "user":
        raise InvalidEdit('build_mask.mode is "user": give a mask')
    return None


def _unpadded(posterior: tuple[Tensor, Tensor], frame: Frame) -> tuple[Tensor, Tensor]:
    rows, cols = frame.image_latents
    mean, deviation = posterior
    return mean[..., :rows, :cols], deviation[..., :rows, :cols]


def _check(image: Pixels, drags: Sequence[Drag]) -> None:
    height, width = image.shape[:2]
    for number, drag in enumerate(drags, start=1):
        for name, point in zip(("handle", "target"), drag, strict=True):
            if not lies_inside(point, width, height):
                raise InvalidEdit(
                    f"{name} {number} at ({point.x:g}, {point.y:g}) lies outside the "
                    f"{width}x{height} image"
                )
