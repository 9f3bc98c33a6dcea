"""Painting: the model generates what content has left, the rest of the picture being known.

Not in the paper. The hole is denoised from noise while everything around it follows the trajectory
of its own inversion. At every level it is denoised and noised again several times, so that it
comes to agree with what surrounds it (RePaint; Lugmayr et al., 2022, Sec. 4.2). It reads the keys
and values of the known picture, and not of what was in the hole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from adaptivedrag.coherence import incoherence
from adaptivedrag.compositing import blended, feather, feathered, with_texture
from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.inversion import invert
from adaptivedrag.masks import image_mask, latent_mask, user_mask
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
    trajectories: Float[Tensor, "b level_1 c h w"],
    holes: Bool[Tensor, "b h w"],
    hidden: Bool[Tensor, "b h w"],
    conditioning: Conditioning,
    *,
    num_steps: int,
    rounds: int,
    first_layer: int | None,
    generators: Sequence[torch.Generator],
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Float[Tensor, "b c h w"]:
    """Return clean latents of pictures whose holes are painted; outside they are their own.

    Pictures do not affect each other: in a batch, latents differ from those of one alone by the
    rounding of float32 only.

    Args:
        trajectories: clean latents of each picture, then those after each inversion step.
        holes: True where a picture is not known.
        hidden: True where it shows what the hole should not be like: its keys and values are not
            read.
        num_steps: sampling steps from pure noise, of which those below the level are taken.
        rounds: times that each level is denoised.
        conditioning: one item for all pictures, or one per picture.
        first_layer: self-attention from which keys and values of the picture are read, if any.
        generators: of each picture's noise, on the CPU.

    Raises:
        NotFinite: if the latents of any picture are not finite.
    """
    level, schedule, holes = trajectories.shape[1] - 1, model.schedule, holes[:, None]
    timesteps = schedule.timesteps(num_steps)[num_steps - level :]

    def noised(latents: Tensor, kept: float) -> Tensor:
        """Noise latents of which a share of the variance is kept, as alpha names it."""
        draws = [torch.randn(latents[:1].shape, generator=each) for each in generators]
        noise = torch.cat(draws).to(latents.device)
        return kept**0.5 * latents + (1 - kept) ** 0.5 * noise

    places = torch.arange(len(trajectories), device=model.device)
    painted = noised(trajectories[:, 0], schedule.alpha(timesteps[0]))
    with reference_control(model, first_layer, hidden=hidden) as control:
        for step, timestep in enumerate(timesteps, start=1):
            below = schedule.previous(timestep, num_steps)
            known, next_known = trajectories[:, level - step + 1], trajectories[:, level - step]
            if first_layer is not None:
                with control.writing():
                    model.predict_noise(known, timestep, conditioning)
            for again in reversed(range(rounds)):
                painted = torch.where(holes, painted, known)
                with control.reading(places):
                    noise = model.predict_noise(painted, timestep, conditioning)
                painted = schedule.move(painted, noise, timestep, below)
                if again:
                    painted = noised(painted, schedule.alpha(timestep) / schedule.alpha(below))
            painted = torch.where(holes, painted, next_known)
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


@dataclass(frozen=True, eq=False)
class HoledPicture:
    """A moved picture whose hole is to be painted.

    Attributes:
        mask: True where the image may change, on the feature grid; None, and an empty one:
            wherever the hole is.
        conditioning: of one item.
        seed: of the noise.
    """

    pasted: Pasted
    mask: Bool[np.ndarray, "hf wf"] | None
    conditioning: Conditioning
    frame: Frame
    seed: int


def unpainted(pasted: Pasted, settings: SampleImageConfig) -> Painted | None:
    """Return a moved picture as it is if nothing of it is to be painted, with why; else None."""
    if settings.holes != "paint" or not pasted.hole.any():
        return Painted(pasted.picture, {})
    share = (pasted.hole | pasted.rim).mean()
    if share <= MOST:
        return None
    warning = (
        f"the hole is {share:.0%} of the picture, too much to paint from the rest: "
        "it stays filled smoothly; drag something smaller"
    )
    return Painted(pasted.picture, {"holes": []}, (warning,))


def paint_holes(
    model: DiffusionModel,
    pictures: Sequence[HoledPicture],
    settings: SampleImageConfig,
    inversion: InvertImageConfig,
    *,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> list[Painted]:
    """Let the model paint the holes of moved pictures and their rims, where that looks better.

    Each piece of a hole becomes what is nearest to its surroundings: filled smoothly or painted,
    and its rim left or taken along. All pictures have latents of one size.

    Args:
        on_step: takes the passes of the inversion and the painting that are done, and all of them.

    Raises:
        NotFinite: if latents of any picture are not finite.
    """
    drawn = _drawn(model, pictures, settings, inversion, on_step)
    return [_finished(*each, settings) for each in zip(pictures, drawn, strict=True)]


def _finished(picture: HoledPicture, drawn: Pixels, settings: SampleImageConfig) -> Painted:
    painted = _laid_on(picture.pasted, drawn, picture.frame, settings)
    if picture.mask is None or not picture.mask.any():
        return painted
    may = image_mask(picture.mask, picture.frame)[..., None]
    return replace(painted, picture=np.where(may, painted.picture, picture.pasted.picture))


def _drawn(
    model: DiffusionModel,
    pictures: Sequence[HoledPicture],
    settings: SampleImageConfig,
    inversion: InvertImageConfig,
    on_step: Callable[[int, int], None],
) -> list[Pixels]:
    """Paint each hole and its rim; around them a picture keeps its texture if it should."""

    def cells(regions: Iterable[Region]) -> Bool[Tensor, "b hl wl"]:
        each = zip(regions, pictures, strict=True)
        found = [_latent_cells(region, picture.frame) for region, picture in each]
        return torch.from_numpy(np.stack(found)).to(model.device)

    every = [picture.pasted for picture in pictures]
    wide = [pasted.hole | pasted.rim for pasted in every]
    working = [working_image(picture.pasted.cleared, picture.frame) for picture in pictures]
    clean = torch.cat([model.posterior(image)[0] for image in working])
    conditioning = Conditioning.concatenate([picture.conditioning for picture in pictures])
    level, of_each = inversion.inverted_steps, 1 + settings.hole_rounds
    passes = level * (1 + of_each)
    trajectories = invert(
        model, clean, conditioning, inversion, on_step=lambda step, _: on_step(step, passes)
    )
    latents = paint(
        model,
        trajectories,
        cells(wide),
        cells(region | pasted.arrived for region, pasted in zip(wide, every, strict=True)),
        conditioning,
        num_steps=inversion.num_steps,
        rounds=settings.hole_rounds,
        first_layer=first_controlled(model, settings),
        generators=[torch.Generator().manual_seed(picture.seed) for picture in pictures],
        on_step=lambda step, _: on_step(level + of_each * step, passes),
    )
    made = zip(pictures, latents.split(1), clean.split(1), strict=True)
    return [_decoded(model, *each, settings) for each in made]


def _decoded(
    model: DiffusionModel,
    picture: HoledPicture,
    latents: Float[Tensor, "1 c hl wl"],
    clean: Float[Tensor, "1 c hl wl"],
    settings: SampleImageConfig,
) -> Pixels:
    """Decode a painting.

    Args:
        clean: latents of the picture as it was encoded, whose round trip shows what the VAE takes.
    """
    pasted, frame = picture.pasted, picture.frame
    drawn = native_image(model.decode(latents), frame)
    if not settings.keep_texture:
        return drawn
    round_trip = native_image(model.decode(clean), frame)
    return with_texture(drawn, round_trip, pasted.cleared, pasted.hole | pasted.rim, frame)


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
