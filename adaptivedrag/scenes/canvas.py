"""The painter: layers of signed distances on a square picture, back to front.

Scene coordinates are (x right, y down) in [0, 1]; the center of pixel ``i`` of a picture with
``size`` pixels lies at ``(i + 0.5) / size``. Coverage of a pixel is one minus its signed distance
in pixels, clipped, so every edge is anti-aliased at every resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float32]
Point: TypeAlias = tuple[float, float]
Color: TypeAlias = tuple[float, float, float]
Distance: TypeAlias = Callable[[Field, Field], Field]
Shade: TypeAlias = Callable[[Field, Field], Field]

BACKGROUND = "background"


@dataclass(frozen=True)
class Shape:
    """A signed distance (negative inside) and the box (left, top, right, bottom) that holds it."""

    distance: Distance
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


class Canvas:
    """A picture being painted, and the part that is visible at each pixel."""

    def __init__(self, size: int) -> None:
        centers = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        self.size = size
        self.x = centers[None, :]
        self.y = centers[:, None]
        self.colors: Field = np.zeros((3, size, size), np.float32)
        self.owners = np.zeros((size, size), np.uint8)
        self.parts: list[str] = [BACKGROUND]

    def fill(self, field: Field) -> None:
        """Replace the whole picture with a (3, size, size) field or one that broadcasts to it."""
        self.colors[:] = field

    def paint(
        self,
        shape: Shape,
        color: Color,
        part: str | None = None,
        shade: Shade | None = None,
        opacity: float = 1.0,
        softness: float = 0.0,
    ) -> None:
        """Lay one layer over the picture.

        Args:
            part: the part that owns the covered pixels; None leaves owners as they are (shadows).
            shade: factor on the color, from scene coordinates.
            softness: width of the edge in scene units; 0 is one pixel.
        """
        window = self._window(shape.box, softness)
        if window is None:
            return
        rows, columns = window
        x, y = self.x[:, columns], self.y[rows]
        edge = max(softness, 1.0 / self.size)
        cover = np.clip(0.5 - shape.distance(x, y) / np.float32(edge), 0.0, 1.0)
        if part is not None:
            self.owners[rows, columns][cover > 0.5] = self._number(part)
        cover = cover * np.float32(opacity)
        light = np.float32(1.0) if shade is None else shade(x, y)
        for plane, value in zip(self.colors, color, strict=True):
            view = plane[rows, columns]
            view += cover * (np.float32(value) * light - view)

    def image(self) -> NDArray[np.uint8]:
        """Return the picture as uint8 (size, size, 3)."""
        scaled = np.clip(self.colors, 0.0, 1.0) * np.float32(255.0) + np.float32(0.5)
        return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))

    def mask(self, part: str) -> NDArray[np.bool_]:
        """Return where a part, or a group of parts named ``group/part``, is visible."""
        belongs = [name == part or name.startswith(part + "/") for name in self.parts]
        return np.array(belongs)[self.owners]

    def _number(self, part: str) -> int:
        if part not in self.parts:
            self.parts.append(part)
        return self.parts.index(part)

    def _window(
        self, box: tuple[float, float, float, float], softness: float
    ) -> tuple[slice, slice] | None:
        margin = softness + 2.0 / self.size
        left, top = (max(0, int((value - margin) * self.size)) for value in box[:2])
        right, bottom = (min(self.size, int((value + margin) * self.size) + 1) for value in box[2:])
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)
