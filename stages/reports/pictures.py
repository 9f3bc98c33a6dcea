"""The pictures of an edit that pages show, each drawn once and named by everything that it shows.

images/<id>.png              the edited image, the only one that is named by its edit
sources/<digest>.png         the image as it was read
overlays/<digest>-<tile>.png what stages made, transparent, to be laid on the image
truths/<digest>.png          what a scene's drag should have given
thumbs/<digest>.jpg          small pictures of the image and the result
"""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactError, ArtifactStore, Record, digest_json, digest_pixels
from stages.jobs.edit import Edit
from stages.pipeline import REGION, RESULT, STAGES
from stages.planning.plan import EditPlan, StagePlan, Status
from stages.reports.place import Place
from stages.reports.rows import DRAWING, ResultRow, pictures_of
from stages.stage import InputChanged, Stage

if TYPE_CHECKING:
    from PIL import Image

    from stages.images import Pixels

IMAGES, SOURCES, OVERLAYS, TRUTHS, THUMBS = "images", "sources", "overlays", "truths", "thumbs"
THUMB = 160
"""Longest side of a small picture, in pixels."""
_OURS = re.compile(
    rf"({SOURCES}|{TRUTHS})/[0-9a-f]{{64}}\.png"
    rf"|{OVERLAYS}/[0-9a-f]{{32}}-[a-z]+\.png|{THUMBS}/[0-9a-f]{{32}}\.jpg"
)


@dataclass
class Pictures:
    """The pictures at a place, drawn from a store."""

    place: Place
    store: ArtifactStore
    _last: "tuple[str, Pixels] | None" = None
    """The digest and the pixels of the image that was read last; the next edit may be of it."""

    def of_edit(self, plan: EditPlan) -> ResultRow:
        """Draw the image, and what stages show of their work; None for what cannot be shown."""
        edit = plan.edit
        source = self._drawn(f"{SOURCES}/{edit.image.digest}.png", lambda: _png(self._source(edit)))
        small = _thumb_name("before", edit.image.digest)
        before = self._drawn(small, lambda: _thumb(self._source(edit)))
        return {
            "source": source,
            "thumbs": {"before": before},
            "overlays": {
                tile.title: self._overlay(plan, stage, tile.title, tile.part, tile.overlay)
                for stage in STAGES
                for tile in stage.tiles
                if tile.overlay
            },
            "truth": self._truth(edit) if plan.done and edit.scene else None,
        }

    def of_result(
        self, plan: EditPlan, old: ResultRow, thumbs: Mapping[str, str | None]
    ) -> ResultRow:
        """Write the edited image, unless it is there already as it should be, and measure it.

        Args:
            old: the edit's row as it was.
            thumbs: its small pictures.

        Raises:
            ArtifactError: if it cannot be read.
        """
        found = plan.stages[RESULT.name].found
        assert found is not None
        path, thumb = f"{IMAGES}/{plan.edit.id}.png", _thumb_name("after", found.object)
        result = _Once(lambda: self.store.read(found.record, [RESULT.result])[RESULT.result])
        is_there = old.get("object") == found.object and self._has(path, old.get("stamp"))
        stamp = old["stamp"] if is_there else self._save_result(path, result.pixels)
        self._save_missing(thumb, lambda: _thumb(result.pixels))
        measured = self._measured(plan, old if is_there else {}, result)
        written = {"image": path, "stamp": stamp, "object": found.object}
        return {**written, **measured, "thumbs": {**thumbs, "after": thumb}}

    def are_there(self, row: ResultRow) -> bool:
        """Return whether the pictures of a row are there, and its result is as it was written."""
        if not self._small.issuperset(pictures_of(row)):
            return False
        return "image" not in row or self._has(row["image"], row.get("stamp"))

    def sweep(self, rows: Iterable[ResultRow]) -> None:
        """Remove pictures of ours that no row shows."""
        shown = {path for row in rows for path in pictures_of(row)}
        ours = {path for path in self._small if _OURS.fullmatch(path)}
        self.place.delete(sorted(ours - shown))
        self._small.difference_update(ours - shown)

    # Drawing

    def _source(self, edit: Edit) -> "Pixels":
        from stages.images import read_image

        if self._last is None or self._last[0] != edit.image.digest:
            pixels = read_image(edit.image_path, edit.image.pixels)
            if digest_pixels(pixels) != edit.image.digest:
                raise InputChanged(f"edit {edit.id}: {edit.image_path} has changed: run again")
            self._last = edit.image.digest, pixels
        return self._last[1]

    def _overlay(
        self,
        plan: EditPlan,
        stage: Stage,
        title: str,
        part: str,
        draw: "Callable[[Any, Any], Image.Image]",
    ) -> str | None:
        staged, frame = plan.stages[stage.name], plan.resolved.frame
        if (record := _hit(staged)) is None:
            return None
        what = [title, DRAWING, record.object, asdict(frame)]
        name = f"{OVERLAYS}/{digest_json('overlay', what)[:32]}-{title}.png"
        return self._drawn(name, lambda: _png(draw(self.store.read(record, [part])[part], frame)))

    def _truth(self, edit: Edit) -> str | None:
        from stages.evaluate import true_result

        scene, size = edit.scene, edit.image.width
        assert scene is not None
        name = digest_json("truth", [DRAWING, scene.number, scene.drag, size])
        return self._drawn(f"{TRUTHS}/{name}.png", lambda: _png(true_result(scene, size).truth))

    def _measured(self, plan: EditPlan, old: ResultRow, result: "_Once") -> ResultRow:
        """Return the mask's share and the change outside it, if they can be known."""
        names = "outside", "mask_share"
        if old.get("outside") is not None and old["keys"] == _keys(plan):
            return {name: old[name] for name in names}
        if (record := _hit(plan.stages[REGION.name])) is None:
            return {}
        with suppress(InvalidEdit, ArtifactError):
            region = self.store.read(record, [REGION.region])[REGION.region] > 0
            outside = change(self._source(plan.edit), result.pixels, ~region)
            return {"outside": outside, "mask_share": round(float(region.mean()), 4)}
        return {}

    # Files

    @cached_property
    def _images(self) -> dict[str, str]:
        """The stamps of the results that are there, by path."""
        return self.place.stamps(IMAGES)

    @cached_property
    def _small(self) -> set[str]:
        """The paths of all other pictures that are there."""
        return {p for f in (SOURCES, OVERLAYS, TRUTHS, THUMBS) for p in self.place.names(f)}

    def _has(self, path: str, stamp: str | None) -> bool:
        return stamp is not None and self._images.get(path) == stamp

    def _drawn(self, path: str, draw: Callable[[], bytes]) -> str | None:
        """Return the path of a picture, or None where it cannot be drawn any more."""
        with suppress(InvalidEdit, ArtifactError, KeyError):
            self._save_missing(path, draw)
            return path
        return None

    def _save_missing(self, path: str, draw: Callable[[], bytes]) -> None:
        if path not in self._small:
            self.place.put(path, draw())
            self._small.add(path)

    def _save_result(self, path: str, pixels: "Pixels") -> str:
        """Write an edited image; return its stamp."""
        self.place.put(path, _png(pixels))
        self._images[path] = stamp = self.place.stamp(path) or ""
        return stamp


