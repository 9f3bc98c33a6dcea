"""Procedural scenes: pictures whose every drag has a known true result.

A scene is a frozen set of parameters. `render` paints it at any resolution with exact masks of its
parts; `drags` lists its edits, each with the scene that results. Nothing here needs torch or the
disk.
"""

from adaptivedrag.scenes.benchmark import ablation_drags, benchmark_drags
from adaptivedrag.scenes.scene import (
    DRAG_KINDS,
    DragKind,
    Rendering,
    Scene,
    SceneDrag,
    drags,
    render,
)
from adaptivedrag.scenes.seeds import KINDS, benchmark_scene, demo_edits, training_scene

__all__ = [
    "DRAG_KINDS",
    "KINDS",
    "DragKind",
    "Rendering",
    "Scene",
    "SceneDrag",
    "ablation_drags",
    "benchmark_drags",
    "benchmark_scene",
    "demo_edits",
    "drags",
    "render",
    "training_scene",
]
