"""Scenes by number: training scenes and benchmark scenes can never be the same.

The number is the key of a counter-based generator and the set's name its other half, so no
training number reaches a benchmark scene.
"""

import numpy as np

from adaptivedrag.scenes.animal import Animal
from adaptivedrag.scenes.clothing import Clothing
from adaptivedrag.scenes.face import Face
from adaptivedrag.scenes.landscape import Landscape
from adaptivedrag.scenes.plant import Plant
from adaptivedrag.scenes.scene import DragKind, Scene, SceneDrag, drags
from adaptivedrag.scenes.still_life import StillLife
from adaptivedrag.scenes.vehicle import Vehicle

KINDS: tuple[type[Scene], ...] = (Landscape, Plant, Animal, Face, Vehicle, StillLife, Clothing)
_TRAINING, _BENCHMARK = 1, 2
_DEMO: tuple[tuple[type[Scene], DragKind], ...] = (
    (Landscape, "move"),
    (Landscape, "stretch"),
    (StillLife, "resize"),
    (StillLife, "points"),
    (Vehicle, "long"),
    (Vehicle, "off-centre"),
)


def training_scene(number: int) -> Scene:
    """Draw training scene ``number``, 0 or more; kinds take turns."""
    return _scene(_TRAINING, number)


def benchmark_scene(number: int) -> Scene:
    """Draw benchmark scene ``number``, 0 or more; kinds take turns. Never trained on."""
    return _scene(_BENCHMARK, number)


def demo_edits() -> tuple[tuple[str, Scene, str, SceneDrag], ...]:
    """Return the demo's six edits on three scenes as (id, scene, caption, drag).

    Each kind's scene is its first in the benchmark; each drag is the scene's first of its kind.
    """
    edits = []
    for kind, wanted in _DEMO:
        scene = benchmark_scene(KINDS.index(kind))
        drag = next(d for d in drags(scene) if d.kind == wanted)
        name = f"{scene.kind}-{wanted}".replace(" ", "-")
        edits.append((name, scene, scene.caption(), drag))
    return tuple(edits)


def _scene(part: int, number: int) -> Scene:
    if number < 0:
        raise ValueError(f"scene numbers start at 0, not {number}")
    random = np.random.Generator(np.random.Philox(key=(part, number)))
    return KINDS[number % len(KINDS)].sample(random)
