"""Fixtures of the method's tests: a tiny model, an image, an edit on it."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptivedrag.config import EditConfig
from adaptivedrag.drag import DragProblem
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel, working_image
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.superpixels import Superpixels, color_superpixels


@pytest.fixture(scope="session")
def tiny(tiny_model_directory: Path) -> DiffusionModel:
    """The tiny model, loaded; tests must leave it as they found it."""
    torch.set_num_threads(1)
    return DiffusionModel.load(tiny_model_directory)


@dataclass(frozen=True)
class Scenario:
    """Everything that a drag of the tiny model needs."""

    image: np.ndarray
    frame: Frame
    config: EditConfig
    drags: tuple[Drag, ...]
    superpixels: Superpixels
    latents: torch.Tensor
    conditioning: Conditioning

    def problem(self, **changes: Any) -> DragProblem:
        """Pose the edit to a drag method; nothing is held, unless a `mask` says so."""
        return replace(
            DragProblem(
                trajectory=self.latents,
                conditioning=self.conditioning,
                drags=self.drags,
                superpixels=self.superpixels,
                mask=np.ones(self.frame.feature_size, bool),
                frame=self.frame,
                inversion=self.config.invert_image,
            ),
            **changes,
        )


@pytest.fixture(scope="session")
def scenario(tiny: DiffusionModel) -> Scenario:
    """Two drags on a photograph of 128×100 pixels."""
    from skimage.data import astronaut

    image = np.ascontiguousarray(astronaut()[60:188, 170:270])
    frame = tiny.frame(*image.shape[:2], 768)
    config = EditConfig().scaled_to(4, *frame.latent_size)
    working = working_image(image, frame)
    latents = torch.randn(1, 4, *frame.latent_size, generator=torch.Generator().manual_seed(0))
    return Scenario(
        image=image,
        frame=frame,
        config=config,
        drags=(
            Drag(ImagePoint(40, 50), ImagePoint(66, 40)),
            Drag(ImagePoint(70, 100), ImagePoint(60, 110)),
        ),
        superpixels=color_superpixels(working, frame.feature_size, config.extract_superpixels),
        latents=latents,
        conditioning=tiny.encode_prompt("a face"),
    )


@pytest.fixture
def double(tiny, monkeypatch):
    """The tiny model in float64, with every cast to single precision made one to double."""
    model = deepcopy(tiny)
    model.unet.double()
    model.dtype = torch.float64
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield model
    torch.set_default_dtype(torch.float32)
