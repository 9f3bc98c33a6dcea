"""One picture of everything that the stages made for an edit, to be looked at."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from artifacts import ArtifactCorrupt, ArtifactStore
from stages.images import Pixels, read_image
from stages.jobs.edit import Edit
from stages.pipeline import STAGES
from stages.planning.plan import EditPlan, Status, plan_edits
from stages.reports.srgb_png import save_png
from stages.reports.tiles import PAPER, TILE, Color, drag_tile
from stages.reports.wording import ended, found, warnings_of
from stages.stage import Look, Stage

COLUMNS = 3
INK, FAINT = (32, 33, 36), (120, 124, 130)
GAP, CAPTION, HEADER = 12, 26, 64


def write_panel(edit: Edit, store: ArtifactStore, path: Path, *, truth: Path | None = None) -> Path:
    """Save a PNG with all that the stages made for an edit; what is not made is left gray.

    Args:
        truth: the picture that the edit should have given, where it is known.

    Raises:
        ModelUnavailable: if the files of the edit's model are not there.
        InvalidEdit: if the edit's image cannot be read any more.
    """
    (plan,) = plan_edits([edit], store)
    pixels = read_image(edit.image_path, edit.image.pixels)
    tiles = _tiles(plan, store, pixels)
    tiles["truth" if truth else "points"] = (
        drag_tile(read_image(truth), ()) if truth else _points(plan, pixels)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(sheet(_title(plan), _subtitle(plan), tuple(tiles.items())), path)
    return path


def _tiles(plan: EditPlan, store: ArtifactStore, pixels: Pixels) -> dict[str, Image.Image]:
    """Draw what each stage made; what is not made is left empty."""
    look = Look(plan.edit, pixels, plan.resolved.frame, TILE)
    empty = Image.new("RGB", drag_tile(pixels, ()).size, (225, 227, 230))
    drawn = {"input": drag_tile(pixels, plan.edit.drags)}
    for stage in STAGES:
        parts = _read(plan, stage, store)
        for tile in stage.tiles:
            if tile.part in parts:
                drawn[tile.title] = tile.draw(parts[tile.part], look)
            elif not tile.is_optional:
                drawn[tile.title] = empty
    return drawn


def _read(plan: EditPlan, stage: Stage, store: ArtifactStore) -> Mapping[str, Any]:
    """Return what a stage made, or nothing if that is not drawn, not there or damaged."""
    staged = plan.stages[stage.name]
    if not stage.tiles or staged.found is None or staged.status is not Status.HIT:
        return {}
    try:
        return store.read(staged.found.record)
    except ArtifactCorrupt:  # the store remembers it, and the next run makes it again
        return {}


def _title(plan: EditPlan) -> str:
    return f"{plan.edit.id}: {plan.verdict}" if plan.verdict else plan.edit.id


def _subtitle(plan: EditPlan) -> str:
    seconds = sum(record.circumstances.seconds for record in plan.records.values())
    missing = [name for name, staged in plan.stages.items() if staged.found is None]
    parts = [repr(plan.edit.prompt) if plan.edit.prompt else "no prompt", f"{seconds:.0f} s"]
    if missing := [name for name in missing if plan.stages[name].status is not Status.OFF]:
        parts.append(f"not made: {', '.join(missing)}")
    return " · ".join(parts)


def _points(plan: EditPlan, pixels: Pixels) -> Image.Image:
    """Write what became of each point, in place of a picture."""
    tile = Image.new("RGB", drag_tile(pixels, ()).size, (246, 247, 248))
    draw, room = ImageDraw.Draw(tile), tile.width - 2 * 14
    lines = (part for line in _point_lines(plan) for part in _wrapped(draw, line, room))
    for number, line in enumerate(lines):
        draw.text((14, 12 + 24 * number), line, INK, _font(16))
    return tile


def _wrapped(draw: ImageDraw.ImageDraw, line: str, room: float) -> list[str]:
    """Break a line into those that a tile has room for."""
    share = room / max(draw.textlength(line, _font(16)), room)
    return wrap(line, max(1, int(share * len(line)))) if share < 1 else [line]


def _point_lines(plan: EditPlan) -> Iterable[str]:
    drag, seen = plan.drag, plan.witness.get("points", [])
    yield f"{drag.get('steps', 0)} of {drag.get('budget', 0)} steps" if drag else "not dragged yet"
    for number, point in enumerate(seen, start=1):
        yield f"{number}  {found(point)}"
    for number, point in enumerate(drag.get("points", []), start=1):
        yield f"{number}  the tracker: {ended(point)}"
    for record in plan.records.values():
        yield from warnings_of(record.summary)


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
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, fill: Color, size: int, width: int
) -> None:
    font = _font(size)
    while text and draw.textlength(text, font) > width:
        text = text.rstrip("…")[:-1] + "…" if len(text) > 1 else ""
    draw.text(at, text, fill, font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
