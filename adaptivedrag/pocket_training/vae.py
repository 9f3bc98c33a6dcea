"""The pocket VAE: diffusers' AutoencoderKL, started from the principal components of patches.

Convolutional autoencoders of this size need hours to become as good as a linear code. This one
starts there: its encoder *is* the linear code (residual branches at zero, strided convolutions
that gather patches), its decoder blurs the code's colors, and training teaches the decoder. Two
identities make it exact in spite of the closing normalization and SiLU: silu(a) − silu(−a) = a, so
values travel as pairs (a, −a); and a group norm whose group also holds a large constant pair
(c, −c) divides by very nearly c.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from adaptivedrag.pocket_training.linear_code import LatentCode, LinearCode, fit_linear_code
from adaptivedrag.pocket_training.pictures import (
    Picture,
    grid,
    photo_crop,
    psnr,
    scene_crop,
    to_picture,
    to_tensor,
)
from adaptivedrag.pocket_training.settings import VaeSettings
from adaptivedrag.pocket_training.training import Losses, Training
from adaptivedrag.scenes import render, training_scene

_SHEET = tuple(2**41 + i for i in range(6))  # training scenes that no batch draws


def build_vae(settings: VaeSettings) -> AutoencoderKL:
    """Build an AutoencoderKL of factor 8 with SD's block types, randomly initialized."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=settings.widths,
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=settings.groups,
        sample_size=settings.picture,
        scaling_factor=1.0,
    )


def latent_code(settings: VaeSettings) -> LatentCode:
    """Fit the code that the encoder starts as and stays."""
    code = fit_linear_code(settings.latent_channels)
    return LatentCode(code, settings.whitening, settings.picture)


