"""Points and the three frames they live in; every conversion between frames is here.

Image frame: (x, y), x to the right, y down, in pixels of the user's image; (0, 0) is the center of
the top left pixel. The model sees the *working image*: the user's image shrunk to the working
size and reflect-padded at the right and bottom to a multiple of the model's stride.
Latent frame: (row, col), one cell per `factor`×`factor` working pixels.
Feature frame: (row, col), four cells per latent cell and side, so half a working pixel's
resolution for a VAE of factor 8 (DragDiffusion's feature grid). Cell centers have whole numbers in
all frames, as in bilinear resizing with `align_corners=False`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from adaptivedrag.errors import InvalidEdit

FEATURES_PER_LATENT = 4
UNET_STRIDE = 8
MIN_SIDE = 32


class ImagePoint(NamedTuple):
    """A point of the user's image, in pixels."""

    x: float
    y: float


class FeaturePoint(NamedTuple):
    """A point of the feature grid."""

    row: float
    col: float


class LatentPoint(NamedTuple):
    """A point of the latent grid."""

    row: float
    col: float


def outside(drags: "Sequence[Drag]", width: int, height: int) -> tuple[str, str] | None:
    """Find the first point outside an image; return which it is, and a line that says so."""
    for number, drag in enumerate(drags):
        for name, point in (("handle", drag.handle), ("target", drag.target)):
            if not lies_inside(point, width, height):
                where = f"drags[{number}].{name}"
                return where, (
                    f"{where} ({point.x:g}, {point.y:g}) lies outside the {width}x{height} image: "
                    f"x goes from 0 to {width - 1} and y from 0 to {height - 1}"
                    + _swap(drags, width, height)
                )
    return None


def _swap(drags: "Sequence[Drag]", width: int, height: int) -> str:
    """Say so if rows and columns were written for x and y."""
    swapped = (ImagePoint(point.y, point.x) for drag in drags for point in drag)
    fit = all(lies_inside(point, width, height) for point in swapped)
    return "; all points fit if x and y are swapped: write (x, y)" if fit else ""


def lies_inside(point: ImagePoint, width: int, height: int) -> bool:
    """Return whether a point lies on a pixel of an image; NaN and infinity do not."""
    return -0.5 <= point.x <= width - 0.5 and -0.5 <= point.y <= height - 0.5


class Drag(NamedTuple):
    """Move what is at `handle` to `target`; both in pixels of the user's image."""

    handle: ImagePoint
    target: ImagePoint


@dataclass(frozen=True)
class Frame:
    """Sizes of one image in every frame, and the conversions of points between them."""

    image_height: int
    image_width: int
    height: int
    """Rows of the working image without padding."""
    width: int
    factor: int
    """Working pixels per latent cell and side."""

    @classmethod
    def of_image(cls, height: int, width: int, *, factor: int, working_size: int) -> Self:
        """Plan the frames of an image of `height`×`width` pixels.

        Args:
            factor: pixels per latent cell and side of the VAE.
            working_size: an image of more than `working_size`² pixels is shrunk to that many.

        Raises:
            InvalidEdit: if a side is shorter than 32 pixels.
        """
        if min(height, width) < MIN_SIDE:
            raise InvalidEdit(
                f"image is {width}x{height} pixels; both sides need at least {MIN_SIDE}: enlarge it"
            )
        scale = min(1.0, working_size / math.sqrt(height * width))
        working = [max(MIN_SIDE, round(side * scale)) for side in (height, width)]
        return cls(height, width, working[0], working[1], factor)

    @property
    def padded_height(self) -> int:
        """Rows of the padded working image."""
        return self._padded(self.height)

    @property
    def padded_width(self) -> int:
        """Columns of the padded working image."""
        return self._padded(self.width)

    def _padded(self, side: int) -> int:
        stride = self.factor * UNET_STRIDE
        return math.ceil(side / stride) * stride

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        return self.padded_height // self.factor, self.padded_width // self.factor

    @property
    def image_latents(self) -> tuple[int, int]:
        """Rows and columns of the latents that hold the image, at least one stride of the UNet."""
        rows, cols = (math.ceil(side / self.factor) for side in (self.height, self.width))
        return max(rows, UNET_STRIDE), max(cols, UNET_STRIDE)

    @property
    def feature_size(self) -> tuple[int, int]:
        """Rows and columns of the feature grid."""
        rows, cols = self.latent_size
        return rows * FEATURES_PER_LATENT, cols * FEATURES_PER_LATENT

    @property
    def image_cells(self) -> tuple[int, int]:
        """Rows and columns of the feature grid that hold the image; the rest is padding."""
        step = self.pixels_per_feature
        return math.ceil(self.height / step), math.ceil(self.width / step)

    @property
    def pixels_per_feature(self) -> float:
        """Working pixels per feature cell and side."""
        return self.factor / FEATURES_PER_LATENT

    @property
    def features_per_pixel(self) -> tuple[float, float]:
        """Feature cells per pixel of the image, down and to the right."""
        step = self.pixels_per_feature
        return self.height / self.image_height / step, self.width / self.image_width / step

    def to_feature(self, point: ImagePoint) -> FeaturePoint:
        """Convert an image point to the feature frame, without rounding."""
        x, y = self._to_working(point)
        step = self.pixels_per_feature
        return FeaturePoint((y + 0.5) / step - 0.5, (x + 0.5) / step - 0.5)

    def to_image(self, point: FeaturePoint) -> ImagePoint:
        """Convert a feature point back to the image frame; the inverse of `to_feature`."""
        step = self.pixels_per_feature
        y, x = ((value + 0.5) * step for value in point)
        return ImagePoint(
            x * self.image_width / self.width - 0.5, y * self.image_height / self.height - 0.5
        )

    def to_cell(self, point: ImagePoint) -> tuple[int, int]:
        """Return the feature cell (row, col) nearest to an image point, inside the image."""
        rows, cols = self.image_cells
        row, col = self.to_feature(point)
        return min(max(round(row), 0), rows - 1), min(max(round(col), 0), cols - 1)

    def to_latent(self, point: ImagePoint) -> LatentPoint:
        """Convert an image point to the latent frame, without rounding."""
        x, y = self._to_working(point)
        return LatentPoint((y + 0.5) / self.factor - 0.5, (x + 0.5) / self.factor - 0.5)

    def _to_working(self, point: ImagePoint) -> tuple[float, float]:
        return (
            (point.x + 0.5) * self.width / self.image_width - 0.5,
            (point.y + 0.5) * self.height / self.image_height - 0.5,
        )
