"""One edit from image to image, in memory (paper, Fig. 2): the modules in their order."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from adaptivedrag import presets
from adaptivedrag.compositing import composite
from adaptivedrag.config import EditConfig, Runtime
from adaptivedrag.drag import (
    DragProblem,
    DragReport,
    DragResult,
    Hooks,
    MovedPicture,
    PictureProblem,
)
from adaptivedrag.drag_notes import drag_notes
from adaptivedrag.errors import InvalidEdit, NotFinite
from adaptivedrag.given import (
    GivenDrag,
    GivenImage,
    GivenLora,
    given_drags,
    given_image,
    given_lora,
    given_mask,
    given_name,
    given_prompt,
    given_runtime,
)
from adaptivedrag.inversion import invert
from adaptivedrag.masks import build_mask, image_mask, latent_mask, limits_content
from adaptivedrag.methods import LatentMethod, PictureMethod
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel, native_image, working_image
from adaptivedrag.model.lora import (
    LoraWeights,
    lora_applied,
    model_layers,
    seed_of_draws,
    train_lora,
)
from adaptivedrag.model.lora_files import LoraFile, check_fit, read_lora
from adaptivedrag.model.weights import find_model
from adaptivedrag.painting import HoledPicture, paint_holes, unpainted
from adaptivedrag.pictures.decoding import Pixels
from adaptivedrag.pictures.masks import DecodedMask
from adaptivedrag.points import Drag, Frame, outside
from adaptivedrag.presets import POCKET
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.segmenter.kinds import load_segmenter
from adaptivedrag.superpixels import Superpixels, divide_image
from adaptivedrag.witness import WitnessResult, locate_handles

CPU = Runtime()


@dataclass(frozen=True)
class EditResult:
    """An edited image and what led to it."""

    image: Pixels
    """In sRGB, of the size of the image that was given."""
    mask: Bool[np.ndarray, "h w"]
    """Editable mask at the image's own size."""
    superpixels: Superpixels
    drag: DragReport
    """What the drag method did; its verdict and points are those of its own tracker."""
    witness: WitnessResult | None
    """Where the independent witness found the handles; None, and a line of `warnings`, if it
    failed."""
    lora_losses: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    """What is odd about the mask, the content or its hole, a line each."""
    notes: tuple[str, ...] = ()
    """What was converted of the image, and how the mask was read."""


