"""Stable Diffusion 2.x and SDXL: against diffusers' own pipelines, and in their full size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from adaptivedrag.config import EditConfig
from adaptivedrag.errors import InvalidEdit, UnsupportedModel
from adaptivedrag.model.architectures import recognized
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.architectures.sd2 import STABLE_DIFFUSION_2, STABLE_DIFFUSION_2_AT_768
from adaptivedrag.model.architectures.sdxl import STABLE_DIFFUSION_XL
from adaptivedrag.model.clip_vocabulary import CONFIGS
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.ddim import Schedule
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.lora import TARGETS
from adaptivedrag.reference_control import reference_control

PIPELINES = {
    "sd2-v": StableDiffusionPipeline,
    "sdxl": StableDiffusionXLPipeline,
}
CROSS_DOWN, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
XL_BLOCKS = {
    "down_block_types": ("DownBlock2D", CROSS_DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, CROSS_UP, "UpBlock2D"),
}
SD_2_1 = {
    "sample_size": 96,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL_BASE = {
    **XL_BLOCKS,
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize("family", PIPELINES)
def test_a_pass_of_the_unet_is_that_of_diffusers_own_pipeline(family, family_directory):
    directory = family_directory(family)
    pipeline = PIPELINES[family].from_pretrained(directory)
    model = DiffusionModel.load(directory)
    latents = torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(0))
    seen = []
    for prompt in ("a face, old", "", "a very long prompt " * 10):
        expected = by_pipeline(pipeline, prompt, latents)
        with torch.no_grad():
            found = model.predict(latents, 681, model.encode_prompt(prompt))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        seen.append(found)
    assert (seen[0] - seen[1]).abs().max() > 1e-4


@torch.no_grad()
def by_pipeline(pipeline, prompt: str, latents: torch.Tensor) -> torch.Tensor:
    """Predict as the pipeline does for a picture of the latents' size, without guidance."""
    encoded = pipeline.encode_prompt(
        prompt=prompt,
        device="cpu",
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    added = None
    if isinstance(pipeline, StableDiffusionXLPipeline):
        size = (8 * latents.shape[-2], 8 * latents.shape[-1])
        pooled = encoded[2]
        time_ids = pipeline._get_add_time_ids(size, (0, 0), size, latents.dtype, pooled.shape[-1])
        added = {"text_embeds": pooled, "time_ids": time_ids}
    return pipeline.unet(
        latents, 681, encoder_hidden_states=encoded[0], added_cond_kwargs=added
    ).sample


@pytest.mark.parametrize(
    ("dtype", "changes", "expected"),
    [
        ("float16", {}, torch.float32),
        ("float16", {"force_upcast": False}, torch.float16),
        ("bfloat16", {}, torch.bfloat16),
    ],
    ids=["float16", "float16 with a VAE made for it", "bfloat16"],
)
def test_sdxls_vae_stays_in_float32_where_float16_is_too_narrow(
    family_directory, tmp_path, dtype, changes, expected
):
    folder = shutil.copytree(family_directory("sdxl") / "vae", tmp_path / "vae")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    part = STABLE_DIFFUSION_XL.parts["vae"]
    assert part.load(folder, dtype, part.tensors(folder)).dtype == expected
    plain = STABLE_DIFFUSION_1.parts["vae"]
    assert plain.load(folder, dtype, plain.tensors(folder)).dtype == getattr(torch, dtype)


def test_a_picture_passes_a_vae_that_is_wider_than_the_unet(family_directory):
    model = DiffusionModel.load(family_directory("sdxl"), "float16")
    assert (model.unet.dtype, model.vae.dtype) == (torch.float16, torch.float32)
    mean, _ = model.posterior(np.full((64, 64, 3), 90, np.uint8))
    assert mean.dtype == torch.float32
    assert model.decode(mean).shape == (64, 64, 3)


class NoPrompts:
    """The prompt encoder of a model that is asked nothing."""

    modules = ()

    def encode(self, prompt, device):
        raise AssertionError(prompt)


def on_meta(**config) -> DiffusionModel:
    meta = torch.device("meta")
    with meta:
        unet = UNet2DConditionModel(**config)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
        )
    architecture = recognized(unet.config, Path("model"))
    schedule = Schedule((0.5,) * 1000)
    return DiffusionModel(architecture, unet, vae, NoPrompts(), schedule, meta, torch.float32)


