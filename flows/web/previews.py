"""Superpixels and masks of edits that are being drawn: made as a run makes them, kept for it."""

import io
import threading
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from artifacts import Record
from stages.build_mask import STAGE
from stages.jobs.edit import Edit
from stages.reports.wording import warnings_of
from stages.workbench import Workbench

_TINT = (255, 235, 59)


@dataclass(frozen=True)
class MaskPreview:
    """The mask that an edit would have.

    Attributes:
        png: transparent where nothing may change.
        share: of the image that may.
    """

    png: bytes
    share: float
    warnings: tuple[str, ...]


@dataclass
class Previews:
    """Makes what was asked for last; who asked before has gone on meanwhile."""

    bench: Workbench
    _numbers: "count[int]" = field(default_factory=count)
    _latest: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def superpixels(self, edit: Edit) -> bool:
        """Make what the mask of any edit of this image needs; tell whether it is there."""
        return self._perform(edit, STAGE.needs) is not None

    def mask(self, edit: Edit) -> MaskPreview | None:
        """Return the mask of an edit; None if something else was asked for before it was begun."""
        record = self._perform(edit, (*STAGE.needs, STAGE.name))
        if record is None:
            return None
        summary = record.summary
        picture = self.bench.store.read(record)["picture"]
        return MaskPreview(_overlay(picture), float((picture > 0).mean()), (*warnings_of(summary),))

    def _perform(self, edit: Edit, stages: tuple[str, ...]) -> Record | None:
        number = self._latest = next(self._numbers)
        with self._turn:
            record: Record | None = None
            for stage in stages:
                if number != self._latest:
                    return None
                record = self.bench.perform(stage, edit)
            return record


def _overlay(mask: Any) -> bytes:
    """Return a mask of 0 and 255 as a PNG of two levels, one of them transparent."""
    from PIL import Image

    picture = Image.fromarray((mask > 0).astype("uint8"), "P")
    picture.putpalette([0, 0, 0, *_TINT])
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", transparency=0, bits=1)
    return encoded.getvalue()
