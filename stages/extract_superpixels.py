"""Divide the image into superpixels."""

from typing import TYPE_CHECKING, Any

from adaptivedrag.config import ExtractSuperpixelsConfig
from adaptivedrag.model.memory_ladder import POINTS_AT_ONCE
from adaptivedrag.points import Frame
from stages.stage import Look, Made, Stage, Tile, Work, one_by_one

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


STAGE_VERSION = 2


def extract_superpixels(work: Work) -> Made:
    """Image -> parts `labels` and `centroids`, and where settings need automatic segments
    `segments` (bool, n × rows × columns, largest first), all on the feature grid.
    """
    from adaptivedrag import superpixels

    found, segments = superpixels.divide_image(
        work.working_image(),
        work.frame.feature_size,
        work.config,
        work.load_segmenter,
        work.rung.at_once,
    )
    config = work.config.extract_superpixels
    parts = {"labels": found.labels, "centroids": found.centroids}
    summary: dict[str, Any] = {
        "count": found.count,
        "wanted": config.count,
        "source": config.source,
    }
    if segments is not None:
        parts["segments"] = segments
        summary["segments"] = len(segments)
        summary["warnings"] = (
            [] if len(segments) else ["the segmenter found no segment in the image"]
        )
    return Made(parts, summary)


def _draw_superpixels(labels: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import superpixel_tile

    return superpixel_tile(look.pixels, labels, look.frame, look.longest)


def _overlay_superpixels(labels: "np.ndarray", frame: Frame) -> "Image.Image":
    from stages.reports.tiles import superpixel_overlay

    return superpixel_overlay(labels, frame)


def _draw_segments(segments: "np.ndarray", look: Look) -> "Image.Image":
    """Draw SAM 2's segments, the smaller over the larger."""
    from adaptivedrag.superpixels import paint_segments

    return _draw_superpixels(paint_segments(segments), look)


STAGE = Stage(
    name="extract_superpixels",
    version=STAGE_VERSION,
    section=ExtractSuperpixelsConfig,
    reads=lambda _config: ("image",),
    needs=(),
    models=("segmenter",),
    run=one_by_one(extract_superpixels),
    also_in_key=lambda config: {"segments": config.needs_segments},
    per_image=True,
    first_guess=5.0,
    saves_memory_by=("smaller batches",),
    at_once=lambda config: POINTS_AT_ONCE if config.needs_segments else 1,
    tiles=(
        Tile("segments", "segments", _draw_segments, is_optional=True),
        Tile("superpixels", "labels", _draw_superpixels, overlay=_overlay_superpixels),
    ),
)
