"""Pictures and payloads of stages that nobody made: tiny, but they can be read and drawn."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from artifacts import Document, Payload, Picture, TensorFile

SIDE = 64


def picture(number: int, mode: str = "RGB") -> bytes:
    """Return a PNG with a pattern that is unique to a number below 2**32."""
    file = io.BytesIO()
    Image.fromarray(_pattern(number)).convert(mode).save(file, "PNG")
    return file.getvalue()


def _pattern(number: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(number.to_bytes(4, "big"), np.uint8))
    return np.repeat(np.repeat(bits[None] * np.uint8(160), SIDE, 0), SIDE // 32, 1)


def payloads(number: int = 0) -> dict[str, tuple[Payload, Mapping[str, Any]]]:
    """Return what each stage could have made of an edit of `SIDE` pixels a side, and its summary.

    Args:
        number: below 2**32; other numbers have other bytes, and look the same.
    """
    pattern, shift = _pattern(number), number * 2.0**-40
    rows, cols = np.mgrid[0:32, 0:32]
    flat = (rows // 8 * 4 + cols // 8).astype(np.int32)
    end = {"end": [40.0, 30.0], "target": [40.0, 30.0]}
    point = {"verdict": "reached", "distance": 0.4 + shift, "handle": [20.0, 20.0], **end}
    drag = {"steps": 11, "budget": 80, "verdict": "reached", "points": [point], "warnings": []}
    lora = TensorFile({"weight": np.full(16, number, np.float32)})
    losses = [round(0.1 / (1 + step), 6) for step in range(80)]
    return {
        "train_lora": ({"lora": lora}, {"steps": 80, "losses": losses}),
        "invert_image": ({"latents": np.full((2, 4, 8, 8), number, np.float32)}, {}),
        "extract_superpixels": (
            {"labels": flat, "centroids": np.full((4, 2), shift)},
            {"count": 4},
        ),
        "build_mask": ({"mask": flat > 0, "picture": Picture(pattern)}, {"warnings": []}),
        "optimize_latent": (
            {
                "latent": np.full((1, 4, 8, 8), shift),
                "tracks": np.linspace((10, 10), (15 + shift, 20), 12)[:, None],
            },
            drag,
        ),
        "sample_image": ({"image": Picture(np.repeat(pattern[..., None], 3, 2))}, {"unet": 50}),
        "locate_handles": (
            {"handles": Document([point])},
            {"verdict": "reached", "points": [point]},
        ),
    }
