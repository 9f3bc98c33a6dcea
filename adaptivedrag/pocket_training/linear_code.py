"""The best linear code of 8×8 patches: the VAE starts from it and must beat it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pixel_shuffle, pixel_unshuffle

from adaptivedrag.pocket_training.pictures import Picture, photographs, scene_crop, to_tensor
from adaptivedrag.scenes import render, training_scene

PATCH = 8


@dataclass(frozen=True)
class LinearCode:
    """Principal components of patches, each a row of PATCH·PATCH·3 values (row, column, color)."""

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def psnr(self, image: Picture) -> float:
        """Return the PSNR in dB of an image coded and decoded."""
        rows = patches(image) - self.mean
        error = rows - rows @ self.components.T @ self.components
        return float(10 * np.log10(4 / np.mean(error**2)))


class LatentCode:
    """A linear code as latents: values scaled by a power of their deviations, then by one factor.

    Models trained on these latents depend on every number here, and scenes may change. So the code
    is fitted once and kept with the weights (`tensors`, `from_tensors`).

    Args:
        whitening: 0 leaves the deviations as they are, 1 makes them equal.
        scaling: None measures it on scenes of ``picture`` pixels.
    """

    def __init__(
        self, code: LinearCode, whitening: float, picture: int, scaling: float | None = None
    ) -> None:
        self.code = code
        self.gains = code.deviations**-whitening
        self.channels = len(self.gains)
        scaled = code.components * self.gains[:, None]
        self._mixing = _as_weights(scaled)
        self._offset = torch.from_numpy(-(scaled @ code.mean)).float()
        self._unmixing = _as_weights(code.components / self.gains[:, None])
        self._mean = _as_weights(code.mean[None])[0]
        self.scaling = 1.0
        self.scaling = self._measured_scaling(picture) if scaling is None else scaling

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that determines the latents, float64, by name."""
        kept = {name: torch.from_numpy(value.copy()) for name, value in asdict(self.code).items()}
        return kept | {"scaling": torch.tensor(self.scaling, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], whitening: float, picture: int) -> Self:
        """Return the code whose `tensors` these are."""
        parts = {name: value.numpy() for name, value in tensors.items()}
        scaling = float(parts.pop("scaling"))
        return cls(LinearCode(**parts), whitening, picture, scaling)

    def encode(self, images: Tensor) -> Tensor:
        """Encode pictures in [-1, 1]; latents have a standard deviation of about 1 on scenes."""
        cells = pixel_unshuffle(images, PATCH)
        return conv2d(cells, self._mixing, self._offset) * self.scaling

    def decode(self, latents: Tensor) -> Tensor:
        cells = conv_transpose2d(latents / self.scaling, self._unmixing)
        return pixel_shuffle(cells + self._mean, PATCH)

    def _measured_scaling(self, picture: int, scenes: int = 48) -> float:
        images = to_tensor([render(training_scene(i), picture).image for i in range(scenes)])
        return round(1.0 / float(self.encode(images).std()), 5)


@cache
def fit_linear_code(channels: int, picture: int = 256, scenes: int = 96) -> LinearCode:
    """Fit a code to training scenes and, with equal weight, the photographs of scikit-image."""
    random = np.random.default_rng(0)
    rendered = np.concatenate(
        [patches(scene_crop(random, picture, picture)) for _ in range(scenes)]
    )
    photos = np.concatenate([patches(photo) for photo in photographs()])
    count = min(len(rendered), len(photos))
    rows = np.concatenate([random.permutation(part)[:count] for part in (rendered, photos)])
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov((rows - mean).T))
    order = np.argsort(values)[::-1][:channels]
    components = vectors[:, order].T
    largest = np.abs(components).argmax(1)
    signs = np.sign(components[np.arange(channels), largest])  # libraries differ in sign
    return LinearCode(mean, components * signs[:, None], np.sqrt(values[order]))


def patches(image: Picture) -> NDArray[np.float64]:
    """Return all whole patches of an image in [-1, 1], one row each."""
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
    cut = image[: rows * PATCH, : columns * PATCH].astype(np.float64) / 127.5 - 1
    blocks = cut.reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(rows * columns, -1)


def _as_weights(rows: NDArray[np.float64]) -> Tensor:
    """Turn rows over patches (row, column, color) into 1×1 weights over (color, row, column)."""
    turned = rows.reshape(len(rows), PATCH, PATCH, 3).transpose(0, 3, 1, 2)
    return torch.from_numpy(turned.reshape(len(rows), -1, 1, 1).copy()).float()
