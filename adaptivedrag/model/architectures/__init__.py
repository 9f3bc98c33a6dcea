"""The supported families of Stable Diffusion: one file each, and a line in the table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptivedrag.errors import UnsupportedModel
from adaptivedrag.model.architecture import Architecture, UnfitModel
from adaptivedrag.model.architectures.other_inputs import other_inputs
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.architectures.sd2 import STABLE_DIFFUSION_2, STABLE_DIFFUSION_2_AT_768
from adaptivedrag.model.architectures.sdxl import REFINER, STABLE_DIFFUSION_XL
from adaptivedrag.model.parts import read_settings
from adaptivedrag.model.source import Source

ARCHITECTURES: tuple[Architecture, ...] = (
    STABLE_DIFFUSION_1,
    STABLE_DIFFUSION_2_AT_768,
    STABLE_DIFFUSION_2,
    STABLE_DIFFUSION_XL,
)
"""In order: the first that recognizes a UNet counts."""

UNFIT_MODELS: tuple[UnfitModel, ...] = (
    REFINER,
    UnfitModel(
        "a model distilled for a few steps with guidance built in (LCM)",
        {"time_cond_proj_dim": 256},
        "inversion needs many small steps: use the model that it was distilled from",
    ),
)
"""What is refused by its name."""


def architecture_of(source: Source) -> Architecture:
    """Return the family of a model, by the configuration of its UNet.

    Raises:
        ModelUnavailable: if there is no configuration that can be read.
        UnsupportedModel: if no family fits; the message says which kind of model it is, or what
            differs from the nearest family.
    """
    config = read_settings(source.settings("unet") / "config.json")
    return recognized(config, source.path)


def recognized(unet_config: Mapping[str, Any], directory: Path) -> Architecture:
    """Return the family whose UNets have this configuration; raises as `architecture_of`."""
    if kind := other_inputs(unet_config):
        raise UnsupportedModel(
            f"{directory}: the UNet takes {unet_config['in_channels']} channels: it is {kind}. "
            "Edits need a text-to-image model, whose UNet takes latents alone: use the one that "
            "it was made from"
        )
    for unfit in UNFIT_MODELS:
        if unfit.is_that_of(unet_config):
            raise UnsupportedModel(f"{directory} is {unfit.name}: {unfit.remedy}")
    nearest = min(ARCHITECTURES, key=lambda known: len(known.differences(unet_config)))
    for key, found in nearest.differences(unet_config).items():
        names = " or ".join(dict.fromkeys(known.name for known in ARCHITECTURES))
        raise UnsupportedModel(
            f"{directory}: the UNet has {key} = {found!r:.200}, and {nearest.name} "
            f"{nearest.topology[key]!r}: use a model of {names}"
        )
    return nearest