@dataclass(frozen=True)
class _Once:
    """A picture that is read from the store when it is needed, and once."""

    read: Callable[[], Any]

    @cached_property
    def pixels(self) -> "Pixels":
        pixels: Pixels = self.read()
        return pixels


def _hit(staged: StagePlan) -> Record | None:
    return staged.record if staged.status is Status.HIT else None


def _keys(plan: EditPlan) -> Mapping[str, str]:
    return {name: found.key for name, found in plan.found.items()}


def change(before: "Pixels", after: "Pixels", where: np.ndarray) -> float | None:
    """Return the mean absolute difference where a mask is True, 0 to 255; None where it never is.

    None, too, where the sizes differ.
    """
    if before.shape != after.shape or where.shape != before.shape[:2] or not where.any():
        return None
    difference = np.maximum(before, after) - np.minimum(before, after)
    return round(float(difference[where].mean()), 3)


def _thumb_name(kind: str, *what: object) -> str:
    return f"{THUMBS}/{digest_json('thumbnail', [kind, DRAWING, *what])[:32]}.jpg"


def _thumb(pixels: "Pixels") -> bytes:
    from PIL import Image

    picture, encoded = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((THUMB, THUMB))
    picture.save(encoded, "JPEG", quality=75)
    return encoded.getvalue()


def _png(picture: "Pixels | Image.Image") -> bytes:
    from PIL import Image

    from stages.reports.srgb_png import save_png

    shown = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    encoded = io.BytesIO()
    save_png(shown, encoded)
    return encoded.getvalue()
