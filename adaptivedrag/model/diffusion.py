"""A Stable Diffusion checkpoint, reached through one small interface.

What differs between families of Stable Diffusion is in the model's `Architecture`; the pocket model
and Stable Diffusion 1.5 take the same path. Weights are frozen; latents go in and come out in
float32 at every precision of the weights.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from adaptivedrag.config import Dtype, Runtime
from adaptivedrag.errors import NotFinite, UnsupportedModel
from adaptivedrag.model.architecture import Architecture, PromptEncoder
from adaptivedrag.model.architectures import architecture_of
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.ddim import Schedule
from adaptivedrag.model.single_file import source_at
from adaptivedrag.model.source import Source
from adaptivedrag.points import Frame

RECOMPILATIONS = 64
"""Variants of a transformer block that are compiled before a further one is left as it is."""


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

    def shares(self, before: "Passes", items: int) -> list[dict[str, int]]:
        """Split the counts since a copy was made evenly among the items of a batch.

        Passes that items share, such as those of their reference, are split too. Shares add up to
        what was counted, and differ by one at most.
        """
        counted = self.since(before).items()
        return [{name: (count + item) // items for name, count in counted} for item in range(items)]


@dataclass
class DiffusionModel:
    """UNet, VAE and prompt encoder of one checkpoint, on one device."""

    architecture: Architecture
    unet: torch.nn.Module
    vae: torch.nn.Module
    prompts: PromptEncoder
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    passes: Passes = field(default_factory=Passes)
    idle_device: torch.device | None = None
    """Device for idle VAE and text encoders while memory is short; None leaves them in place."""

    @classmethod
    def load(
        cls,
        source: Source | Path,
        dtype: Dtype = "float32",
        device: str = "cpu",
    ) -> Self:
        """Load a checkpoint.

        Args:
            source: where its parts are; the path of a folder or a file is enough.

        Raises:
            ModelUnavailable: if a part is missing or unreadable.
            UnsupportedModel: if no architecture fits the UNet, or parts do not fit each other.
        """
        source = source_at(source) if isinstance(source, Path) else source
        architecture = architecture_of(source)
        parts = architecture.load(source, dtype)
        schedule, prompts = _fitting(architecture, parts, source)
        for module in (parts["unet"], parts["vae"], *prompts.modules):
            module.requires_grad_(False).eval().to(device)
        return cls(
            architecture,
            parts["unet"],
            parts["vae"],
            prompts,
            schedule,
            device=torch.device(device),
            dtype=getattr(torch, dtype),
        )

    def quicken(self, runtime: Runtime, backend: str = "inductor") -> None:
        """Prepare the model to be fast as a runtime asks; results agree to rounding.

        Args:
            backend: compiles what `torch.compile` has traced.
        """
        if runtime.channels_last:
            for module in (self.unet, self.vae):
                module.to(memory_format=torch.channels_last)
        if runtime.compile:
            # Blocks of each width, at each size of the latents, writing or reading a reference.
            torch._dynamo.config.recompile_limit = RECOMPILATIONS
            self.unet.compile_repeated_blocks(backend=backend)

    @property
    def idle_parts(self) -> tuple[torch.nn.Module, ...]:
        """The parts that may wait elsewhere while the UNet works."""
        return (self.vae, *self.prompts.modules)

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

    def frame(self, height: int, width: int, working_size: int | None = None) -> Frame:
        """Plan the frames of an image of `height`×`width` pixels for this model.

        Args:
            working_size: None for that of the model's architecture.
        """
        size = working_size or self.architecture.working_size
        return Frame.of_image(height, width, factor=self.factor, working_size=size)

    def to_pixels(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
        """Convert an image to the VAE's range, [-1, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        return (pixels.float() / 127.5 - 1).to(self.device, self.vae.dtype)

    @torch.no_grad()
    def posterior(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> tuple[Float[Tensor, "1 c h8 w8"], Float[Tensor, "1 c h8 w8"]]:
        """Encode an image to the mean and standard deviation of its latents, already scaled.

        Raises:
            NotFinite: if the VAE overflows, or its weights are damaged.
        """
        self.passes.vae_encodes += 1
        with self._at_work(self.vae):
            posterior = self.vae.encode(self.to_pixels(image)).latent_dist
        self._check_finite(posterior.parameters, "the VAE encodes the picture")
        scale = self.vae.config.scaling_factor
        return posterior.mean.float() * scale, posterior.std.float() * scale

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "1 c h w"]) -> UInt8[np.ndarray, "h8 w8 3"]:
        """Decode scaled latents to an image.

        Raises:
            NotFinite: as `posterior`.
        """
        self.passes.vae_decodes += 1
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        with self._at_work(self.vae):
            pixels = self.vae.decode(scaled).sample
        self._check_finite(pixels, "the VAE decodes the result")
        levels = ((pixels[0].float() / 2 + 0.5).clamp(0, 1) * 255).round()
        return levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Conditioning:
        """Condition the UNet on a prompt, padded or truncated to the text encoders' length.

        Raises:
            NotFinite: if a text encoder overflows, or its weights are damaged.
        """
        with self._at_work(*self.prompts.modules):
            found = self.prompts.encode(prompt, self.device)
        for values in (found.tokens, *found.added.values()):
            self._check_finite(values, "the text encoder reads the prompt")
        return found

    def _check_finite(self, values: Tensor, what: str) -> None:
        # Memory is calculated on the meta device, where there are no values.
        if not values.is_meta and not values.isfinite().all():
            raise NotFinite(
                f"{what}: numbers are not finite in {str(self.dtype).removeprefix('torch.')}: use "
                "a wider dtype; if it is float32, the weights are damaged: fetch the model again"
            )

    def predict_noise(
        self,
        latents: Float[Tensor, "b c h w"],
        timestep: int,
        conditioning: Conditioning,
        level: int | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict the noise in latents, whatever the UNet itself predicts.

        Args:
            timestep: what the UNet is conditioned on.
            conditioning: one item for all latents, or one item for each.
            level: timestep whose noise level the latents are at, if that is another.
        """
        prediction = self.predict(latents, timestep, conditioning)
        return self.schedule.noise(
            prediction, latents, timestep, timestep if level is None else level
        )

    def predict(
        self,
        latents: Float[Tensor, "b c h w"],
        timestep: int | Tensor,
        conditioning: Conditioning,
        windows: Float[Tensor, "b 6"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict what the UNet was trained for: see `Schedule.prediction_type`.

        Args:
            timestep: an int, or one per item.
            conditioning: one item for all latents, or one item for each.
            windows: what each item shows, in pixels: height and width of the picture, top and left
                of the part that is seen, its height and width; None for whole pictures.
        """
        self.passes.unet_forwards += len(latents)
        seen = conditioning.to(self.dtype).expand(len(latents))
        added = dict(seen.added)
        if name := self.architecture.window_condition:
            # In float32: beyond 256, bfloat16 has no odd numbers.
            shown = self._whole(latents) if windows is None else windows
            added[name] = shown.to(latents.device)
        prediction = self.unet(
            latents.to(self.dtype),
            timestep,
            encoder_hidden_states=seen.tokens,
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0]
        return prediction.float()

    def _whole(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 6"]:
        """Return windows of whole pictures."""
        height, width = (side * self.factor for side in latents.shape[-2:])
        return torch.tensor([[height, width, 0.0, 0.0, height, width]]).expand(len(latents), 6)

    def predict_with_features(
        self,
        latents: Float[Tensor, "b c h w"],
        timestep: int,
        conditioning: Conditioning,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b d rows cols"]]:
        """Predict the noise and return the feature maps of the same pass, in the UNet's dtype."""
        with self._feature_tap() as tapped:
            noise = self.predict_noise(latents, timestep, conditioning)
        return noise, tapped[0]

    @contextmanager
    def _at_work(self, *parts: torch.nn.Module) -> Iterator[None]:
        """Move parts to the device while they are used, if they waited elsewhere."""
        for part in parts:
            part.to(self.device)
        try:
            yield
        finally:
            if self.idle_device is not None:
                for part in parts:
                    part.to(self.idle_device)

    @contextmanager
    def _feature_tap(self) -> Iterator[list[Tensor]]:
        tapped: list[Tensor] = []
        block = self.unet.up_blocks[self.architecture.feature_block]
        handle = block.register_forward_hook(lambda _module, _inputs, out: tapped.append(out))
        try:
            yield tapped
        finally:
            handle.remove()


def check_model(source: Source) -> None:
    """Check that a model can be loaded, without reading its weights.

    Raises:
        ModelUnavailable: if a part is missing or unreadable, or its tensors are not the ones that
            its configuration asks for.
        UnsupportedModel: as `DiffusionModel.load`.
    """
    architecture = architecture_of(source)
    parts = architecture.checked(source)
    _, prompts = _fitting(architecture, parts, source)
    try:
        for module in prompts.modules:
            module.to("meta")
        prompts.encode("", torch.device("meta"))
    # The libraries raise errors of any type where settings do not fit each other.
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        raise UnsupportedModel(
            f"{source.path}: no prompt can be read with the settings of the text encoder: "
            f"{reason:.300}: take them from the published model"
        ) from error


def _fitting(
    architecture: Architecture,
    parts: Mapping[str, Any],
    source: Source,
) -> tuple[Schedule, PromptEncoder]:
    """Return the schedule and the prompt encoder of parts that fit each other."""
    directory = source.path
    try:
        schedule = Schedule.from_config(parts["scheduler"])
    except KeyError as error:
        raise UnsupportedModel(
            f"{directory}/scheduler names no {error.args[0]}: it is none of a Stable Diffusion"
        ) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise UnsupportedModel(f"{directory}/scheduler: {error}") from error
    try:
        prompts = architecture.read_prompts_with(parts)
    # A tokenizer raises errors of any type on a vocabulary that is not whole.
    except Exception as error:
        raise UnsupportedModel(f"{directory}/{error}") from error
    unet, vae = parts["unet"].config, parts["vae"].config
    scale = vae.scaling_factor
    if type(scale) not in (int, float) or not 0 < scale < math.inf:
        raise UnsupportedModel(
            f"{source.settings('vae')}/config.json: scaling_factor is {scale!r:.40}, and not a "
            "number above 0: correct it"
        )
    width = sum(module.config.hidden_size for module in prompts.modules)
    if (unet.in_channels, unet.cross_attention_dim) != (vae.latent_channels, width):
        raise UnsupportedModel(
            f"{directory}: the UNet is made for latents of {unet.in_channels} channels and prompts "
            f"of {unet.cross_attention_dim}, but the VAE gives {vae.latent_channels} and the text "
            f"encoder {width}: take all parts from one model"
        )
    return schedule, prompts


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
