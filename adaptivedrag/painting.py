"""Painting: the model generates what content has left, the rest of the picture being known.

Not in the paper. The hole is denoised from noise while everything around it follows the trajectory
of its own inversion. At every level it is denoised and noised again several times, so that it
comes to agree with what surrounds it (RePaint; Lugmayr et al., 2022, Sec. 4.2). It reads the keys
and values of the known picture, and not of what was in the hole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from adaptivedrag.coherence import incoherence
from adaptivedrag.compositing import blended, feather, feathered, with_texture
from adaptivedrag.config import EditConfig, SampleImageConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.inversion import invert
from adaptivedrag.masks import image_mask, latent_mask, limits_content, user_mask
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel, native_image, working_image
from adaptivedrag.points import Frame
from adaptivedrag.reference_control import first_controlled, reference_control
from adaptivedrag.warp.pasting import Pasted

MOST = 0.5
"""A hole of more than this share of the picture is not painted."""

PREFERENCE = (1.0, 1.0, 1.25, 1.25)
"""How the incoherence of each filling counts: a rim that is no glow should stay."""

Pixels = UInt8[np.ndarray, "h w 3"]
Region = Bool[np.ndarray, "h w"]


@torch.no_grad()
def paint(
    model: DiffusionModel,
    trajectory: Float[Tensor, "level_1 c h w"],
    hole: Bool[Tensor, "h w"],
    hidden: Bool[Tensor, "h w"],
    conditioning: Conditioning,
    *,
    num_steps: int,
    rounds: int,
    first_layer: int | None,
    generator: torch.Generator,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Float[Tensor, "1 c h w"]:
    """Return clean latents of a picture whose hole is painted; outside it they are its own.

    Args:
        trajectory: clean latents of the picture, then those after each inversion step.
        hole: True where the picture is not known.
        hidden: True where it shows what the hole should not be like: its keys and values are not
            read.
        num_steps: sampling steps from pure noise, of which those below the level are taken.
        rounds: times that each level is denoised.
        first_layer: self-attention from which keys and values of the picture are read, if any.
        generator: of the noise, on the CPU.

    Raises:
        NotFinite: if the latents are not finite.
    """
    level, schedule = len(trajectory) - 1, model.schedule
    timesteps = schedule.timesteps(num_steps)[num_steps - level :]

    def noised(latents: Tensor, kept: float) -> Tensor:
        """Noise latents of which a share of the variance is kept, as alpha names it."""
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        return kept**0.5 * latents + (1 - kept) ** 0.5 * noise

    place = torch.zeros(1, dtype=torch.long, device=model.device)
    painted = noised(trajectory[:1], schedule.alpha(timesteps[0]))
    with reference_control(model, first_layer, hidden=hidden) as control:
        for step, timestep in enumerate(timesteps, start=1):
            below = schedule.previous(timestep, num_steps)
            known, next_known = trajectory[level - step + 1, None], trajectory[level - step, None]
            if first_layer is not None:
                with control.writing():
                    model.predict_noise(known, timestep, conditioning)
            for again in reversed(range(rounds)):
                painted = torch.where(hole, painted, known)
                with control.reading(place):
                    noise = model.predict_noise(painted, timestep, conditioning)
                painted = schedule.move(painted, noise, timestep, below)
                if again:
                    painted = noised(painted, schedule.alpha(timestep) / schedule.alpha(below))
            painted = torch.where(hole, painted, next_known)
            on_step(step, level)
    if not painted.isfinite().all():
        raise NotFinite("painted latents are not finite: use a wider dtype")
    return painted


@dataclass(frozen=True)
class Painted:
    """A moved picture whose hole is painted.

    Attributes:
        details: what was done, as JSON.
        warnings: a line each.
    """

    picture: Pixels
    details: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def needs_painting(pasted: Pasted, settings: SampleImageConfig) -> bool:
    """Return whether a model has anything to do for a moved picture."""
    return settings.holes == "paint" and bool(pasted.hole.any())


def paint_hole(
    model: DiffusionModel,
    pasted: Pasted,
    mask: Bool[np.ndarray, "hf wf"],
    conditioning: Conditioning,
    frame: Frame,
    config: EditConfig,
    *,
    seed: int,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Painted:
    """Let the model paint the hole of a moved picture and its rim, where that looks better.

    Each piece of the hole becomes what is nearest to its surroundings: filled smoothly or painted,
    and its rim left or taken along.

    Args:
        mask: True where the image may change, on the feature grid. An empty one holds nothing.
        seed: of the noise.
        on_step: takes the passes of the inversion and the painting that are done, and all of them.

    Raises:
        NotFinite: if latents are not finite.
    """
    wide = pasted.hole | pasted.rim
    if wide.mean() > MOST:
        return Painted(
            pasted.picture,
            {"holes": []},
            (
                f"the hole is {wide.mean():.0%} of the picture, too much to paint from the rest: "
                "it stays filled smoothly; drag something smaller",
            ),
        )
    drawn = _drawn(model, pasted, conditioning, frame, config, seed, on_step)
    painted = _laid_on(pasted, drawn, frame, config.sample_image)
    if not limits_content(config.build_mask) or not mask.any():
        return painted
    may = image_mask(mask, frame)[..., None]
    return replace(painted, picture=np.where(may, painted.picture, pasted.picture))


def _drawn(
    model: DiffusionModel,
    pasted: Pasted,
    conditioning: Conditioning,
    frame: Frame,
    config: EditConfig,
    seed: int,
    on_step: Callable[[int, int], None],
) -> Pixels:
    """Paint the hole and its rim; around them the picture keeps its texture if it should."""
    settings, inversion = config.sample_image, config.invert_image
    wide = pasted.hole | pasted.rim
    clean = model.posterior(working_image(pasted.cleared, frame))[0]
    level, of_each = inversion.inverted_steps, 1 + settings.hole_rounds
    passes = level * (1 + of_each)
    (trajectory,) = invert(
        model, clean, conditioning, inversion, on_step=lambda step, _: on_step(step, passes)
    )
    latents = paint(
        model,
        trajectory,
        torch.from_numpy(_latent_cells(wide, frame)).to(model.device),
        torch.from_numpy(_latent_cells(wide | pasted.arrived, frame)).to(model.device),
        conditioning,
        num_steps=inversion.num_steps,
        rounds=settings.hole_rounds,
        first_layer=first_controlled(model, settings),
        generator=torch.Generator().manual_seed(seed),
        on_step=lambda step, _: on_step(level + of_each * step, passes),
    )
    drawn = native_image(model.decode(latents), frame)
    if not settings.keep_texture:
        return drawn
    round_trip = native_image(model.decode(clean), frame)
    return with_texture(drawn, round_trip, pasted.cleared, wide, frame)


def _laid_on(pasted: Pasted, drawn: Pixels, frame: Frame, settings: SampleImageConfig) -> Painted:
    """Give each piece of the hole the filling that is nearest to its surroundings."""
    from scipy.ndimage import find_objects, label

    around = pasted.picture if settings.composite else drawn
    margin = ceil(feather(frame)) + 1
    rim, hole = pasted.rim, pasted.hole
    fillings = {
        "smooth": pasted.picture,
        "painted": blended(pasted.picture, drawn, feathered(hole, frame)),
        "smooth, with its rim": pasted.cleared,
        "painted, with its rim": blended(pasted.cleared, drawn, feathered(hole | rim, frame)),
    }
    shrunk = [
        working_image(each, frame)[: frame.height, : frame.width] for each in fillings.values()
    ]
    known = _working(~(hole | rim | pasted.arrived), frame)
    pieces, _ = label(hole | rim)
    picture, choices = around.copy(), []
    for number, place in enumerate(find_objects(pieces), start=1):
        piece = pieces == number
        found = incoherence(shrunk, _working(piece, frame), known)
        name = [*fillings][int(np.argmin(np.multiply(found or [inf], PREFERENCE)))]
        # An image is often much larger than a piece of its hole.
        box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in place)
        share = feathered(piece[box], frame)
        picture[box] = blended(picture[box], fillings[name][box], share)
        choices.append({"share": float(piece.mean()), "filling": name, "incoherence": found})
    return Painted(picture, {"holes": choices})


def _working(region: Region, frame: Frame) -> Bool[np.ndarray, "hw ww"]:
    """Bring a region of the image to the working image, without its padding."""
    rows = ((np.arange(frame.height) + 0.5) * frame.image_height / frame.height).astype(int)
    cols = ((np.arange(frame.width) + 0.5) * frame.image_width / frame.width).astype(int)
    return region[np.ix_(rows, cols)]


def _latent_cells(region: Region, frame: Frame) -> Bool[np.ndarray, "hl wl"]:
    """Bring a region of the image to the latent grid: a cell that it touches is True."""
    return latent_mask(user_mask(region, frame))