def under_code(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name a code's tensors as in a run's state."""
    return {f"code.{name}": value for name, value in tensors.items()}


def kept_code(state: Mapping[str, Tensor], settings: VaeSettings) -> LatentCode:
    """Return the code in a run's state."""
    tensors = {n.removeprefix("code."): v for n, v in state.items() if n.startswith("code.")}
    return LatentCode.from_tensors(tensors, settings.whitening, settings.picture)


class VaeTraining(Training):
    """Training of the decoder with L1 on pictures and on their differences along x and y.

    The encoder stays the linear code that it starts as. So the latents never change, and a UNet can
    be trained on them at the same time.
    """

    def __init__(self, settings: VaeSettings, code: LatentCode) -> None:
        torch.manual_seed(settings.schedule.seed)
        vae = build_vae(settings)
        self.code = code
        start_from_linear_code(vae, self.code.code, settings)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        super().__init__(vae, settings.schedule)
        self.settings = settings

    def state(self) -> dict[str, Tensor]:
        return super().state() | under_code(self.code.tensors())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore(state)
        self.code = kept_code(state, self.settings)

    def batch(self, step: int) -> Tensor:
        random, settings = self.random(step, 1), self.settings
        photos = random.binomial(settings.schedule.batch, settings.photo_share)
        crops = [photo_crop(random, settings.crop) for _ in range(photos)]
        while len(crops) < settings.schedule.batch:
            crops.append(scene_crop(random, settings.picture, settings.crop))
        return to_tensor(crops)

    def loss(self, step: int) -> tuple[Tensor, Losses]:
        images = self.batch(step)
        code = self.code.encode(images) / self.code.scaling  # what the encoder gives, but faster
        noise = torch.randn(code.shape, generator=self.generator(step, 2))
        decoded = self.model.decode(code + self.settings.latent_noise * noise).sample.float()
        error = (decoded - images).abs().mean()
        edges = _gradient_error(decoded, images)
        with torch.no_grad():
            parts = {"l1": error.item(), "edges": edges.item(), "psnr": psnr(decoded, images)}
        return error + self.settings.gradient_weight * edges, parts

    @torch.no_grad()
    def sample_sheet(self) -> Picture:
        model = self.averaged_model()
        images = [render(training_scene(i), self.settings.picture).image for i in _SHEET]
        decoded = [round_trip(model, image) for image in images]
        return grid([images, decoded])


@torch.no_grad()
def round_trip(vae: AutoencoderKL, image: Picture) -> Picture:
    """Encode and decode an image whose sides are multiples of 8."""
    code = vae.encode(to_tensor([image])).latent_dist.mean
    return to_picture(vae.decode(code).sample)[0]


@torch.no_grad()
def start_from_linear_code(vae: AutoencoderKL, code: LinearCode, settings: VaeSettings) -> None:
    """Set weights so that encoding gives the linear code, each value scaled by its deviation
    to the power of minus ``whitening``, and decoding its colors, smoothed."""
    for part in (vae.encoder, vae.decoder):
        _silence_branches(part)
    nn.init.eye_(vae.quant_conv.weight.flatten(1))
    nn.init.eye_(vae.post_quant_conv.weight.flatten(1))
    nn.init.zeros_(vae.quant_conv.bias)
    nn.init.zeros_(vae.post_quant_conv.bias)
    scale = code.deviations**-settings.whitening
    _start_encoder(vae.encoder, code, scale, settings)
    _start_decoder(vae.decoder, code, scale, settings)


def _silence_branches(part: nn.Module) -> None:
    for module in part.modules():
        if type(module).__name__ == "ResnetBlock2D":
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
        if type(module).__name__ == "Attention":
            nn.init.zeros_(module.to_out[0].weight)
            nn.init.zeros_(module.to_out[0].bias)


def _start_encoder(
    encoder: Any, code: LinearCode, scale: np.ndarray, settings: VaeSettings
) -> None:
    _clear(encoder.conv_in, range(3))
    for color in range(3):
        encoder.conv_in.weight[color, color, 1, 1] = 1.0
    blocks = encoder.down_blocks
    for block, held in zip(blocks[:2], (3, 12), strict=True):
        _pass_through(block.resnets[0], held)
        _gather(block.downsamplers[0].conv, held)
    _pass_through(blocks[2].resnets[0], 48)
    places = _Places(settings.latent_channels, settings.widths[2], settings.groups, 32.0)
    mixing = torch.from_numpy((code.components * scale[:, None]).astype(np.float32))
    offset = torch.from_numpy(-(code.components @ code.mean) * scale).float()
    places.write(blocks[2].downsamplers[0].conv, _as_taps(mixing), offset)
    places.read(encoder.conv_norm_out, encoder.conv_out, torch.eye(settings.latent_channels))
    encoder.conv_out.bias[: settings.latent_channels] = 0.0
    encoder.conv_out.bias[settings.latent_channels :] = -8.0


def _start_decoder(
    decoder: Any, code: LinearCode, scale: np.ndarray, settings: VaeSettings
) -> None:
    held = settings.latent_channels
    _clear(decoder.conv_in, range(held))
    for i in range(held):
        decoder.conv_in.weight[i, i, 1, 1] = 1.0
    blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    for block in decoder.up_blocks[:3]:
        for resnet in block.resnets:
            _pass_through(resnet, held)
        conv = block.upsamplers[0].conv
        _clear(conv, range(held))
        for i in range(held):
            conv.weight[i, i] = blur
    colors = (code.components / scale[:, None]).reshape(held, -1, 3).mean(1).T
    mean = code.mean.reshape(-1, 3).mean(0)
    places = _Places(3, settings.widths[0], settings.groups, 4.0)
    shortcut = decoder.up_blocks[3].resnets[0].conv_shortcut
    mixing = torch.from_numpy(colors.astype(np.float32))[:, :, None, None]
    places.write(shortcut, mixing, torch.from_numpy(mean).float())
    places.read(decoder.conv_norm_out, decoder.conv_out, torch.eye(3))
    nn.init.zeros_(decoder.conv_out.bias)


class _Places:
    """Where values lie among normalized channels: pairs (a, −a) beside a constant pair (c, −c)."""

    def __init__(self, values: int, channels: int, groups: int, constant: float) -> None:
        self.per_group = channels // groups
        self.groups = groups
        self.constant = constant
        self.plus = [(i % groups) * self.per_group + 2 + 2 * (i // groups) for i in range(values)]
        if self.plus[-1] % self.per_group + 2 > self.per_group:
            raise ValueError(f"{values} values do not fit {channels} channels in {groups} groups")

    def write(self, conv: nn.Conv2d, mixing: Tensor, offset: Tensor) -> None:
        """Make a convolution output the mixed values and the constants."""
        used = [p + i for p in self.plus for i in (0, 1)]
        constants = [g * self.per_group + i for g in range(self.groups) for i in (0, 1)]
        _clear(conv, used + constants)
        height, width = mixing.shape[2:]
        for place, weights, bias in zip(self.plus, mixing, offset, strict=True):
            for channel, sign in ((place, 1.0), (place + 1, -1.0)):
                conv.weight[channel, : len(weights), :height, :width] = sign * weights
                conv.bias[channel] = sign * bias
        for channel in constants:
            conv.bias[channel] = self.constant * (1.0 if channel % 2 == 0 else -1.0)

    def read(self, norm: nn.GroupNorm, conv: nn.Conv2d, mixing: Tensor) -> None:
        """Make norm, SiLU and convolution give ``mixing`` of the values, in its first rows."""
        norm.weight.fill_(self.constant * (2 / self.per_group) ** 0.5)
        nn.init.zeros_(conv.weight)
        for place, weights in zip(self.plus, mixing.T, strict=True):
            conv.weight[: len(weights), place, 1, 1] = weights
            conv.weight[: len(weights), place + 1, 1, 1] = -weights


def _clear(conv: nn.Conv2d, rows: Iterable[int]) -> None:
    for row in rows:
        conv.weight[row] = 0.0
        conv.bias[row] = 0.0


def _pass_through(resnet: Any, held: int) -> None:
    if resnet.conv_shortcut is not None:
        _clear(resnet.conv_shortcut, range(held))
        for i in range(held):
            resnet.conv_shortcut.weight[i, i, 0, 0] = 1.0


def _gather(conv: nn.Conv2d, held: int) -> None:
    """Move space to depth: the four pixels of every 2×2 block become four times the channels."""
    _clear(conv, range(4 * held))
    for row, column, i in product(range(2), range(2), range(held)):
        conv.weight[(row * 2 + column) * held + i, i, row, column] = 1.0


def _as_taps(mixing: Tensor) -> Tensor:
    """Turn rows over patches (row, column, color) into a 2×2 convolution of gathered pixels."""
    values = len(mixing)
    bits = mixing.reshape(values, 2, 2, 2, 2, 2, 2, 3)  # rows 4, 2, 1; columns 4, 2, 1; color
    ordered = bits.permute(0, 2, 5, 3, 6, 7, 1, 4)
    return ordered.reshape(values, 48, 2, 2)


def _gradient_error(first: Tensor, second: Tensor) -> Tensor:
    error = first - second
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
