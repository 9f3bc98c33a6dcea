"""Compositing: pixels that were not edited stay, and moved content keeps its texture.

The VAE's eightfold code loses what is fine, so every picture that has been through it comes back
softer than it went in, edited or not. Here only what was generated comes from the code. Not in the
paper. Everything is at the image's own size.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from adaptivedrag.points import Frame

FEATHER = 3
"""Pixels of the working image over which a picture goes over into another, outside a region."""

Pixels = UInt8[np.ndarray, "h w 3"]
Region = Bool[np.ndarray, "h w"]


def composite(image: Pixels, edited: Pixels, changed: Region, frame: Frame) -> Pixels:
    """Return the edited picture where it changed, and the image everywhere else."""
    return blended(image, edited, feathered(changed, frame))


def with_texture(
    decoded: Pixels, round_trip: Pixels, picture: Pixels, hole: Region, frame: Frame
) -> Pixels:
    """Give a picture back what the VAE took from it, outside its hole.

    Args:
        decoded: the sampled picture.
        round_trip: the moved picture after it went through the VAE and back.
        picture: the moved picture.
        hole: what was generated, and so has no texture to give back.
    """
    lost = picture.astype(np.float32) - round_trip
    return as_pixels(decoded + (1 - feathered(hole, frame))[..., None] * lost)


def feather(frame: Frame) -> float:
    """Return the width of `FEATHER` in pixels of the image."""
    return FEATHER * frame.image_width / frame.width


def feathered(region: Region, frame: Frame) -> Float[np.ndarray, "h w"]:
    """Return 1 in a region, falling to 0 within `FEATHER` pixels around it."""
    from scipy.ndimage import distance_transform_edt

    if not region.any():
        return np.zeros(region.shape, np.float32)
    away = distance_transform_edt(~region)
    return np.clip(1 - away / (feather(frame) + 1), 0, 1).astype(np.float32)


def blended(under: Pixels, over: Pixels, share: Float[np.ndarray, "h w"]) -> Pixels:
    """Lay a share of one picture over another."""
    return as_pixels(under + share[..., None] * (over.astype(np.float32) - under))


def as_pixels(picture: Float[np.ndarray, "h w 3"]) -> Pixels:
    """Round a picture in gray levels to bytes."""
    return picture.round().clip(0, 255).astype(np.uint8)
