"""Figures of the model card: how well pictures survive the VAE, beside the best linear code."""

from collections.abc import Iterable, Mapping

import numpy as np
from diffusers import AutoencoderKL

from adaptivedrag.pocket_training.linear_code import fit_linear_code
from adaptivedrag.pocket_training.pictures import Picture, psnr, to_tensor
from adaptivedrag.pocket_training.vae import round_trip
from adaptivedrag.scenes import benchmark_scene, render


def held_out_scenes(count: int, size: int = 256) -> list[Picture]:
    """Render benchmark scenes, on which nothing is trained."""
    return [render(benchmark_scene(number), size).image for number in range(count)]


def vae_psnr(vae: AutoencoderKL, images: Iterable[Picture]) -> float:
    """Return the mean PSNR in dB of round trips; images are cut to sides that 8 divides."""
    values = []
    for image in images:
        cut = image[: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8]
        values.append(psnr(to_tensor([round_trip(vae, cut)]), to_tensor([cut])))
    return float(np.mean(values))


def linear_psnr(channels: Iterable[int], images: Iterable[Picture]) -> Mapping[int, float]:
    """Return the same for the best linear codes of 8×8 patches, by number of channels."""
    held = list(images)
    codes = {count: fit_linear_code(count) for count in channels}
    return {
        count: float(np.mean([code.psnr(image) for image in held])) for count, code in codes.items()
    }
