"""The pocket UNet and text encoder: Stable Diffusion 1.5's topology at a hundredth of its size."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from adaptivedrag.pocket_training.linear_code import LatentCode
from adaptivedrag.pocket_training.pictures import Picture, grid, to_picture, to_tensor
from adaptivedrag.pocket_training.settings import DiffusionSettings, TextSettings, VaeSettings
from adaptivedrag.pocket_training.training import Losses, Training
from adaptivedrag.pocket_training.vae import kept_code, under_code
from adaptivedrag.pocket_training.vocabulary import LENGTH, build_tokenizer
from adaptivedrag.scenes import render, training_scene

TIMES = 1000

SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": TIMES,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def build_unet(settings: DiffusionSettings, channels: int) -> UNet2DConditionModel:
    """Build SD 1.5's blocks, two layers each: 16 transformer blocks."""
    return UNet2DConditionModel(
        sample_size=settings.picture // 8,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=settings.widths,
        layers_per_block=2,
        attention_head_dim=settings.heads,  # what diffusers means is the number of heads
        cross_attention_dim=settings.text.width,
        norm_num_groups=settings.groups,
    )


def build_text_encoder(settings: TextSettings, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            projection_dim=settings.width,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(**SCHEDULER)


class DiffusionTraining(Training):
    """DDPM training on the linear codes of scenes and of their mirror images.

    The VAE's encoder is that linear code, so the UNet needs no trained VAE.
    """

    def __init__(self, settings: DiffusionSettings, vae: VaeSettings, code: LatentCode) -> None:
        torch.manual_seed(settings.schedule.seed)
        self.tokenizer = build_tokenizer()
        unet = build_unet(settings, code.channels)
        unet.set_attn_processor(AttnProcessor())  # a tenth faster on a CPU at these few heads
        nn.init.zeros_(unet.conv_out.weight)
        nn.init.zeros_(unet.conv_out.bias)
        text_encoder = build_text_encoder(settings.text, self.tokenizer)
        super().__init__(
            nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}), settings.schedule
        )
        self.settings = settings
        self.vae = vae
        self.code = code
        self.alphas = build_scheduler().alphas_cumprod

    def state(self) -> dict[str, Tensor]:
        return super().state() | under_code(self.code.tensors())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore(state)
        self.code = kept_code(state, self.vae)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw latents and token ids of half a batch of fresh scenes and of their mirror images."""
        random, settings = self.random(step, 1), self.settings
        small = step < settings.small_steps
        size = settings.small_picture if small else settings.picture
        count = settings.small_batch if small else settings.schedule.batch
        scenes = [training_scene(int(n)) for n in random.integers(2**40, size=(count + 1) // 2)]
        images = [render(scene, size).image for scene in scenes]
        images += [image[:, ::-1] for image in images]
        captions = [scene.caption() for scene in scenes] * 2
        kept = random.random(len(captions)) >= settings.empty_captions
        texts = [text if keep else "" for text, keep in zip(captions, kept, strict=True)]
        return self.code.encode(to_tensor(images[:count])), self.tokens(texts[:count])

    def tokens(self, texts: list[str]) -> Tensor:
        encoded = self.tokenizer(
            texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        return encoded.input_ids

    def loss(self, step: int) -> tuple[Tensor, Losses]:
        latents, tokens = self.batch(step)
        generator = self.generator(step, 2)
        noise = torch.randn(latents.shape, generator=generator)
        times = _stratified_times(len(latents), self.settings, generator)
        alpha = self.alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        text = self.model["text_encoder"](tokens)[0]
        predicted = self.model["unet"](noisy, times, text).sample.float()
        error = (predicted - noise).square().mean((1, 2, 3))
        ratio = (alpha / (1 - alpha)).flatten()
        weight = ratio.clamp(max=self.settings.snr_limit) / ratio
        with torch.no_grad():
            late = times >= len(self.alphas) // 2
            parts = {"mse": error.mean().item(), "late": error[late].mean().item()}
            parts["early"] = error[~late].mean().item()
        return (weight * error).mean(), parts

    def sample_sheet(self) -> Picture:
        """Draw two rows of samples with guidance 2.5, the captions' kinds taking turns."""
        model = self.averaged_model()
        captions = [training_scene(2**41 + i).caption() for i in range(12)]
        latents = self.sample(model, captions, steps=25, guidance=2.5)
        images = to_picture(self.code.decode(latents))
        return grid([images[:6], images[6:]])

    @torch.no_grad()
    def sample(self, model: nn.Module, captions: list[str], steps: int, guidance: float) -> Tensor:
        scheduler = build_scheduler()
        scheduler.set_timesteps(steps)
        texts = model["text_encoder"](self.tokens([""] * len(captions) + captions))[0]
        size = self.settings.picture // 8
        shape = (len(captions), self.code.channels, size, size)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for time in scheduler.timesteps:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.schedule.bf16):
                both = model["unet"](torch.cat([latents, latents]), time, texts).sample.float()
            empty, full = both.chunk(2)
            noise = empty + guidance * (full - empty)
            latents = scheduler.step(noise, time, latents).prev_sample
        return latents


def _stratified_times(
    count: int, settings: DiffusionSettings, generator: torch.Generator
) -> Tensor:
    """Draw one time from each of ``count`` equally likely parts of the schedule, shuffled."""
    shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    order = torch.randperm(count, generator=generator)
    first, share = settings.edited_times, settings.edited_share
    early = shares / share * first
    late = first + (shares - share) / (1 - share) * (TIMES - first)
    return torch.where(shares < share, early, late).long().clamp(max=TIMES - 1)[order]
