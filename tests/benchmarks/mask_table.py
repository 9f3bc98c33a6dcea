"""Automatic masks against people's, and superpixels against the true borders of scenes.

    python tests/benchmarks/mask_table.py DRAGBENCH docs/masks.md

measures both and writes the tables between the marks of the document, in about ten minutes on one
core with the pocket segmenter, which decodes 144 points.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Bool, Int
from marked_tables import written
from scipy.ndimage import distance_transform_edt

from adaptivedrag.config import BuildMaskConfig, EditConfig, ExtractSuperpixelsConfig
from adaptivedrag.masks import build_mask, image_mask
from adaptivedrag.metrics.bootstrap import mean_interval, paired_difference
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.diffusion import working_image
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.scenes import benchmark_scene, render
from adaptivedrag.segmenter.kinds import load_segmenter
from adaptivedrag.segmenter.segmenter import Segmenter
from adaptivedrag.superpixels import (
    Superpixels,
    color_superpixels,
    extract_superpixels,
    segment_superpixels,
    segments_on_grid,
)
from stages.images import read_image, read_mask
from stages.jobs.edit import Edit
from stages.jobs.importers import import_dragbench
from stages.jobs.reader import load_job

FACTOR, CHANNELS = 8, 8
"""Factor and channels of the pocket VAE; the factor is that of Stable Diffusion too."""

OF_SUPERPIXELS, OF_SEGMENTS = ("superpixel_line", "union"), ("segment", "swept", "content")
CAPSULES = (1 / 32, 1 / 16, 1 / 8)

SCENES, SCENE_SIZE, TOLERANCE = 25, 256, 3
COMPACTNESS = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
PAPER = ExtractSuperpixelsConfig().compactness

Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class MaskScore:
    """How one mask of one photograph compares with the one that a person drew."""

    overlap: float
    handles: float
    targets: float
    share: float

    @classmethod
    def of(cls, mask: Mask, drawn: Mask, drags: Sequence[Drag]) -> "MaskScore":
        held = [[_holds(mask, point) for point in drag] for drag in drags]
        handles, targets = np.mean(held, axis=0)
        overlap = (mask & drawn).sum() / max(1, (mask | drawn).sum())
        return cls(float(overlap), float(handles), float(targets), float(mask.mean()))


@dataclass(frozen=True)
class BorderScore:
    """How the superpixels of one scene follow the true borders of its parts.

    Attributes:
        recall: share of true border pixels with a superpixel's border within `TOLERANCE` pixels.
        leak: under-segmentation error (Neubert & Protzel 2012): the smaller piece of each
            superpixel that a part cuts in two, summed over parts, as a share of the image.
        contour: length of all borders between superpixels, in sides of pixels.
        count: number of superpixels.
    """

    recall: float
    leak: float
    contour: float
    count: int

    @classmethod
    def of(cls, found: Superpixels, parts: Int[np.ndarray, "h w"]) -> "BorderScore":
        scale = len(parts) // len(found.labels)
        labels = found.labels.repeat(scale, 0).repeat(scale, 1)
        reach = distance_transform_edt(~_border(labels))
        inside = np.zeros((found.count, int(parts.max()) + 1))
        np.add.at(inside, (labels.ravel(), parts.ravel()), 1)
        outside = inside.sum(1, keepdims=True) - inside
        leak = np.where(inside > 0, np.minimum(inside, outside), 0).sum() / labels.size
        recall = (reach[_border(parts)] <= TOLERANCE).mean()
        return cls(float(recall), float(leak), _contour(labels), found.count)


def score_photographs(
    directory: Path, segmenter: Segmenter, every: int = 1
) -> dict[str, list[MaskScore]]:
    """Score every kind of mask on DragBench's photographs, by its name.

    Args:
        every: take only every n-th photograph, in the order of their names.
    """
    scores: dict[str, list[MaskScore]] = {}
    with TemporaryDirectory() as folder:
        job = load_job(import_dragbench(directory, Path(folder)).job)
        for edit in sorted(job.edits, key=lambda edit: edit.id)[::every]:
            drawn = read_mask(edit.mask_path)
            for name, mask in _masks(edit, drawn, segmenter):
                scores.setdefault(name, []).append(MaskScore.of(mask, drawn, edit.drags))
    return scores


def _masks(edit: Edit, drawn: Mask, segmenter: Segmenter) -> Iterator[tuple[str, Mask]]:
    yield "drawn by a person", drawn
    pixels = read_image(edit.image_path)
    size = STABLE_DIFFUSION_1.working_size
    frame = Frame.of_image(*pixels.shape[:2], factor=FACTOR, working_size=size)
    config = EditConfig().scaled_to(CHANNELS, *frame.latent_size).extract_superpixels
    image, size = working_image(pixels, frame), frame.feature_size
    segments = segments_on_grid(segmenter.segments(image), size)
    by_source = {
        "features": extract_superpixels(segmenter.image_features(image), size, config),
        "segments": segment_superpixels(segments, config),
        "rgb": color_superpixels(image, size, config),
    }
    ways = [(mode, source) for mode in OF_SUPERPIXELS for source in by_source]
    for mode, source in [*ways, *((mode, "") for mode in OF_SEGMENTS)]:
        superpixels = by_source[source or "features"]
        mask, _ = build_mask(BuildMaskConfig(mode=mode), superpixels, segments, edit.drags, frame)
        yield f"{mode}, {source}" if source else mode, image_mask(mask, frame)
    for share in CAPSULES:
        yield f"capsules, radius 1/{round(1 / share)}", _capsules(drawn.shape, edit.drags, share)
    yield "whole image", np.ones_like(drawn)


def _capsules(size: tuple[int, int], drags: Sequence[Drag], share: float) -> Mask:
    """Return what lies near a line from handle to target, within a share of the mean side."""
    rows, cols = np.indices(size)
    mask = np.zeros(size, dtype=bool)
    for (x, y), (end_x, end_y) in drags:
        way = np.array([end_x - x, end_y - y])
        along = ((cols - x) * way[0] + (rows - y) * way[1]) / max(way @ way, 1e-9)
        along = np.clip(along, 0, 1)
        distance = np.hypot(cols - x - along * way[0], rows - y - along * way[1])
        mask |= distance <= share * np.sqrt(size[0] * size[1])
    return mask


def _holds(mask: Mask, point: ImagePoint) -> bool:
    rows, cols = mask.shape
    return bool(mask[min(max(round(point.y), 0), rows - 1), min(max(round(point.x), 0), cols - 1)])


def score_borders(
    segmenter: Segmenter, scenes: int = SCENES
) -> dict[tuple[str, float], list[BorderScore]]:
    """Score superpixels of features and of colors on scenes, by source and compactness.

    Colors get as many superpixels as features have at the paper's setting, as far as SLIC allows.
    """
    scores: dict[tuple[str, float], list[BorderScore]] = {}
    for number in range(scenes):
        rendering = render(benchmark_scene(number), SCENE_SIZE)
        parts = _parts(list(rendering.masks.values()))
        frame = Frame.of_image(SCENE_SIZE, SCENE_SIZE, factor=FACTOR, working_size=SCENE_SIZE)
        config = EditConfig().scaled_to(CHANNELS, *frame.latent_size).extract_superpixels
        size = frame.feature_size
        maps = segmenter.image_features(rendering.image)
        wanted = extract_superpixels(maps, size, config).count
        for compactness in COMPACTNESS:
            setting = config.model_copy(update={"compactness": compactness})
            ours = extract_superpixels(maps, size, setting)
            colors = _with_count(rendering.image, size, setting, wanted)
            for source, found in (("features", ours), ("rgb", colors)):
                scores.setdefault((source, compactness), []).append(BorderScore.of(found, parts))
    return scores


def _with_count(
    image: np.ndarray, size: tuple[int, int], config: ExtractSuperpixelsConfig, wanted: int
) -> Superpixels:
    """Ask SLIC for more or fewer until it finds nearly the wanted number of superpixels."""
    tries = [
        color_superpixels(image, size, config.model_copy(update={"count": count}))
        for count in range(max(2, round(0.7 * wanted)), round(1.6 * wanted), max(1, wanted // 12))
    ]
    return min(tries, key=lambda found: abs(found.count - wanted))


def _parts(masks: Sequence[Mask]) -> Int[np.ndarray, "h w"]:
    """Number the pixels that lie in the same parts and groups."""
    stacked = np.stack(masks).reshape(len(masks), -1)
    _, numbers = np.unique(stacked, axis=1, return_inverse=True)
    return numbers.reshape(masks[0].shape)


def _border(labels: Int[np.ndarray, "h w"]) -> Mask:
    """Return the pixels that differ from their right or lower neighbor."""
    border = np.zeros(labels.shape, dtype=bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def _contour(labels: Int[np.ndarray, "h w"]) -> float:
    across = (labels[:, :-1] != labels[:, 1:]).sum() + (labels[:-1] != labels[1:]).sum()
    return float(across)


def mask_rows(scores: Mapping[str, Sequence[MaskScore]]) -> list[str]:
    """Return a table of means with bootstrap intervals over the photographs."""
    rows = ["| mask | overlap (IoU) | handles held | targets held | share of the image |"]
    rows.append("| --- | --- | --- | --- | --- |")
    for name, found in scores.items():
        fields = ("overlap", "handles", "targets", "share")
        cells = [_interval([getattr(score, field) for score in found]) for field in fields]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def border_rows(scores: Mapping[tuple[str, float], Sequence[BorderScore]]) -> list[str]:
    """Return a table of all settings, and the comparisons at the colors' best compactness."""
    rows = ["| superpixels | compactness | boundary recall | leak | contour | count |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for (source, compactness), found in sorted(scores.items()):
        recall, leak = (
            _interval([getattr(s, field) for s in found]) for field in ("recall", "leak")
        )
        contour, count = (_mean(found, field) for field in ("contour", "count"))
        rows.append(
            f"| {source} | {compactness:g} | {recall} | {leak} | {contour:.0f} | {count:.1f} |"
        )
    ours = scores["features", PAPER]
    colors = {key: found for key, found in scores.items() if key[0] == "rgb"}
    no_longer = {
        key: found
        for key, found in colors.items()
        if _mean(found, "contour") <= _mean(ours, "contour")
    }
    rows += ["", f"`features` at its compactness of {PAPER:g}, scene by scene, less:", ""]
    for title, choice in (("at any length", colors), ("with no more contour", no_longer)):
        rows.append(_comparison(title, ours, choice))
    return rows


def _comparison(
    title: str,
    ours: Sequence[BorderScore],
    choice: Mapping[tuple[str, float], Sequence[BorderScore]],
) -> str:
    if not choice:
        return f"- `rgb` {title}: no compactness gives that"
    key = max(choice, key=lambda key: _mean(choice[key], "recall"))
    theirs = choice[key]
    recall, leak = (
        paired_difference(
            [getattr(score, field) for score in ours],
            [getattr(score, field) for score in theirs],
            range(len(ours)),
        )
        for field in ("recall", "leak")
    )
    length = _mean(ours, "contour") / _mean(theirs, "contour")
    return (
        f"- `rgb` {title}, at its best compactness {key[1]:g}: recall "
        f"{recall.mean:+.3f} ({recall.low:+.3f} to {recall.high:+.3f}), leak "
        f"{leak.mean:+.3f} ({leak.low:+.3f} to {leak.high:+.3f}), {length:.2f} times its contour"
    )


def _mean(scores: Sequence[BorderScore], field: str) -> float:
    return float(np.mean([getattr(score, field) for score in scores]))


def _interval(values: Sequence[float]) -> str:
    found = mean_interval(values, range(len(values)))
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def main(directory: Path, document: Path) -> None:
    """Measure both tables and write them into the document."""
    segmenter = load_segmenter("pocket")
    masks, borders = score_photographs(directory, segmenter), score_borders(segmenter)
    photographs = len(masks["whole image"])
    rows = [f"#### Masks of {photographs} photographs", "", *mask_rows(masks), ""]
    rows += [f"#### Superpixels of {SCENES} scenes", "", *border_rows(borders)]
    document.write_text(written(document.read_text("utf-8"), rows), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
