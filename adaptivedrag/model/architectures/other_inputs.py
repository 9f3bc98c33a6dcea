"""UNets of the supported families that take more than noisy latents, named as what they are."""

from collections.abc import Mapping
from typing import Any

INPAINTING = "an inpainting model, which takes a mask and the masked picture too"
PIX2PIX = "an InstructPix2Pix model, which takes the picture to be edited too"
PUBLISHED = {
    9: INPAINTING,
    8: PIX2PIX,
    7: "an upscaler, which takes a small picture too",
    5: "a depth-to-image model, which takes a depth map too",
}
"""By `in_channels`, with latents of four channels."""


def other_inputs(unet_config: Mapping[str, Any]) -> str | None:
    """Return what a UNet is that takes more than latents; None for a text-to-image one."""
    taken, given = (unet_config.get(key, 4) for key in ("in_channels", "out_channels"))
    if taken == given or not isinstance(taken, int) or not isinstance(given, int):
        return None
    known = {2 * given + 1: INPAINTING, 2 * given: PIX2PIX, **PUBLISHED}
    return known.get(taken, "a model with inputs of its own")
