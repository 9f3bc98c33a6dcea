"""One picture of everything that the stages made for an edit, to be looked at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from adaptivedrag.points import Drag, FeaturePoint, Frame, ImagePoint
from adaptivedrag.superpixels import paint_segments
from artifacts import ArtifactCorrupt, ArtifactStore
from stages.jobs.edit import Edit
from stages.jobs.images import Mask, Pixels, read_image
from stages.planning.plan import EditPlan, Status, plan_edits
from stages.stage import Resolved

Colour: TypeAlias = tuple[int, int, int]

TILE = 384
COLUMNS = 3
SMOOTHING = 2
"""Lines are drawn this many times larger and shrunk, since Pillow's own have steps."""

INK, PAPER, FAINT = (32, 33, 36), (255, 255, 255), (120, 124, 130)
HANDLE, TARGET, BORDER = (229, 57, 53), (30, 118, 255), (255, 235, 59)
PATHS = ((255, 193, 7), (0, 200, 150), (224, 64, 251), (64, 196, 255))
GAP, CAPTION, HEADER = 12, 26, 64


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

    def dot(self, point: ImagePoint, colour: Colour, size: float = 4.0) -> None:
        """Mark a point."""
        x, y = self.place(point)
        for radius, fill in ((size + 1.2, PAPER), (size, colour)):
            reach = radius * self.unit
            self.draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill)

    def line(self, points: Iterable[ImagePoint], colour: Colour, width: float = 2.0) -> None:
        """Join points by a line with a light edge."""
        places = [self.place(point) for point in points]
        for wide, fill in ((width + 1.6, PAPER), (width, colour)):
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

    def outline(self, borders: Mask, colour: Colour) -> None:
        """Colour the canvas where `borders`, an array of its size, is True."""
        stencil = Image.fromarray(borders)
        self.picture.paste(colour, (0, 0), stencil)


def drag_tile(pixels: Pixels, drags: Sequence[Drag], longest: int = TILE) -> Image.Image:
    """Show an image with an arrow from every handle to its target."""
    canvas = Canvas.of(pixels, longest)
    for drag in drags:
        canvas.arrow(drag)
    return canvas.finished()


def mask_tile(
    pixels: Pixels, mask: Mask, drags: Sequence[Drag], longest: int = TILE
) -> Image.Image:
    """Show an image in colour where it may change, and dim and grey where it may not."""
    grey = pixels.mean(axis=2, keepdims=True) * 0.4 + 25
    shown = np.where(mask[:, :, None], pixels, grey).astype(np.uint8)
    canvas = Canvas.of(shown, longest)
    size = canvas.picture.size
    large = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    canvas.outline(_thick(_borders(large), max(1, round(canvas.unit))), BORDER)
    for drag in drags:
        canvas.arrow(drag)
    return canvas.finished()


def superpixel_tile(
    pixels: Pixels, labels: npt.NDArray[np.int32], frame: Frame, longest: int = TILE
) -> Image.Image:
    """Show an image with the borders of its superpixels."""
    canvas = Canvas.of(pixels, longest)
    width, height = canvas.picture.size
    horizontal, vertical = canvas.scale
    cols = [frame.to_cell(ImagePoint((x + 0.5) / horizontal - 0.5, 0.0))[1] for x in range(width)]
    rows = [frame.to_cell(ImagePoint(0.0, (y + 0.5) / vertical - 0.5))[0] for y in range(height)]
    canvas.outline(_thick(_borders(labels[rows][:, cols]), 1), BORDER)
    return canvas.finished()


def path_tile(
    pixels: Pixels,
    tracks: npt.NDArray[np.float32],
    drags: Sequence[Drag],
    frame: Frame,
    longest: int = TILE,
) -> Image.Image:
    """Show the way of every handle, with its beginning, its target and where it ended."""
    canvas = Canvas.of(pixels, longest)
    for number, drag in enumerate(drags):
        points = [frame.to_image(FeaturePoint(*map(float, step))) for step in tracks[:, number]]
        colour = PATHS[number % len(PATHS)]
        if len(points) > 1:
            canvas.line(points, colour)
        canvas.dot(drag.target, TARGET, 3.0)
        canvas.dot(drag.handle, HANDLE, 3.0)
        canvas.dot(points[-1], colour, 3.0)
    return canvas.finished()


