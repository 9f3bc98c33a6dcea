"""The benchmark: which drags of which scenes are measured, a fixed choice without chance.

Drags are dealt out one at a time: always of the kind that has the fewest so far, among these on
the scene that has the fewest, and among these of the pair of kinds (of scene, of drag) that has
the fewest. Ties go to the earlier kind, scene and drag. So the choice depends on the scenes
alone, and is as even over kinds as their drags allow, then over scenes.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np

from adaptivedrag.scenes.scene import DRAG_KINDS, DragKind, SceneDrag, drags
from adaptivedrag.scenes.seeds import benchmark_scene

SceneEdit: TypeAlias = tuple[int, int]  # number of a benchmark scene, index into its drags
SCENES, DRAGS, ABLATION = 25, 100, 40
SHORTEST, LONGEST = 1 / 32, 1 / 4  # from handle to target, as shares of the picture


class _Candidate(NamedTuple):
    kind: DragKind
    scene_kind: str
    edit: SceneEdit


@cache
def benchmark_drags(count_scenes: int = SCENES, count: int = DRAGS) -> tuple[SceneEdit, ...]:
    """Choose ``count`` drags on the first ``count_scenes`` benchmark scenes, sorted.

    Each is (number of the benchmark scene, index into `drags` of it). All of a drag's handles go
    at least `SHORTEST` of the picture and, unless its kind is "long", at most `LONGEST`.

    Raises:
        ValueError: if the scenes have fewer such drags.
    """
    return _dealt(_measurable(count_scenes), count)


@cache
def ablation_drags() -> tuple[SceneEdit, ...]:
    """Choose `ABLATION` of the `benchmark_drags` by the same rule."""
    chosen = set(benchmark_drags())
    return _dealt([item for item in _measurable(SCENES) if item.edit in chosen], ABLATION)


def _measurable(count_scenes: int) -> list[_Candidate]:
    return [
        _Candidate(drag.kind, drag.before.kind, (number, index))
        for number in range(count_scenes)
        for index, drag in enumerate(drags(benchmark_scene(number)))
        if _has_measurable_way(drag)
    ]


def _has_measurable_way(drag: SceneDrag) -> bool:
    handles, targets = np.array(drag.pairs).transpose(1, 0, 2)
    ways = np.linalg.norm(targets - handles, axis=1)
    return bool(ways.min() >= SHORTEST and (drag.kind == "long" or ways.max() <= LONGEST))


def _dealt(pool: Iterable[_Candidate], count: int) -> tuple[SceneEdit, ...]:
    rest = set(pool)
    if count > len(rest):
        raise ValueError(f"{count} drags are wanted, but only {len(rest)} can be measured")
    kinds, scenes, pairs = Counter[str](), Counter[int](), Counter[tuple[str, str]]()

    def turn(item: _Candidate) -> tuple[int, int, int, int, SceneEdit]:
        pair = (item.scene_kind, item.kind)
        order = DRAG_KINDS.index(item.kind)
        return kinds[item.kind], scenes[item.edit[0]], pairs[pair], order, item.edit

    dealt = []
    for _ in range(count):
        item = min(rest, key=turn)
        rest.remove(item)
        kinds[item.kind] += 1
        scenes[item.edit[0]] += 1
        pairs[item.scene_kind, item.kind] += 1
        dealt.append(item.edit)
    return tuple(sorted(dealt))
