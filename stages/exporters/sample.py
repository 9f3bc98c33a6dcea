"""What is taken away of an edit: a row of what is known of it, and three pictures."""

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactCorrupt, ArtifactStore, digest_json, digest_pixels
from stages.evaluate import Judged
from stages.exporters.rle import run_lengths
from stages.images import Pixels, read_image
from stages.jobs.edit import Edit
from stages.jobs.importers.manifest import OF_METHOD
from stages.jobs.votes import Vote
from stages.pipeline import REGION, RESULT
from stages.planning.plan import EditPlan, Status
from stages.reports.pictures import change
from stages.reports.srgb_png import save_png
from stages.reports.verdicts import figures
from stages.stage import InputChanged, Stage, as_planned

Row: TypeAlias = dict[str, Any]
"""Facts of an edit, as JSON of the same form for every edit."""
IMAGE, EDITED, MASK = PICTURES = "image", "edited", "mask"
"""The pictures of a sample, by column: as the method saw it, as it came out, where it might change.
All are PNG and of one size, in sRGB without a profile; masks are gray, 255 where it might."""
OF_USER = "user"


class Lost(InvalidEdit):
    """An edit was planned to be taken away, and a file of it is damaged or has changed since."""


@dataclass(frozen=True)
class Sample:
    """An edit as it is written.

    Attributes:
        pictures: PNG files, by the names in `PICTURES`.
    """

    row: Row
    pictures: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """The id of the edit."""
        return str(self.row["id"])

    @property
    def size(self) -> int:
        """Bytes of the pictures and of the row as JSON."""
        return len(line_of(self.row)) + sum(map(len, self.pictures.values()))


@dataclass(frozen=True)
class Known:
    """What is known of a finished edit before any picture of it is read.

    Attributes:
        row: without what follows from the pictures.
    """

    plan: EditPlan
    row: Row

    @classmethod
    def of(cls, plan: EditPlan, vote: Vote, judged: Judged) -> "Known":
        """Collect what the job, the store, and people say of an edit.

        Args:
            judged: what `eval` has kept of results.
        """
        edit, witness = plan.edit, plan.witness
        result = plan.stages[RESULT.name].found
        assert result is not None
        measures = judged.of(edit, result.logical)
        is_given = edit.mask_path is not None and edit.config.build_mask.mode == "user"
        row = {
            "id": edit.id,
            "prompt": edit.prompt,
            "tags": [*edit.tags],
            "points": [[*map(float, point)] for drag in edit.drags for point in drag],
            "width": edit.image.width,
            "height": edit.image.height,
            "preset": edit.preset,
            "variant": edit.variant,
            "verdict": witness.get("verdict", ""),
            **figures(witness.get("points", ())),
            "tracker": plan.drag.get("verdict", ""),
            "scores": json.dumps(measures),
            "vote": vote.vote or "",
            "note": vote.note,
            "mask_of": OF_USER if is_given else OF_METHOD,
            "scene": json.dumps(asdict(edit.scene)) if edit.scene else "",
        }
        return cls(plan, row)

    @property
    def name(self) -> str:
        """The id of the edit."""
        return self.plan.edit.id

    @cached_property
    def digests(self) -> dict[str, str]:
        """What the sample is made of: its image's pixels, objects of the store, and its row."""
        result, region = (self.plan.stages[stage.name].found for stage in (RESULT, REGION))
        assert result is not None
        assert region is not None
        return {
            IMAGE: self.plan.edit.image.digest,
            EDITED: result.object,
            MASK: region.object,
            "row": digest_json("row", self.row),
        }

    def read(self, store: ArtifactStore) -> Sample:
        """Read the pictures: the store's own bytes, and the image as it was read.

        Raises:
            Lost: if one is damaged or has changed.
            StoreUnavailable: if the store cannot be read.
        """
        pixels, image = _source(self.plan.edit)
        pictures = {
            IMAGE: image,
            EDITED: self._stored(store, RESULT, RESULT.result),
            MASK: self._stored(store, REGION, REGION.region),
        }
        edited, mask = (_decoded(pictures[name]) for name in (EDITED, MASK))
        region = mask > 0
        provenance = {name: self.digests[name] for name in PICTURES}
        seen = {
            "outside": change(pixels, edited, ~region),
            "mask_share": round(float(region.mean()), 4),
            "mask_rle": run_lengths(region),
            "provenance": provenance,
        }
        return Sample(self.row | seen, pictures)

    def _stored(self, store: ArtifactStore, stage: Stage, part: str) -> bytes:
        record = self.plan.stages[stage.name].record
        assert record is not None
        try:
            return store.verified(record).files[f"{part}.png"]
        except ArtifactCorrupt as damage:
            store.mark_damaged(record.object, str(damage))
            raise Lost(f"{stage.name} is damaged ({damage}): run the job again") from damage


def _source(edit: Edit) -> tuple[Pixels, bytes]:
    """Return the pixels of an edit's image, and a PNG of them: the file itself where it is one."""
    try:
        with as_planned(edit, edit.image_path) as check:
            data = edit.image_path.read_bytes()
            pixels = read_image(edit.image_path, edit.image.pixels)
            check(digest_pixels(pixels) == edit.image.digest)
    except InputChanged as changed:
        raise Lost(f"{changed}") from changed
    with suppress(OSError):
        if np.array_equal(_decoded(data), pixels):
            return pixels, data
    encoded = io.BytesIO()
    save_png(Image.fromarray(pixels), encoded)
    return pixels, encoded.getvalue()


def _decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        return np.asarray(picture)


def line_of(row: Row) -> bytes:
    """Return a row as JSON in one line, with `tags` as a text of JSON.

    Readers take the types of columns from the first rows, and an empty list has none.
    """
    tags = json.dumps(row["tags"], ensure_ascii=False)
    return json.dumps({**row, "tags": tags}, ensure_ascii=False).encode()


def row_of(line: bytes) -> Row:
    """Return the row of a line."""
    row: Row = json.loads(line)
    return {**row, "tags": json.loads(row["tags"])}


def why_not(plan: EditPlan) -> str:
    """Return why an edit cannot be taken away; "" if it can."""
    if plan.done:
        region = plan.stages[REGION.name]
        return "" if region.status is Status.HIT else f"{REGION.name} is gone: run the job again"
    failure = plan.last_failure
    return f"{failure.stage}: {failure.kind}: {failure.message}" if failure else "not done yet"
