"""Fidelity of an edit to its source by networks trained on photographs: IF and CLIP similarity.

Both compare with the *unedited* picture: doing nothing scores 1. A number has its name only where
it is computed with the weights of its protocol; without them the metric is unavailable.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from adaptivedrag.errors import MetricUnavailable

LPIPS_SIZE = 224
CLIP = "openai/clip-vit-base-patch32"


@dataclass(frozen=True)
class ImageFidelity:
    """IF = 1 − LPIPS (AlexNet, v0.1) at 224×224, as in DragDiffusion's script."""

    lpips: torch.nn.Module
    device: str

    @classmethod
    def load(cls, device: str = "cpu") -> Self:
        """Load LPIPS from weights in torch's cache; fetch nothing.

        Raises:
            MetricUnavailable: if the weights are not there; the message says how to get them.
        """
        from torchvision.models import AlexNet_Weights

        name = Path(AlexNet_Weights.IMAGENET1K_V1.url).name
        weights = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not weights.is_file():
            raise MetricUnavailable(
                f"IF needs AlexNet's weights at {weights}: fetch them once with "
                f"`python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\"`"
            )
        from lpips import LPIPS

        network = LPIPS(net="alex", version="0.1", verbose=False)
        return cls(network.requires_grad_(False).to(device), device)

    @torch.no_grad()
    def __call__(
        self, before: UInt8[np.ndarray, "h w 3"], edited: UInt8[np.ndarray, "h w 3"]
    ) -> float:
        """Return the fidelity of one edit; 1 means identical."""
        return 1 - float(self.lpips(self._shown(before), self._shown(edited)))

    def _shown(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 224 224"]:
        pixels = torch.tensor(image, device=self.device).permute(2, 0, 1)[None] / 127.5 - 1
        return torch.nn.functional.interpolate(pixels, (LPIPS_SIZE, LPIPS_SIZE), mode="bilinear")


@dataclass(frozen=True)
class ClipImages:
    """CLIP similarity of two pictures: the cosine of their image embeddings."""

    model: torch.nn.Module
    processor: object
    device: str

    @classmethod
    def load(cls, name: str = CLIP, device: str = "cpu") -> Self:
        """Load a CLIP model from a directory, or by hub id from this machine's cache.

        Raises:
            MetricUnavailable: if it is not there; the message says how to get it.
        """
        from transformers import CLIPImageProcessor, CLIPModel

        try:
            model = CLIPModel.from_pretrained(name, local_files_only=True)
            processor = CLIPImageProcessor.from_pretrained(name, local_files_only=True)
        except (OSError, ValueError) as error:
            raise MetricUnavailable(
                f"CLIP similarity needs {name}, which is not on this machine: fetch it once with "
                f"`hf download {name}`, or name a directory that holds a CLIP"
            ) from error
        return cls(model.requires_grad_(False).eval().to(device), processor, device)

    @torch.no_grad()
    def __call__(
        self, before: UInt8[np.ndarray, "h w 3"], edited: UInt8[np.ndarray, "h w 3"]
    ) -> float:
        """Return the similarity of an edit and its source, in [-1, 1]."""
        inputs = self.processor(images=[before, edited], return_tensors="pt")
        seen = self.model.vision_model(pixel_values=inputs.pixel_values.to(self.device))
        embedding = self.model.visual_projection(seen.pooler_output)
        return float(torch.cosine_similarity(embedding[0], embedding[1], dim=0))