@pytest.mark.parametrize(
    ("config", "family", "parameters", "linears"),
    [
        (SD_2_1, STABLE_DIFFUSION_2_AT_768, 865_910_724, 128),
        (SDXL_BASE, STABLE_DIFFUSION_XL, 2_567_463_684, 560),
    ],
    ids=["2.1", "XL"],
)
def test_full_size_unets_have_the_shapes_of_their_family(config, family, parameters, linears):
    model = on_meta(**config)
    assert model.architecture is family
    assert sum(value.numel() for value in model.unet.parameters()) == parameters
    adapted = [name for name, _ in model.unet.named_modules() if name.endswith(TARGETS)]
    assert len(adapted) == linears
    every = model.self_attentions()
    assert len(every) == family.self_attentions

    _, side, _ = family.reference_latents
    added = {"text_embeds": torch.empty(1, 1280, device="meta")} if linears == 560 else {}
    tokens = torch.empty(1, 77, config["cross_attention_dim"], device="meta")
    latents = torch.empty(1, 4, side, side, device="meta")
    noise, (features,) = model.predict_with_features(latents, 681, Conditioning(tokens, added))
    assert noise.shape == latents.shape
    assert features.shape == (640, side, side)

    plain = {name: attention.processor for name, attention in every.items()}
    with reference_control(model, family.first_controlled):
        taken = [name for name, a in every.items() if a.processor is not plain[name]]
    assert len(taken) == 6
    assert taken[0].startswith(f"up_blocks.{family.feature_block}.attentions.0")
    assert {model.unet.get_submodule(name).to_q.in_features for name in taken} <= {640, 320}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {
                "down_block_types": ("DownBlock2D", CROSS_DOWN, CROSS_DOWN, "DownBlock2D"),
                "up_block_types": ("UpBlock2D", CROSS_UP, CROSS_UP, "UpBlock2D"),
                "transformer_layers_per_block": 4,
                "addition_embed_type": "text_time",
            },
            "model is the refiner of Stable Diffusion XL: .* use the base model",
        ),
        ({**SDXL_BASE, "time_cond_proj_dim": 256}, r"\(LCM\): .* it was distilled from"),
        ({"time_cond_proj_dim": 256}, r"\(LCM\)"),
        (
            {**SDXL_BASE, "transformer_layers_per_block": [0, 2, 4]},
            r"Stable Diffusion XL \(1, 2, 10\): use a model of Stable Diffusion 1\.x or "
            r"Stable Diffusion 2\.x or Stable Diffusion XL",
        ),
        ({**SDXL_BASE, "addition_embed_type": None}, "addition_embed_type = None"),
    ],
    ids=["refiner", "LCM of SDXL", "LCM of 1.x", "a smaller SDXL", "no sizes"],
)
def test_what_is_of_no_family_is_refused_by_its_name_or_by_what_differs(config, said):
    with pytest.raises(UnsupportedModel, match=said):
        recognized(config, Path("model"))


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({}, STABLE_DIFFUSION_1),
        ({**SD_2_1, "sample_size": 64}, STABLE_DIFFUSION_2),
        ({"use_linear_projection": True}, STABLE_DIFFUSION_2),
        ({**SDXL_BASE, "sample_size": 64}, STABLE_DIFFUSION_XL),
    ],
    ids=["1.x", "2.x at 512", "2.x without a size", "SDXL Turbo"],
)
def test_a_unet_is_of_the_family_that_its_configuration_says(config, family):
    assert recognized(config, Path("model")) is family


@pytest.mark.parametrize(
    ("folder", "family"),
    [
        ("sd1", STABLE_DIFFUSION_1),
        ("sd2_base", STABLE_DIFFUSION_2),
        ("sd2", STABLE_DIFFUSION_2_AT_768),
        ("sdxl", STABLE_DIFFUSION_XL),
    ],
)
def test_settings_that_ship_with_the_project_are_of_their_family(folder, family):
    config = json.loads((CONFIGS / folder / "unet" / "config.json").read_text())
    assert recognized(config, Path("model")) is family


@pytest.mark.parametrize(
    ("family", "first"), [(STABLE_DIFFUSION_1, 10), (STABLE_DIFFUSION_XL, 64)], ids=["1.x", "XL"]
)
def test_what_settings_leave_open_is_the_familys(family, first):
    config = EditConfig()
    assert config.suited_to(family).sample_image.reference_first_layer == first
    chosen = config.merged({"sample_image": {"reference_first_layer": 16}})
    assert chosen.suited_to(family) == chosen
    beyond = config.merged({"sample_image": {"reference_first_layer": 71}})
    with pytest.raises(InvalidEdit, match="reference_first_layer = 71, and Stable Diffusion"):
        beyond.suited_to(family)
    reference = family.reference_latents
    assert config.scaled_to(*reference, reference) == config
