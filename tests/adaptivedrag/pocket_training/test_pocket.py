"""The shipped pocket diffusion model: it loads as Stable Diffusion does, and knows its scenes."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention import BasicTransformerBlock

from adaptivedrag.pocket_training.measurement import held_out_scenes, linear_psnr, vae_psnr
from adaptivedrag.pocket_training.pictures import to_tensor
from adaptivedrag.scenes import benchmark_scene, render, training_scene

POCKET = Path(str(files("adaptivedrag"))) / "pocket"


@pytest.fixture(scope="module")
def pipeline():
    torch.set_num_threads(1)
    return StableDiffusionPipeline.from_pretrained(
        POCKET / "diffusion", safety_checker=None, torch_dtype=torch.float32
    )


def test_the_unet_has_the_sixteen_transformer_blocks_of_sd15(pipeline):
    blocks = [m for m in pipeline.unet.modules() if isinstance(m, BasicTransformerBlock)]
    assert len(blocks) == 16


def test_all_weights_together_are_at_most_30_megabytes():
    assert sum(file.stat().st_size for file in POCKET.rglob("*.safetensors")) <= 30e6


def test_held_out_scenes_survive_the_vae_better_than_the_best_linear_code(pipeline):
    scenes = held_out_scenes(3)
    channels = pipeline.vae.config.latent_channels
    linear = linear_psnr([channels], scenes)[channels]
    assert vae_psnr(pipeline.vae, scenes) > linear + 1


def test_latents_of_scenes_have_unit_deviation(pipeline):
    images = to_tensor([render(benchmark_scene(i), 128).image for i in range(6)])
    with torch.no_grad():
        latents = pipeline.vae.encode(images).latent_dist.mean * pipeline.vae.config.scaling_factor
    assert 0.7 < float(latents.std()) < 1.3


def test_every_word_of_a_caption_is_one_token(pipeline):
    tokenizer = pipeline.tokenizer
    for number in range(120):
        for word in training_scene(number).caption().replace(",", " ,").split():
            assert len(tokenizer(word).input_ids) == 3, word


def test_any_prompt_can_be_encoded(pipeline):
    ids = pipeline.tokenizer("Zürich, ein Löwe 🦁!").input_ids
    assert max(ids) < pipeline.text_encoder.config.vocab_size
    assert pipeline.tokenizer.model_max_length == 77


def test_the_unet_predicts_noise_far_better_than_chance(pipeline):
    """Mean squared error at step 500, halfway to pure noise, on held-out scenes; chance is 1."""
    scenes = [benchmark_scene(i) for i in range(3)]
    images = to_tensor([render(scene, 256).image for scene in scenes])
    captions = [scene.caption() for scene in scenes]
    tokens = pipeline.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
    noise = torch.randn(3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = pipeline.vae.encode(images).latent_dist.mean * pipeline.vae.config.scaling_factor
        times = torch.full((3,), 500)
        noisy = pipeline.scheduler.add_noise(latents, noise, times)
        predicted = pipeline.unet(noisy, times, pipeline.text_encoder(tokens)[0]).sample
    assert float((predicted - noise).square().mean()) < 0.25