def edit(
    image: GivenImage,
    drags: Sequence[GivenDrag] | np.ndarray,
    *,
    prompt: str = "",
    mask: GivenImage | None = None,
    model: str | os.PathLike[str] = POCKET,
    vae: str | os.PathLike[str] | None = None,
    segmenter: str | os.PathLike[str] = POCKET,
    preset: str | None = None,
    config: EditConfig | None = None,
    lora: GivenLora = "auto",
    runtime: Runtime | str = CPU,
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
        preset: named settings; `plus` by default, as in jobs and on the command line.
        config: settings for 512 px, in place of a preset.
        lora: "auto" fits one to the image first for drag methods that gain by it, "train" or True
            for all, "off" or False for none; the path of a .safetensors file takes that one.
        runtime: where work is done; or a device, such as "cuda".

    Raises:
        InvalidEdit: for a value that cannot be used, such as an image that cannot be read, a point
            outside of it, or a mask of another size.
        ModelUnavailable: if weights are not where they were looked for.
        NotFinite: if a loss or the latents stop being finite.
    """
    decoded, pairs = given_image(image), given_drags(drags)
    prompt, given, runtime = given_prompt(prompt), given_lora(lora), given_runtime(runtime)
    model, segmenter = given_name("model", model), given_name("segmenter", segmenter)
    vae = None if vae is None else given_name("vae", vae)
    pixels = decoded.pixels
    settings = _settings(preset, config, model, has_mask=mask is not None)
    if wrong := outside(pairs, pixels.shape[1], pixels.shape[0]):
        raise InvalidEdit(wrong[1])
    user_mask = _user_mask(mask, pixels, settings)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    diffusion = DiffusionModel.load(find_model(model, vae), settings.dtype, runtime.device)
    diffusion.quicken(runtime)
    settings = settings.suited_to(diffusion.architecture)
    frame = diffusion.frame(*pixels.shape[:2], settings.working_size)
    channels, reference = (
        diffusion.vae.config.latent_channels,
        diffusion.architecture.reference_latents,
    )
    settings = settings.scaled_to(channels, *frame.latent_size, reference)
    working = working_image(pixels, frame)
    posterior = diffusion.posterior(working)

    weights: LoraWeights | None = None
    losses: list[float] = []
    if isinstance(given, LoraFile):
        check_fit(given, model_layers(diffusion))
        weights = read_lora(given)
    elif not settings.no_lora(given):
        seed = seed_of_draws(settings.seed, working, prompt)
        weights, losses = train_lora(
            diffusion,
            _unpadded(posterior, frame),
            diffusion.encode_prompt(prompt),
            settings.train_lora,
            seed=seed,
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
        # A LoRA may be for the text encoder, too.
        task = _Task(diffusion, settings, frame, prompt, diffusion.encode_prompt(prompt))
        drag: DragReport
        if isinstance(method := settings.optimize_latent, PictureMethod):
            assert segments is not None
            limit = editable if limits_content(settings.build_mask) else None
            drag = moved = method.move(
                PictureProblem(pixels, pairs, superpixels, segments, limit, frame)
            )
            image, odd = _painted(task, moved, limit)
            warnings += [*moved.warnings, *odd]
        else:
            assert isinstance(method, LatentMethod)
            (trajectory,) = invert(
                diffusion, posterior[0], task.conditioning, settings.invert_image
            )
            problem = DragProblem(
                trajectory=trajectory,
                conditioning=task.conditioning,
                drags=pairs,
                superpixels=superpixels,
                mask=editable,
                frame=frame,
                inversion=settings.invert_image,
                seed=settings.seed,
            )
            drag = dragged = method.drag(diffusion, problem, Hooks())
            image = _sampled(task, problem, dragged, pixels)
            warnings += dragged.warnings
    seen = working_image(image, frame)
    testimony, unheard = _testimony(diffusion, working, seen, prompt, pairs, frame, settings)
    return EditResult(
        image=image,
        mask=image_mask(editable, frame),
        superpixels=superpixels,
        drag=drag,
        witness=testimony,
        lora_losses=tuple(losses),
        warnings=(*warnings, *unheard),
        notes=(
            *decoded.notes,
            *drag_notes(pairs),
            *diffusion.prompts.notes(prompt),
            *(user_mask.notes if user_mask else ()),
            *_idle_mode(config, user_mask),
        ),
    )


@dataclass(frozen=True)
class _Task:
    """What an edit is made with."""

    model: DiffusionModel
    settings: EditConfig
    frame: Frame
    prompt: str
    conditioning: Conditioning


def _painted(
    task: _Task, moved: MovedPicture, limit: Bool[np.ndarray, "hf wf"] | None
) -> tuple[Pixels, tuple[str, ...]]:
    """Return the moved picture, its hole painted if the settings ask for it, with warnings."""
    pasted, settings = moved.pasted, task.settings
    painted = unpainted(pasted, settings.sample_image)
    if painted is None:
        seed = seed_of_draws(settings.seed, pasted.picture, task.prompt)
        holed = HoledPicture(pasted, limit, task.conditioning, task.frame, seed)
        (painted,) = paint_holes(task.model, [holed], settings.sample_image, settings.invert_image)
    return painted.picture, painted.warnings


def _sampled(task: _Task, problem: DragProblem, dragged: DragResult, image: Pixels) -> Pixels:
    """Sample from dragged latents, within the image itself if the settings ask for it."""
    held = torch.from_numpy(latent_mask(problem.mask)).to(task.model.device)
    _, clean = sample(
        task.model,
        [Reference(problem.trajectory[: dragged.level + 1], task.conditioning)],
        [DraggedEdit(dragged.latents, 0, problem.drags, task.frame, held)],
        task.settings.sample_image,
        task.settings.invert_image.num_steps,
    )
    sampled = native_image(task.model.decode(clean), task.frame)
    if not task.settings.sample_image.composite or not problem.mask.any():
        return sampled
    return composite(image, sampled, image_mask(problem.mask, task.frame), task.frame)


def _testimony(
    diffusion: DiffusionModel,
    source: Pixels,
    edited: Pixels,
    prompt: str,
    pairs: Sequence[Drag],
    frame: Frame,
    settings: EditConfig,
) -> tuple[WitnessResult | None, tuple[str, ...]]:
    """Ask the witness; where it fails the picture is good all the same, and a warning says so."""
    try:
        return locate_handles(
            diffusion, source, edited, prompt, pairs, frame, settings.locate_handles
        ), ()
    except NotFinite as error:
        return None, (f"not witnessed: {error}",)


def _settings(
    preset: str | None, config: EditConfig | None, model: str, *, has_mask: bool
) -> EditConfig:
    if config is not None and not isinstance(config, EditConfig):
        raise InvalidEdit(
            f"config is a {type(config).__name__}: give an EditConfig, such as "
            'adaptivedrag.preset("plus").merged({"seed": 1})'
        )
    if preset is not None and not isinstance(preset, str):
        raise InvalidEdit(f"preset is a {type(preset).__name__}: give its name")
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


def _idle_mode(config: EditConfig | None, mask: DecodedMask | None) -> Iterator[str]:
    mode = config.build_mask.mode if config else "user"
    if mask is not None and mode != "user":
        yield f'build_mask.mode = "{mode}" is not used, because the mask says what may change'


def _unpadded(posterior: tuple[Tensor, Tensor], frame: Frame) -> tuple[Tensor, Tensor]:
    rows, cols = frame.image_latents
    mean, deviation = posterior
    return mean[..., :rows, :cols], deviation[..., :rows, :cols]
