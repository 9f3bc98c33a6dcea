"""Controls: pictures that no method made, to show what they score.

Each removes the dragged content without moving it. A method has to beat all of them, since erasing
alone takes away much of an edit's error. The control that does nothing needs no function.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, UInt8

if TYPE_CHECKING:
    from adaptivedrag.scenes import Scene

FRINGE = 2
"""Pixels around a region that are filled too, since anti-aliasing leaves some content there."""

RING = 5
"""Width in pixels of the ring whose mean color fills the region."""

BLUR = 1 / 24
"""Standard deviation of the blur as a share of the shorter side: 11 pixels of 256."""


def render_without(scene: "Scene", part: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Erase a part from a scene exactly: paint the scene without the layers that the part owns.

    What lies behind becomes visible. The shadow belongs to no part, so it stays.

    Args:
        part: a part or group, or several joined by "+".
    """
    from adaptivedrag.scenes.canvas import Canvas

    absent = part.split("+")

    class Without(Canvas):
        def paint(self, shape: Any, color: Any, part: str | None = None, *a: Any, **k: Any) -> None:
            if part is None or not any(part == n or part.startswith(n + "/") for n in absent):
                super().paint(shape, color, part, *a, **k)

    canvas = Without(size)
    scene.paint(canvas)
    return canvas.image()


def erased(
    image: UInt8[np.ndarray, "h w 3"], region: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Fill a region smoothly from its border (biharmonic inpainting), for other pictures."""
    from scipy.ndimage import binary_dilation
    from skimage.restoration import inpaint_biharmonic

    if not region.any():
        return image.copy()
    wide = binary_dilation(region, iterations=FRINGE)
    filled = inpaint_biharmonic(image, wide, split_into_regions=True, channel_axis=2)
    return (filled.clip(0, 1) * 255).round().astype(np.uint8)


def flattened(
    image: UInt8[np.ndarray, "h w 3"], region: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Fill a region with the mean color of the ring around it, or its own if there is no ring."""
    from scipy.ndimage import binary_dilation

    if not region.any():
        return image.copy()
    wide = binary_dilation(region, iterations=FRINGE)
    ring = binary_dilation(wide, iterations=RING) & ~wide
    flat = image.copy()
    flat[wide] = image[ring if ring.any() else wide].mean(axis=0).round()
    return flat


def blurred(
    image: UInt8[np.ndarray, "h w 3"], region: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Blur a region (Gaussian, 1/24 of the shorter side); the rest stays."""
    from scipy.ndimage import gaussian_filter

    width = BLUR * min(image.shape[:2])
    soft = gaussian_filter(image.astype(np.float32), (width, width, 0)).round().astype(np.uint8)
    return np.where(region[..., None], soft, image)
