"""Stable Diffusion 1.5's own shapes and names, on a full-size UNet without weights."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from adaptivedrag.config import TrainLoraConfig
from adaptivedrag.errors import UnsupportedModel
from adaptivedrag.model.architectures import recognized
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.ddim import Schedule
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.lora import adapter
from adaptivedrag.reference_control import reference_control


class NoPrompts:
    """The prompt encoder of a model that is asked nothing."""

    modules = ()

    def encode(self, prompt, device):
        raise AssertionError(prompt)


def on_meta(**changes) -> DiffusionModel:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, **changes)
    schedule = Schedule((0.5,) * 1000)
    architecture = recognized(unet.config, Path("model"))
    device = torch.device("meta")
    return DiffusionModel(
        architecture, unet, AutoencoderKL(), NoPrompts(), schedule, device, torch.float32
    )


@pytest.fixture(scope="module")
def sd15() -> DiffusionModel:
    return on_meta(sample_size=64)


def test_the_feature_map_has_640_channels_at_the_latents_resolution(sd15):
    latents = torch.empty(1, 4, 64, 64, device="meta")
    conditioning = Conditioning(torch.empty(1, 77, 768, device="meta"))
    noise, (features,) = sd15.predict_with_features(latents, 681, conditioning)
    assert noise.shape == latents.shape
    assert features.shape == (640, 64, 64)


def test_reference_control_takes_six_self_attentions_of_32_and_64_squared_tokens(sd15):
    assert len(sd15.self_attentions()) == 16
    plain = {name: a.processor for name, a in sd15.self_attentions().items()}
    with reference_control(sd15, 10):
        taken = [n for n, a in sd15.self_attentions().items() if a.processor is not plain[n]]
    widths = [sd15.unet.get_submodule(name).to_q.in_features for name in taken]
    assert widths == [640, 640, 640, 320, 320, 320]
    assert taken[0] == "up_blocks.2.attentions.0.transformer_blocks.0.attn1"


def test_lora_adapts_128_linears_with_3188736_parameters():
    model = on_meta()
    rank = TrainLoraConfig().rank
    with adapter(model.unet, rank, torch.Generator()) as parameters:
        assert len(parameters) == 2 * 128
        assert sum(value.numel() for value in parameters.values()) == 3_188_736


CROSS_DOWN, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        (
            {
                "block_out_channels": (32, 64),
                "down_block_types": (CROSS_DOWN, "DownBlock2D"),
                "up_block_types": ("UpBlock2D", CROSS_UP),
            },
            "down_block_types = ('CrossAttnDownBlock2D', 'DownBlock2D')",
        ),
        (
            {
                "block_out_channels": (32, 64, 64),
                "down_block_types": ("DownBlock2D", CROSS_DOWN, CROSS_DOWN),
                "up_block_types": (CROSS_UP, CROSS_UP, "UpBlock2D"),
                "transformer_layers_per_block": (1, 2, 4),
                "use_linear_projection": True,
            },
            "transformer_layers_per_block = (1, 2, 4)",
        ),
        ({"mid_block_type": None}, "mid_block_type = None"),
        (
            {"up_block_types": (CROSS_UP, CROSS_UP, CROSS_UP, "UpBlock2D")},
            "up_block_types = ('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'",
        ),
        ({"layers_per_block": 1}, "layers_per_block = 1"),
        ({"transformer_layers_per_block": 2}, "transformer_layers_per_block = 2"),
    ],
    ids=["two levels", "a smaller SDXL", "no middle block", "other blocks", "thin", "deep"],
)
def test_a_unet_of_no_known_architecture_is_refused_by_what_differs(changes, differs):
    message = rf"the UNet has {re.escape(differs)}.* use a model of Stable Diffusion 1\.x"
    with pytest.raises(UnsupportedModel, match=message):
        on_meta(**changes)


def test_a_directory_whose_unet_is_another_is_refused_when_it_is_loaded(
    tiny_model_directory, tmp_path
):
    UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=(CROSS_DOWN, "DownBlock2D"),
        up_block_types=("UpBlock2D", CROSS_UP),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    ).save_pretrained(tmp_path / "model" / "unet")
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        (tmp_path / "model" / part).symlink_to(tiny_model_directory / part)
    with pytest.raises(
        UnsupportedModel, match=r"down_block_types .* use a model of Stable Diffusion 1\.x"
    ):
        DiffusionModel.load(tmp_path / "model")
