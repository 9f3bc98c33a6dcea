"""A Stable Diffusion checkpoint, reached through one small interface.

Anything in the layout of a diffusers `StableDiffusionPipeline` directory works: the pocket model
and Stable Diffusion 1.5 take the same path. Weights are frozen; latents go in and come out in
float32, whatever precision the weights have.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from adaptivedrag.config import Dtype
from adaptivedrag.errors import ModelUnavailable, UnsupportedModel
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.ddim import Schedule
from adaptivedrag.points import Frame

FEATURE_BLOCK = 2
"""The feature map is the output of `up_blocks[2]` (DragDiffusion's layer 3)."""

TRANSFORMERS = (
    *(f"down_blocks.{block}.attentions.{index}" for block in range(3) for index in range(2)),
    "mid_block.attentions.0",
    *(f"up_blocks.{block}.attentions.{index}" for block in range(1, 4) for index in range(3)),
)
"""The sixteen transformers of Stable Diffusion 1.x, in the order in which they are called."""


@dataclass
class Passes:
    """Passes of the UNet forward and back and of the VAE, counted per item of a batch."""

    unet_forwards: int = 0
    unet_backwards: int = 0
    vae_encodes: int = 0
    vae_decodes: int = 0

    def since(self, before: "Passes") -> dict[str, int]:
        """Return what was counted since a copy was made, by name."""
        then = asdict(before)
        return {name: count - then[name] for name, count in asdict(self).items()}


@dataclass
class DiffusionModel:
    """UNet, VAE and text encoder of one checkpoint, on one device."""

    unet: torch.nn.Module
    vae: torch.nn.Module
    text_encoder: torch.nn.Module
    tokenizer: object
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    passes: Passes = field(default_factory=Passes)
    idle_device: torch.device | None = None
    """Where VAE and text encoder wait while memory is short; None leaves them where they are."""

    @classmethod
    def load(
        cls,
        directory: Path,
        dtype: Dtype = "float32",
        device: str = "cpu",
        *,
        any_prediction: bool = False,
    ) -> Self:
        """Load a checkpoint in diffusers' directory layout.

        Args:
            any_prediction: whether a UNet will do that predicts something else than the noise, as
                Stable Diffusion 2.1 does; its features are as good, its samples are not.

        Raises:
            ModelUnavailable: if a part is missing or unreadable.
            UnsupportedModel: if the UNet lacks the layers that the method taps.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        weight_type = getattr(torch, dtype)
        # Without use_safetensors, a pickle would do where there is no such file.
        settings = {"local_files_only": True, "use_safetensors": True}
        try:
            scheduler = json.loads(
                (directory / "scheduler" / "scheduler_config.json").read_text("utf-8")
            )
            parts = [
                UNet2DConditionModel.from_pretrained(
                    directory / "unet", torch_dtype=weight_type, **settings
                ),
                AutoencoderKL.from_pretrained(
                    directory / "vae", torch_dtype=weight_type, **settings
                ),
                CLIPTextModel.from_pretrained(
                    directory / "text_encoder", dtype=weight_type, **settings
                ),
            ]
            tokenizer = CLIPTokenizer.from_pretrained(
                directory / "tokenizer", local_files_only=True
            )
        # The loaders raise what they like when fed what they did not write.
        except Exception as error:
            reason = (str(error) or type(error).__name__).strip().splitlines()[0]
            raise ModelUnavailable(
                f"{directory} does not hold a whole diffusers Stable Diffusion: {reason:.300}"
            ) from error
        try:
            schedule = Schedule.from_config(scheduler, any_prediction=any_prediction)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise UnsupportedModel(f"{directory}/scheduler: {error}") from error
        _check_tokens(directory, tokenizer, parts[2])
        for part in parts:
            part.requires_grad_(False).eval().to(device)
        model = cls(
            *parts,
            tokenizer=tokenizer,
            schedule=schedule,
            device=torch.device(device),
            dtype=weight_type,
        )
        model.check_topology()
        return model

    def check_topology(self) -> None:
        """Refuse a UNet without the sixteen transformer blocks or the block of the feature map.

        Raises:
            UnsupportedModel: naming what is lacking or is there beyond them, and what was found.
        """
        found = [name.partition(".transformer_blocks")[0] for name in self.self_attentions()]
        blocks = len(getattr(self.unet, "up_blocks", ()))
        if found == list(TRANSFORMERS) and blocks == FEATURE_BLOCK + 2:
            return
        lacking = [name for name in TRANSFORMERS if name not in found]
        fault = f"lacks {lacking[0]}" if lacking else "has more transformers than it should"
        raise UnsupportedModel(
            f"the UNet {fault} (it has {blocks} up blocks and {len(found)} transformer blocks); "
            f"the method taps up_blocks[{FEATURE_BLOCK}] of 4 and the {len(TRANSFORMERS)} "
            "transformer blocks of Stable Diffusion 1.x: use an SD 1.x model"
        )

    def self_attentions(self) -> dict[str, torch.nn.Module]:
        """Return the UNet's self-attentions by name, in the order in which they are called."""
        parts = ("down_blocks", "mid_block", "up_blocks")
        return {
            f"{part}.{name}": module
            for part in parts
            if (block := getattr(self.unet, part, None)) is not None
            for name, module in block.named_modules()
            if name.endswith("attn1")
        }

    @property
    def factor(self) -> int:
        """Pixels per latent cell and side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def frame(self, height: int, width: int, working_size: int) -> Frame:
        """Plan the frames of an image of `height`×`width` pixels for this model."""
        return Frame.of_image(height, width, factor=self.factor, working_size=working_size)

    def to_pixels(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
        """Convert an image to the VAE's range, [-1, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        return (pixels.float() / 127.5 - 1).to(self.device, self.dtype)

    @torch.no_grad()
    def posterior(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> tuple[Float[Tensor, "1 c h8 w8"], Float[Tensor, "1 c h8 w8"]]:
        """Encode an image to the mean and standard deviation of its latents, already scaled."""
        self.passes.vae_encodes += 1
        with self._at_work(self.vae):
            posterior = self.vae.encode(self.to_pixels(image)).latent_dist
        scale = self.vae.config.scaling_factor
        return posterior.mean.float() * scale, posterior.std.float() * scale

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "1 c h w"]) -> UInt8[np.ndarray, "h8 w8 3"]:
        """Decode scaled latents to an image."""
        self.passes.vae_decodes += 1
        scaled = (latents / self.vae.config.scaling_factor).to(self.dtype)
        with self._at_work(self.vae):
            pixels = self.vae.decode(scaled).sample
        levels = ((pixels[0].float() / 2 + 0.5).clamp(0, 1) * 255).round()
        return levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Conditioning:
        """Condition the UNet on a prompt, padded or truncated to the text encoder's length."""
        tokens = self.tokenizer(
            prompt,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        with self._at_work(self.text_encoder):
            return Conditioning(self.text_encoder(tokens.input_ids.to(self.device))[0])

    def predict_noise(
        self,
        latents: Float[Tensor, "b c h w"],
        timestep: int | Tensor,
        conditioning: Conditioning,
    ) -> Float[Tensor, "b c h w"]:
        """Predict the noise in latents at `timestep` (an int, or one per item).

        Args:
            conditioning: of one item for all latents, or of one item for each.
        """
        self.passes.unet_forwards += len(latents)
        seen = conditioning.to(self.dtype).expand(len(latents))
        noise = self.unet(
            latents.to(self.dtype),
            timestep,
            encoder_hidden_states=seen.tokens,
            added_cond_kwargs=seen.added or None,
            return_dict=False,
        )[0]
        return noise.float()

    def predict_with_features(
        self,
        latents: Float[Tensor, "1 c h w"],
        timestep: int,
        conditioning: Conditioning,
    ) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "d h w"]]:
        """Predict the noise and return the feature map of the same pass, in the UNet's dtype."""
        with self._feature_tap() as tapped:
            noise = self.predict_noise(latents, timestep, conditioning)
        return noise, tapped[0][0]

    @contextmanager
    def _at_work(self, part: torch.nn.Module) -> Iterator[None]:
        """Have a part on the device, wherever it waited."""
        part.to(self.device)
        try:
            yield
        finally:
            if self.idle_device is not None:
                part.to(self.idle_device)

    @contextmanager
    def _feature_tap(self) -> Iterator[list[Tensor]]:
        tapped: list[Tensor] = []
        block = self.unet.up_blocks[FEATURE_BLOCK]
        handle = block.register_forward_hook(lambda _module, _inputs, out: tapped.append(out))
        try:
            yield tapped
        finally:
            handle.remove()