def write_panel(edit: Edit, store: ArtifactStore, path: Path, *, truth: Path | None = None) -> Path:
    """Save a PNG with all that the stages made for an edit; what is not made is left grey.

    Args:
        truth: the picture that the edit should have given, where it is known.

    Raises:
        ModelUnavailable: if the files of the edit's model are not there.
        InvalidEdit: if the edit's image cannot be read any more.
    """
    (plan,) = plan_edits([edit], store)
    tiles = _tiles(plan, store)
    tiles["truth" if truth else "points"] = (
        drag_tile(read_image(truth), ()) if truth else _points(plan, edit)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(_title(plan), _subtitle(plan), tuple(tiles.items())).save(path)
    return path


def _tiles(plan: EditPlan, store: ArtifactStore) -> dict[str, Image.Image]:
    edit, frame = plan.edit, Resolved.of(plan.edit).frame
    pixels = read_image(edit.image_path)
    made = {name: _read(plan, name, store) for name in plan.stages}
    labels = made["extract_superpixels"].get("labels")
    mask = made["build_mask"].get("picture")
    tracks = made["optimize_latent"].get("tracks")
    result = made["sample_image"].get("image")
    empty = Image.new("RGB", drag_tile(pixels, ()).size, (225, 227, 230))
    return {
        "input": drag_tile(pixels, edit.drags),
        **_segments(pixels, made["extract_superpixels"].get("segments"), frame),
        "superpixels": empty if labels is None else superpixel_tile(pixels, labels, frame),
        "mask": empty if mask is None else mask_tile(pixels, mask > 0, edit.drags),
        "paths": empty if tracks is None else path_tile(pixels, tracks, edit.drags, frame),
        "result": empty if result is None else drag_tile(result, ()),
    }


def _segments(
    pixels: Pixels, segments: npt.NDArray[np.bool_] | None, frame: Frame
) -> dict[str, Image.Image]:
    """Show SAM 2's automatic segments, where the edit has them, the smaller over the larger."""
    if segments is None:
        return {}
    return {"segments": superpixel_tile(pixels, paint_segments(segments), frame)}


def _read(plan: EditPlan, stage: str, store: ArtifactStore) -> Mapping[str, Any]:
    """Return what a stage made, or nothing if that is not there or damaged."""
    staged = plan.stages[stage]
    if stage in ("train_lora", "invert_image") or staged.status is not Status.HIT:
        return {}
    try:
        return store.read(staged.found.record) if staged.found else {}
    except ArtifactCorrupt:  # the store remembers it, and the next run makes it anew
        return {}


def _title(plan: EditPlan) -> str:
    record = plan.stages["optimize_latent"].record
    verdict = record.summary.get("verdict") if record else None
    return f"{plan.edit.id}: {verdict}" if verdict else plan.edit.id


def _subtitle(plan: EditPlan) -> str:
    seconds = sum(record.circumstances.seconds for record in plan.records.values())
    missing = [name for name, staged in plan.stages.items() if staged.found is None]
    parts = [repr(plan.edit.prompt) if plan.edit.prompt else "no prompt", f"{seconds:.0f} s"]
    if missing := [name for name in missing if plan.stages[name].status is not Status.OFF]:
        parts.append(f"not made: {', '.join(missing)}")
    return " · ".join(parts)


def _points(plan: EditPlan, edit: Edit) -> Image.Image:
    """Write what became of each point, in place of a picture."""
    record = plan.stages["optimize_latent"].record
    lines = ["not dragged yet"] if record is None else list(_point_lines(record.summary))
    tile = Image.new("RGB", drag_tile(read_image(edit.image_path), ()).size, (246, 247, 248))
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate(lines):
        draw.text((14, 12 + 24 * number), line, INK, _font(16))
    return tile


def _point_lines(summary: Mapping[str, Any]) -> Iterable[str]:
    yield f"{summary.get('steps', 0)} of {summary.get('budget', 0)} steps"
    for number, point in enumerate(summary.get("points", ()), start=1):
        yield f"{number}  {point['verdict']}, tracked {point['distance']:.1f} px from its target"
    for warning in summary.get("warnings", ()):
        yield str(warning)


def sheet(
    title: str, subtitle: str, tiles: Sequence[tuple[str, Image.Image]], columns: int = COLUMNS
) -> Image.Image:
    """Lay tiles out in rows under a title, each with its name above it."""
    width, height = (max(tile.size[axis] for _, tile in tiles) for axis in (0, 1))
    rows = -(-len(tiles) // columns)
    size = columns * (width + GAP) + GAP, HEADER + rows * (height + CAPTION + GAP)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    _text(draw, (GAP, 10), title, INK, 22, size[0] - 2 * GAP)
    _text(draw, (GAP, 38), subtitle, FAINT, 15, size[0] - 2 * GAP)
    for number, (name, tile) in enumerate(tiles):
        left = GAP + number % columns * (width + GAP)
        top = HEADER + number // columns * (height + CAPTION + GAP)
        _text(draw, (left, top), name, INK, 16, width)
        picture.paste(tile, (left, top + CAPTION - 2))
    return picture


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, fill: Colour, size: int, width: int
) -> None:
    font = _font(size)
    while text and draw.textlength(text, font) > width:
        text = text.rstrip("…")[:-1] + "…" if len(text) > 1 else ""
    draw.text(at, text, fill, font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _borders(labels: npt.NDArray[Any]) -> Mask:
    """Return True where a pixel differs from its right or lower neighbour."""
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
