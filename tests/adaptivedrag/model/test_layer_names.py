"""Names of layers in the original code, against diffusers' own converter."""

import pytest
import torch
from support.tiny_models import FAMILIES, PLAIN

from adaptivedrag.model.layer_names import layers_by_alias, original_names

TOPOLOGIES = {
    "sd1": {},
    "sdxl": FAMILIES["sdxl"]["unet"],
    "one resnet a block": {"layers_per_block": 1},
}


@pytest.mark.parametrize("settings", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_a_state_under_original_names_is_converted_back_by_diffusers(settings):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):
        unet = UNet2DConditionModel(**PLAIN["unet"] | settings)
    state = unet.state_dict()
    layers = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    names = original_names(layers)
    assert names.keys() == {*layers}
    stored = {}
    for name, value in state.items():
        layer, _, ending = name.rpartition(".")
        stored[f"model.diffusion_model.{names[layer]}.{ending}"] = value
    back = convert_ldm_unet_checkpoint(stored, dict(unet.config))
    assert back.keys() == state.keys()
    assert all(value is state[name] for name, value in back.items())
    assert {*layers_by_alias(layers).values()} == {*layers}