def _check_tokens(directory: Path, tokenizer: object, text_encoder: torch.nn.Module) -> None:
    """Refuse a tokenizer that would pad every prompt beyond what the text encoder takes."""
    length, places = tokenizer.model_max_length, text_encoder.config.max_position_embeddings
    if not 0 < length <= places:
        raise UnsupportedModel(
            f"{directory}/tokenizer: model_max_length is {length:g}, and the text encoder takes "
            f"{places} tokens: correct tokenizer_config.json"
        )


def working_image(image: UInt8[np.ndarray, "h w 3"], frame: Frame) -> UInt8[np.ndarray, "hp wp 3"]:
    """Shrink an image to its working size and reflect-pad it to a multiple of the stride."""
    from PIL import Image

    if (frame.height, frame.width) != image.shape[:2]:
        shrunk = Image.fromarray(image).resize(
            (frame.width, frame.height), Image.Resampling.LANCZOS
        )
        image = np.asarray(shrunk)
    bottom = frame.padded_height - frame.height
    right = frame.padded_width - frame.width
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="reflect")


def native_image(image: UInt8[np.ndarray, "hp wp 3"], frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    """Undo `working_image`: crop the padding and return to the image's own size."""
    from PIL import Image

    image = image[: frame.height, : frame.width]
    if (frame.image_height, frame.image_width) != image.shape[:2]:
        size = (frame.image_width, frame.image_height)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(image)
