"""What every scene is: typed parameters that can be painted, captioned and dragged."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from adaptivedrag.scenes.canvas import Canvas, Point

DragKind = Literal["move", "stretch", "resize", "rotate", "points", "long", "off-centre"]
DRAG_KINDS: tuple[DragKind, ...] = (
    "move",
    "stretch",
    "resize",
    "rotate",
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
        after: the same scene with the parameter changed: its picture is the true result.
        part: the part or group that changes, several joined by "+"; its masks before and after
            are the true ones.
    """

    kind: DragKind
    pairs: tuple[tuple[Point, Point], ...]
    after: "Scene"
    part: str

    def pixels(self, size: int) -> tuple[tuple[Point, Point], ...]:
        """The pairs in pixels of a picture of ``size``, where (0, 0) is the first centre."""

        def place(point: Point) -> Point:
            return point[0] * size - 0.5, point[1] * size - 0.5

        return tuple((place(handle), place(target)) for handle, target in self.pairs)


@dataclass(frozen=True)
class Rendering:
    """A picture (uint8, size × size × 3) and the visible mask of every part and group."""

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]

    def mask(self, part: str) -> NDArray[np.bool_]:
        """The mask of a part, or of several joined by "+"; empty where a part is hidden."""
        nothing = np.zeros(self.image.shape[:2], np.bool_)
        return np.logical_or.reduce([self.masks.get(name, nothing) for name in part.split("+")])


@dataclass(frozen=True)
class Scene(ABC):
    """Parameters of a picture; lengths and positions in scene units.

    Attributes:
        texture: seed of grain and of shades of colour; two scenes that differ in a parameter
            only have the same texture.
    """

    kind: ClassVar[str]
    groups: ClassVar[tuple[str, ...]] = ()

    texture: int

    @classmethod
    @abstractmethod
    def sample(cls, random: np.random.Generator) -> Self:
        """A random scene of this kind."""

    @abstractmethod
    def paint(self, canvas: Canvas) -> None:
        """Paints the scene, back to front."""

    @abstractmethod
    def caption(self) -> str:
        """What the picture shows; true of its mirror image too."""

    @abstractmethod
    def candidates(self) -> Iterator[SceneDrag]:
        """All drags of the scene, visible or not; see `drags`."""

    def dragged(
        self, kind: DragKind, part: str, anchors: Sequence[Anchor], **changes: Any
    ) -> SceneDrag:
        """The drag that changes parameters, followed by material points of the scene."""
        after = replace(self, **changes)
        return SceneDrag(kind, tuple((a(self), a(after)) for a in anchors), after, part)


def render(scene: Scene, size: int = 256) -> Rendering:
    """Paints a scene at any resolution."""
    canvas = Canvas(size)
    scene.paint(canvas)
    names = [*canvas.parts[1:], *scene.groups]
    return Rendering(canvas.image(), {name: canvas.mask(name) for name in names})


def drags(scene: Scene) -> tuple[SceneDrag, ...]:
    """The scene's drags whose handles are seen, and whose targets are seen in the true result."""
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


def _targets_seen(drag: SceneDrag) -> bool:
    after = _owners(drag.after)
    return all(_sees(after, drag.part, target) for _, target in drag.pairs)


def _owners(scene: Scene, size: int = 192) -> Canvas:
    canvas = Canvas(size)
    scene.paint(canvas)
    return canvas


def _sees(canvas: Canvas, part: str, point: Point, margin: int = 1) -> bool:
    """Whether the part is seen at the point and right around it, away from the border."""
    column, row = (int(value * canvas.size) for value in point)
    if min(row, column) < 8 or max(row, column) >= canvas.size - 8:
        return False
    near = canvas.owners[row - margin : row + margin + 1, column - margin : column + margin + 1]
    names = [canvas.parts[number] for number in np.unique(near)]
    wanted = part.split("+")
    return all(any(n == w or n.startswith(w + "/") for w in wanted) for n in names)
