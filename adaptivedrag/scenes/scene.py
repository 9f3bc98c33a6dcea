"""What every scene is: typed parameters that can be painted, captioned and dragged."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from adaptivedrag.scenes.canvas import Canvas, Point

DragKind = Literal[
    "move", "stretch", "shrink", "resize", "rotate", "open", "points", "long", "off-centre"
]
DRAG_KINDS: tuple[DragKind, ...] = (
    "move",
    "stretch",
    "shrink",
    "resize",
    "rotate",
    "open",
    "points",
    "long",
    "off-centre",
)
Anchor = Callable[[Any], Point]


@dataclass(frozen=True)
class SceneDrag:
    """A drag whose true result is known.

    Attributes:
        kind: what the drag does.
        pairs: (handle, target) points (x, y) in scene units; see `pixels`.
        before: the scene that is dragged.
        after: the same scene with the parameter changed: its picture is the true result.
        part: the part or group that changes, several joined by "+".
        anchors: where each handle's material point lies in any scene of this kind.
    """

    kind: DragKind
    pairs: tuple[tuple[Point, Point], ...]
    before: "Scene"
    after: "Scene"
    part: str
    anchors: tuple[Anchor, ...] = field(compare=False, repr=False)

    def scene_at(self, share: float) -> "Scene":
        """Return the scene at a share of the way: 0 is exactly `before`, 1 is exactly `after`.

        Every parameter that differs is interpolated linearly; shares from -0.25 to 1.25 can be
        rendered too.

        Raises:
            TypeError: if a parameter that differs is neither a number nor a tuple of numbers.
        """
        return replace(
            self.before,
            **{
                parameter.name: _between_values(parameter.name, start, end, share)
                for parameter in fields(self.before)
                if (start := getattr(self.before, parameter.name))
                != (end := getattr(self.after, parameter.name))
            },
        )

    def handles_at(self, share: float) -> tuple[Point, ...]:
        """Return the handles' material points at a share of the way, (x, y) in scene units.

        Share 0 gives the handles, 1 the targets; in between, points may follow a curve.
        """
        scene = self.scene_at(share)
        return tuple(anchor(scene) for anchor in self.anchors)

    def pixels(self, size: int) -> tuple[tuple[Point, Point], ...]:
        """Return the pairs in pixels of a picture of ``size``; (0, 0) is the first center."""

        def place(point: Point) -> Point:
            return point[0] * size - 0.5, point[1] * size - 0.5

        return tuple((place(handle), place(target)) for handle, target in self.pairs)


@dataclass(frozen=True)
class Rendering:
    """A picture (uint8, size × size × 3) and the visible mask of every part and group."""

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]

    def mask(self, part: str) -> NDArray[np.bool_]:
        """Return the mask of a part, or of several joined by "+"; empty if hidden."""
        nothing = np.zeros(self.image.shape[:2], np.bool_)
        return np.logical_or.reduce([self.masks.get(name, nothing) for name in part.split("+")])


@dataclass(frozen=True)
class Scene(ABC):
    """Parameters of a picture; lengths and positions in scene units.

    Attributes:
        texture: seed of grain and of shades of color; scenes that differ only in other
            parameters have the same texture.
    """

    kind: ClassVar[str]
    groups: ClassVar[tuple[str, ...]] = ()

    texture: int

    @classmethod
    @abstractmethod
    def sample(cls, random: np.random.Generator) -> Self:
        """Draw a random scene of this kind."""

    @abstractmethod
    def paint(self, canvas: Canvas) -> None:
        """Paint the scene, back to front."""

    @abstractmethod
    def caption(self) -> str:
        """Describe the picture, in words that are true of its mirror image too."""

    @abstractmethod
    def candidates(self) -> Iterator[SceneDrag]:
        """Yield all drags of the scene, visible or not; see `drags`."""

    def dragged(
        self, kind: DragKind, part: str, anchors: Sequence[Anchor], **changes: Any
    ) -> SceneDrag:
        """Return the drag that changes parameters; its handles are material points of the scene."""
        after = replace(self, **changes)
        pairs = tuple((anchor(self), anchor(after)) for anchor in anchors)
        return SceneDrag(kind, pairs, self, after, part, tuple(anchors))


def render(scene: Scene, size: int = 256) -> Rendering:
    """Paint a scene at any resolution."""
    canvas = Canvas(size)
    scene.paint(canvas)
    names = [*canvas.parts[1:], *scene.groups]
    return Rendering(canvas.image(), {name: canvas.mask(name) for name in names})


@cache
def drags(scene: Scene) -> tuple[SceneDrag, ...]:
    """Return the drags whose handles are visible, and their targets in the true result."""
    before = _owners(scene)
    return tuple(
        drag
        for drag in scene.candidates()
        if all(_sees(before, drag.part, handle) for handle, _ in drag.pairs) and _targets_seen(drag)
    )


def choose(random: np.random.Generator, *options: str) -> str:
    return options[int(random.integers(len(options)))]


def between(random: np.random.Generator, low: float, high: float) -> float:
    return float(random.uniform(low, high))


def _between_values(name: str, start: Any, end: Any, share: float) -> Any:
    if isinstance(start, float) and isinstance(end, float):
        return (1 - share) * start + share * end
    if isinstance(start, tuple) and isinstance(end, tuple) and len(start) == len(end):
        pairs = zip(start, end, strict=True)
        return tuple(_between_values(name, a, b, share) for a, b in pairs)
    raise TypeError(f"{name} goes from {start!r} to {end!r}: nothing lies between these")


def _targets_seen(drag: SceneDrag) -> bool:
    after = _owners(drag.after)
    return all(_sees(after, drag.part, target) for _, target in drag.pairs)


def _owners(scene: Scene, size: int = 192) -> Canvas:
    canvas = Canvas(size)
    scene.paint(canvas)
    return canvas


def _sees(canvas: Canvas, part: str, point: Point, margin: int = 1) -> bool:
    """Return whether the part is visible at the point and right around it, away from the border."""
    column, row = (int(value * canvas.size) for value in point)
    if min(row, column) < 8 or max(row, column) >= canvas.size - 8:
        return False
    near = canvas.owners[row - margin : row + margin + 1, column - margin : column + margin + 1]
    names = [canvas.parts[number] for number in np.unique(near)]
    wanted = part.split("+")
    return all(any(n == w or n.startswith(w + "/") for w in wanted) for n in names)
