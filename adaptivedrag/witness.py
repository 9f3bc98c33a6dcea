"""An independent witness: where each handle is in the picture that came out.

A drag method's own tracker looks at the latents, the level and the features that were optimized,
so it often says "arrived" where nothing moved. The witness sees the finished picture only. It
encodes it again, adds fresh noise of another timestep, and looks for the handle by its features
(DIFT, Tang et al., 2023) among the source's at the same level, without the edit's LoRA. Not in the
paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from adaptivedrag.config import LocateHandlesConfig
from adaptivedrag.drag import PointReport, Verdict, verdict_of
from adaptivedrag.errors import NotFinite
from adaptivedrag.metrics.dift import DiftProtocol, dift_features
from adaptivedrag.metrics.mean_distance import ARRIVED_WITHIN, similarities
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.points import Drag, FeaturePoint, Frame

SEED = 0
"""Of the draws, the same for source and result: a picture matches itself exactly."""

OFF_THE_WAY = 0.6
"""What a match loses in likeness for lying off its drag's way by the drag's length."""

BEYOND = 0.25
"""The way goes on by this share of the drag before the handle and behind the target."""

SHORTEST = 1 / 8
"""A shorter drag counts as this long in `OFF_THE_WAY`, as a share of the shorter side."""

LOST = 0.2
"""A handle is lost if its match is unlike it by more than this share of what the source is on
average."""


@dataclass(frozen=True)
class WitnessResult:
    """Where the handles of an edit were found in its result.

    A point is *reached* if it was found within 1/16 of the image's shorter side from its target,
    and nearer to it than half of the drag; *lost* if nothing like it was found, and then its end is
    its handle, as if nothing had moved; *no-op* if the drag is shorter than a pixel; else
    *stalled*.
    """

    points: tuple[PointReport, ...]

    @property
    def verdict(self) -> str:
        """The edit's verdict; see `verdict_of`."""
        return verdict_of(self.points)


def locate_handles(
    model: DiffusionModel,
    source: UInt8[np.ndarray, "h w 3"],
    edited: UInt8[np.ndarray, "h w 3"],
    prompt: str,
    drags: Sequence[Drag],
    frame: Frame,
    settings: LocateHandlesConfig,
) -> WitnessResult:
    """Find the handles of an edit in its result, which takes `2 · draws` passes of the UNet.

    Args:
        model: without a LoRA.
        source, edited: working images.

    Raises:
        NotFinite: if features are not finite.
    """
    before, after = (
        seen_by_witness(model, picture, prompt, settings) for picture in (source, edited)
    )
    return compare(before, after, drags, frame)


def seen_by_witness(
    model: DiffusionModel,
    picture: UInt8[np.ndarray, "h w 3"],
    prompt: str,
    settings: LocateHandlesConfig,
) -> Float[np.ndarray, "c rows cols"]:
    """Return the features of a picture, from the architecture's feature block.

    Raises:
        NotFinite: if they are not finite.
    """
    block = model.architecture.feature_block
    protocol = DiftProtocol(settings.timestep, block, settings.draws)
    features = dift_features(model, picture, prompt, protocol, SEED)
    if not np.isfinite(features).all():
        raise NotFinite("the witness's features are not finite: use a wider dtype")
    return features


def compare(
    before: Float[np.ndarray, "c rows cols"],
    after: Float[np.ndarray, "c rows cols"],
    drags: Sequence[Drag],
    frame: Frame,
) -> WitnessResult:
    """Find the handles of a source in its result by the features of both.

    The match of a handle is the cell of the feature grid whose feature is most like its own, by the
    cosine after the mean of the source's is taken away; cells off the drag's way count for less.
    """
    mean = before.mean(axis=(1, 2), keepdims=True)
    cells = [np.array(frame.to_cell(drag.handle)) for drag in drags]
    maps = (
        similarities(before - mean, each - mean, cells, frame.feature_size)
        for each in (before, after)
    )
    found = zip(drags, cells, *maps, strict=True)
    return WitnessResult(tuple(_report(*each, frame) for each in found))


def _report(
    drag: Drag,
    cell: Int[np.ndarray, "2"],
    in_source: Float[np.ndarray, "rows cols"],
    in_result: Float[np.ndarray, "rows cols"],
    frame: Frame,
) -> PointReport:
    handle, target = drag
    length = math.dist(handle, target)
    if length < 1:
        return PointReport(handle, handle, target, "no-op", length)
    seen = tuple(slice(side) for side in frame.image_cells)
    own = max(float(in_source[tuple(cell)]), np.finfo(float).tiny)
    likeness = in_result[seen] / own
    score = likeness - OFF_THE_WAY * _off_the_way(drag, cell, frame)
    match = np.array(np.unravel_index(score.argmax(), score.shape))
    if 1 - likeness[tuple(match)] > LOST * (1 - in_source[seen].mean() / own):
        return PointReport(handle, handle, target, "lost", length)
    row, col = np.array(frame.to_feature(handle)) + match - cell
    end = frame.to_image(FeaturePoint(float(row), float(col)))
    distance = math.dist(end, target)
    within = min(ARRIVED_WITHIN * min(frame.image_height, frame.image_width), length / 2)
    verdict: Verdict = "reached" if distance <= within else "stalled"
    return PointReport(handle, end, target, verdict, distance)


def _off_the_way(
    drag: Drag, cell: Int[np.ndarray, "2"], frame: Frame
) -> Float[np.ndarray, "rows cols"]:
    """Return how far the image's cells lie from the drag's way, in lengths of the drag."""
    handle, target = (np.array(frame.to_feature(point)) for point in drag)
    way, sides = target - handle, frame.image_cells
    length = float(np.hypot(*way))
    row, col = np.indices(sides, sparse=True)
    down, right = row - cell[0], col - cell[1]
    share = ((down * way[0] + right * way[1]) / length**2).clip(-BEYOND, 1 + BEYOND)
    off = np.hypot(down - share * way[0], right - share * way[1])
    return off / max(length, SHORTEST * min(sides))
