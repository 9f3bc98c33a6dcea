"""Divide the image into superpixels."""

from typing import Any

from adaptivedrag.model.memory_ladder import POINTS_AT_ONCE
from stages.stage import Made, Stage, Work, one_by_one

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


STAGE = Stage(
    name="extract_superpixels",
    version=STAGE_VERSION,
    reads=("image",),
    needs=(),
    models=("segmenter",),
    run=one_by_one(extract_superpixels),
    saves_memory_by=("smaller batches",),
    batch=lambda config: POINTS_AT_ONCE if config.needs_segments else 1,
)
