"""Draw what stages make: an image with drags, superpixels, a mask, or the paths of handles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from adaptivedrag.pictures.masks import Mask
from adaptivedrag.points import Drag, FeaturePoint, Frame, ImagePoint
from stages.images import Pixels

Color: TypeAlias = tuple[int, int, int]

TILE = 384
SMOOTHING = 2
"""Lines are drawn this many times larger and shrunk, since Pillow's own have steps."""

SMOOTH_UP_TO = 2048
"""Overlays with a longer side are drawn as they are: they are large enough, and so are steps."""

PAPER = (255, 255, 255)
HANDLE, TARGET, BORDER = (229, 57, 53), (30, 118, 255), (255, 235, 59)
_CLEAR, _DIM, _LINE = range(3)
_GRAY = (32, 34, 37)
PATHS = ((255, 193, 7), (0, 200, 150), (224, 64, 251), (64, 196, 255))


@dataclass(frozen=True)
class Canvas:
    """An image at the size it is shown in, on which points of the image can be drawn."""

    picture: Image.Image
    draw: ImageDraw.ImageDraw
    scale: tuple[float, float]
    """Canvas pixels per pixel of the image, horizontally and vertically."""

    @classmethod
    def of(cls, pixels: Pixels, longest: int) -> "Canvas":
        """Show an image with its longest side at `longest` pixels, larger while it is drawn on."""
        height, width = pixels.shape[:2]
        ratio = SMOOTHING * longest / max(height, width)
        size = max(1, round(width * ratio)), max(1, round(height * ratio))
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        return cls(picture, ImageDraw.Draw(picture), (size[0] / width, size[1] / height))

    def finished(self) -> Image.Image:
        """Return the picture at the size in which it is shown."""
        width, height = self.picture.size
        size = max(1, width // SMOOTHING), max(1, height // SMOOTHING)
        return self.picture.resize(size, Image.Resampling.LANCZOS)

    def place(self, point: ImagePoint) -> tuple[float, float]:
        """Return where a point of the image lies on the canvas."""
        return (point.x + 0.5) * self.scale[0], (point.y + 0.5) * self.scale[1]

    @property
    def unit(self) -> float:
        """Width of a thin line."""
        return max(self.picture.size) / 300

    def dot(self, point: ImagePoint, color: Color, size: float = 4.0) -> None:
        """Mark a point."""
        x, y = self.place(point)
        for radius, fill in ((size + 1.2, PAPER), (size, color)):
            reach = radius * self.unit
            self.draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill)

    def line(self, points: Iterable[ImagePoint], color: Color, width: float = 2.0) -> None:
        """Join points by a line with a light edge."""
        places = [self.place(point) for point in points]
        for wide, fill in ((width + 1.6, PAPER), (width, color)):
            self.draw.line(places, fill, max(1, round(wide * self.unit)), joint="curve")

    def arrow(self, drag: Drag) -> None:
        """Draw a drag: the handle's dot and an arrow to the target."""
        (x, y), (end_x, end_y) = self.place(drag.handle), self.place(drag.target)
        length = np.hypot(end_x - x, end_y - y)
        if length > 0:
            self.line([drag.handle, drag.target], TARGET)
            across = np.array([end_x - x, end_y - y]) / length
            self._head(np.array([end_x, end_y]), across, min(10 * self.unit, length * 0.6))
        self.dot(drag.handle, HANDLE)

    def _head(self, tip: npt.NDArray[Any], along: npt.NDArray[Any], size: float) -> None:
        side = np.array([-along[1], along[0]])
        for reach, fill in ((1.45, PAPER), (1.0, TARGET)):
            front = tip + along * size * (reach - 1) * 0.8
            back = tip - along * size * (1 + (reach - 1) * 0.4)
            half = side * size * 0.55 * reach
            self.draw.polygon([(*front,), (*(back + half),), (*(back - half),)], fill)

    def outline(self, borders: Mask, color: Color) -> None:
        """Color the canvas where `borders`, an array of its size, is True."""
        stencil = Image.fromarray(borders)
        self.picture.paste(color, (0, 0), stencil)


def drag_tile(pixels: Pixels, drags: Sequence[Drag], longest: int = TILE) -> Image.Image:
    """Show an image with an arrow from every handle to its target."""
    canvas = Canvas.of(pixels, longest)
    for drag in drags:
        canvas.arrow(drag)
    return canvas.finished()


