"""What the pocket models learn from: rendered scenes, and photographs that scikit-image ships."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adaptivedrag.scenes import render, training_scene

Picture = NDArray[np.uint8]

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "motorcycle_left.png",
    "rocket.jpg",
)


@cache
def photographs() -> tuple[Picture, ...]:
    """Return the photographs inside scikit-image's wheel, as RGB."""
    folder = files("skimage.data")
    return tuple(
        np.asarray(Image.open(BytesIO((folder / name).read_bytes())).convert("RGB"))
        for name in PHOTOGRAPHS
    )


def scene_crop(random: np.random.Generator, picture: int, crop: int) -> Picture:
    """Draw a random crop of a random training scene rendered at about ``picture`` pixels."""
    scene = training_scene(int(random.integers(2**40)))
    size = int(picture * random.uniform(0.85, 1.3)) if crop < picture else picture
    return _crop(random, render(scene, max(size, crop)).image, crop)


def photo_crop(random: np.random.Generator, crop: int) -> Picture:
    """Draw a random crop of a photograph at half to full size, mirrored every other time."""
    photo = photographs()[int(random.integers(len(photographs())))]
    scale = max(random.uniform(0.4, 1.0), (crop + 1) / min(photo.shape[:2]))
    reach = int(np.ceil(crop / scale))
    piece = Image.fromarray(_crop(random, photo, min(reach, *photo.shape[:2])))
    return np.asarray(piece.resize((crop, crop), Image.Resampling.BICUBIC))


def to_tensor(images: Sequence[Picture]) -> Tensor:
    """Convert uint8 HWC pictures to float NCHW in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_picture(images: Tensor) -> list[Picture]:
    """Invert `to_tensor`, clipped."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).numpy())


def psnr(first: Tensor, second: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio in dB of batches in [-1, 1]."""
    error = (first - second).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / error)).mean())


def grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    return np.concatenate([np.concatenate(row, 1) for row in rows], 0)


def _crop(random: np.random.Generator, image: Picture, crop: int) -> Picture:
    top = int(random.integers(image.shape[0] - crop + 1))
    left = int(random.integers(image.shape[1] - crop + 1))
    piece = image[top : top + crop, left : left + crop]
    return piece[:, ::-1] if random.random() < 0.5 else piece
