"""The best linear code of 8×8 patches: what the VAE starts from, and what it must beat."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptivedrag.pocket_training.pictures import Picture, photographs, scene_crop

PATCH = 8


@dataclass(frozen=True)
class LinearCode:
    """Principal components of patches, each a row of PATCH·PATCH·3 values (row, column, colour)."""

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def psnr(self, image: Picture) -> float:
        """PSNR in dB of an image coded and decoded."""
        rows = patches(image) - self.mean
        error = rows - rows @ self.components.T @ self.components
        return float(10 * np.log10(4 / np.mean(error**2)))


def fit_linear_code(channels: int, picture: int = 256, scenes: int = 96) -> LinearCode:
    """Fits on training scenes and, with equal weight, the shipped photographs."""
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
    return LinearCode(mean, vectors[:, order].T, np.sqrt(values[order]))


def patches(image: Picture) -> NDArray[np.float64]:
    """All whole patches of an image in [-1, 1], one row each."""
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
    cut = image[: rows * PATCH, : columns * PATCH].astype(np.float64) / 127.5 - 1
    blocks = cut.reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(rows * columns, -1)