def mask_tile(
    pixels: Pixels, mask: Mask, drags: Sequence[Drag], longest: int = TILE
) -> Image.Image:
    """Show an image in color where it may change, and dim and gray where it may not."""
    gray = pixels.mean(axis=2, keepdims=True) * 0.4 + 25
    shown = np.where(mask[:, :, None], pixels, gray).astype(np.uint8)
    canvas = Canvas.of(shown, longest)
    size = canvas.picture.size
    large = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    canvas.outline(_thick(_borders(large), max(1, round(canvas.unit))), BORDER)
    for drag in drags:
        canvas.arrow(drag)
    return canvas.finished()


def mask_overlay(mask: Mask) -> Image.Image:
    """Return a picture that grays an image where it may not change, with the mask's border."""
    shown = np.where(mask, _CLEAR, _DIM)
    shown[_thick(_borders(mask), 1)] = _LINE
    return _stencil(shown)


def superpixel_tile(
    pixels: Pixels, labels: npt.NDArray[np.int32], frame: Frame, longest: int = TILE
) -> Image.Image:
    """Show an image with the borders of its superpixels."""
    canvas = Canvas.of(pixels, longest)
    shown = _at_size(labels, frame, *canvas.picture.size)
    canvas.outline(_thick(_borders(shown), 1), BORDER)
    return canvas.finished()


def superpixel_overlay(labels: npt.NDArray[np.int32], frame: Frame) -> Image.Image:
    """Return the borders of superpixels at the image's size, else transparent."""
    shown = _at_size(labels, frame, frame.image_width, frame.image_height)
    return _stencil(np.where(_borders(shown), _LINE, _CLEAR))


def _at_size(
    labels: npt.NDArray[np.int32], frame: Frame, width: int, height: int
) -> npt.NDArray[np.int32]:
    """Return the labels of the feature grid for each pixel of the image at another size."""
    horizontal, vertical = width / frame.image_width, height / frame.image_height
    cols = [frame.to_cell(ImagePoint((x + 0.5) / horizontal - 0.5, 0.0))[1] for x in range(width)]
    rows = [frame.to_cell(ImagePoint(0.0, (y + 0.5) / vertical - 0.5))[0] for y in range(height)]
    return labels[rows][:, cols]


def path_tile(
    pixels: Pixels,
    tracks: npt.NDArray[np.float32],
    drags: Sequence[Drag],
    frame: Frame,
    longest: int = TILE,
) -> Image.Image:
    """Show the path of every handle, with its start, its target and its end."""
    canvas = Canvas.of(pixels, longest)
    for number, drag in enumerate(drags):
        points = [frame.to_image(FeaturePoint(*map(float, step))) for step in tracks[:, number]]
        color = PATHS[number % len(PATHS)]
        if len(points) > 1:
            canvas.line(points, color)
        canvas.dot(drag.target, TARGET, 3.0)
        canvas.dot(drag.handle, HANDLE, 3.0)
        canvas.dot(points[-1], color, 3.0)
    return canvas.finished()


def path_overlay(tracks: npt.NDArray[np.float32], frame: Frame) -> Image.Image:
    """Return the path of every handle with its end, at the image's size, else transparent."""
    size = frame.image_width, frame.image_height
    smoothing = SMOOTHING if max(size) <= SMOOTH_UP_TO else 1
    large = Image.new("RGBA", (size[0] * smoothing, size[1] * smoothing))
    canvas = Canvas(large, ImageDraw.Draw(large), (smoothing, smoothing))
    for number in range(tracks.shape[1]):
        points = [frame.to_image(FeaturePoint(*map(float, step))) for step in tracks[:, number]]
        color = PATHS[number % len(PATHS)]
        if len(points) > 1:
            canvas.line(points, color, 1.0)
        canvas.dot(points[-1], color, 1.5)
    return large.reduce(smoothing)


def _stencil(shown: npt.NDArray[np.integer]) -> Image.Image:
    """Return a picture of the few colors that overlays have, by their numbers."""
    picture = Image.fromarray(shown.astype(np.uint8), "P")
    picture.putpalette([*_GRAY, *_GRAY, *BORDER])
    picture.info["transparency"] = bytes((0, 170, 255))
    return picture


def _borders(labels: npt.NDArray[Any]) -> Mask:
    """Return True where a pixel differs from its right or lower neighbor."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def _thick(borders: Mask, width: int) -> Mask:
    """Return the borders widened to the right and downwards by `width` pixels."""
    wide = borders.copy()
    for shift in range(1, width + 1):
        wide[:, shift:] |= borders[:, :-shift]
        wide[shift:] |= borders[:-shift]
    return wide
