"""A potted flower on a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Field, Point, Shade
from adaptivedrag.scenes.room import paint_room
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import bezier, circle, curve, ellipse, local, petals, profile
from adaptivedrag.scenes.textures import COLORS, ball, mix, pillar, tinted, waves


@dataclass(frozen=True)
class Plant(Scene):
    """A flower; leaves grow at ``leaf_at`` (share of the stem) and rise by ``leaf_angle``."""

    kind: ClassVar[str] = "plant"
    groups: ClassVar[tuple[str, ...]] = ("leaf",)

    blossom: str
    pot: str
    wall: str
    table: float
    foot: Point
    pot_width: float
    pot_height: float
    flower: Point
    flower_radius: float
    petal_count: int
    bend: float
    leaf_at: float
    leaf_length: float
    leaf_angle: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        x = between(random, 0.36, 0.64)
        blossom = choose(random, "red", "orange", "yellow", "purple", "pink", "white")
        return cls(
            texture=int(random.integers(2**31)),
            blossom=blossom,
            pot=choose(random, "red", "orange", "blue", "white", "grey", "brown"),
            wall=choose(random, "yellow", "green", "blue", "pink", "grey", "white"),
            table=between(random, 0.76, 0.84),
            foot=(x, between(random, 0.88, 0.93)),
            pot_width=between(random, 0.10, 0.14),
            pot_height=between(random, 0.17, 0.23),
            flower=(x + between(random, -0.10, 0.10), between(random, 0.22, 0.36)),
            flower_radius=between(random, 0.10, 0.15),
            petal_count=int(random.integers(5, 10)),
            bend=between(random, -0.06, 0.06),
            leaf_at=between(random, 0.30, 0.42),
            leaf_length=between(random, 0.17, 0.24),
            leaf_angle=between(random, 0.35, 0.75),
        )

    def caption(self) -> str:
        return f"a {self.blossom} flower in a {self.pot} pot before a {self.wall} wall"

    def stem(self, t: float) -> Point:
        """Return a point of the stem, from 0 in the pot to 1 in the blossom."""
        start, bend = self._stem_ends()
        return bezier(start, bend, self.flower, t)

    def _stem_ends(self) -> tuple[Point, Point]:
        top = self.foot[1] - self.pot_height
        middle = (top + self.flower[1]) / 2
        return (self.foot[0], top + 0.02), (self.foot[0] + self.bend, middle)

    def leaf(self, side: int, along: float) -> Point:
        """Return a point on the axis of the leaf on one side (-1 or 1)."""
        x, y = self.stem(self.leaf_at + 0.06 * side)
        reach = along * self.leaf_length
        return x + side * reach * np.cos(self.leaf_angle), y - reach * np.sin(self.leaf_angle)

    def paint(self, canvas: Canvas) -> None:
        paint_room(canvas, self.texture, self.wall, self.table)
        shadow = ellipse((self.foot[0] + 0.05, self.foot[1]), self.pot_width * 1.3, 0.03)
        canvas.paint(shadow, (0.05, 0.04, 0.05), opacity=0.45, softness=0.04)
        green = tinted("green", self.texture)
        start, bend = self._stem_ends()
        canvas.paint(
            curve(start, bend, self.flower, 0.014, 0.010), mix(green, (0, 0, 0), 0.15), "stem"
        )
        for side in (-1, 1):
            self._paint_leaf(canvas, side, mix(green, (0.7, 0.9, 0.3), 0.12 + 0.08 * side))
        self._paint_pot(canvas)
        self._paint_flower(canvas)

    def _paint_leaf(self, canvas: Canvas, side: int, color: tuple[float, float, float]) -> None:
        center, angle = self.leaf(side, 0.52), -side * self.leaf_angle
        half = self.leaf_length / 2
        veins = waves(self.texture, 3, 5.0, 3)

        def shade(x: Field, y: Field) -> Field:
            u, v = local(x, y, center, angle)
            u, v = u / np.float32(half), v / np.float32(half)
            rib = np.exp(-((v / np.float32(0.05)) ** 2)) * 0.22
            ribs = 0.09 * np.sin(22 * (u * side - np.abs(v) * 1.4))
            return (0.95 - 0.30 * v + rib + ribs + 0.08 * veins(u, v)).astype(np.float32)

        name = "leaf/near" if side > 0 else "leaf/far"
        canvas.paint(ellipse(center, half, half * 0.40, angle), color, name, shade)

    def _paint_pot(self, canvas: Canvas) -> None:
        (x, foot), width, height = self.foot, self.pot_width, self.pot_height
        clay = tinted(self.pot, self.texture)
        grain = waves(self.texture, 4, 12.0, 4)
        body = profile(x, foot - height, foot, lambda v: width * (1 - 0.30 * v))
        canvas.paint(body, clay, "pot", pillar(x, width, grain))
        rim = profile(x, foot - height - 0.01, foot - height * 0.78, lambda v: 1.08 * width + 0 * v)
        canvas.paint(rim, mix(clay, (1, 1, 1), 0.10), "pot", pillar(x, width * 1.1, grain))
        band = profile(
            x, foot - height * 0.78, foot - height * 0.73, lambda v: width * 0.95 + 0 * v
        )
        canvas.paint(band, mix(clay, (0, 0, 0), 0.45), "pot", pillar(x, width))

    def _paint_flower(self, canvas: Canvas) -> None:
        center, radius = self.flower, self.flower_radius
        turn = 0.4 + (self.texture % 7) / 7
        color = tinted(self.blossom, self.texture)
        for size, dark, offset in ((1.0, 0.12, 0.0), (0.74, 0.0, np.pi / self.petal_count)):
            shape = petals(center, radius * size, self.petal_count, 0.55, turn + offset)
            canvas.paint(shape, mix(color, (0, 0, 0), dark), "flower", self._petal_light(size))
        core = COLORS["brown"] if self.blossom in ("yellow", "orange") else COLORS["yellow"]
        seeds = waves(self.texture, 5, 14.0, 4)
        heart = radius * 0.30
        canvas.paint(
            circle(center, heart),
            core,
            "flower",
            ball(center, heart, heart, grain=seeds, depth=0.25),
        )

    def _petal_light(self, size: float) -> Shade:
        """Shade the blossom: a darker heart, and furrows of grain on the petals."""
        grain, radius = waves(self.texture, 6, 6.0, 4), np.float32(self.flower_radius * size)

        def shade(x: Field, y: Field) -> Field:
            u, v = local(x, y, self.flower)
            u, v = u / radius, v / radius
            light = 0.72 + 0.36 * (u * u + v * v) - 0.12 * (u + v)
            return (light + 0.10 * grain(u, v)).astype(np.float32)

        return shade

    def candidates(self) -> Iterator[SceneDrag]:
        (x, y), blossom = self.flower, _blossom(0.5, 0.1)
        side = 1 if x < 0.5 else -1
        yield self.dragged("move", "flower", [blossom], flower=(x + side * 0.14, y + 0.03))
        yield self.dragged("stretch", "flower", [_blossom(0, 0)], flower=(x, max(0.13, y - 0.12)))
        yield self.dragged(
            "resize", "flower", [_blossom(0.8, 0.0)], flower_radius=self.flower_radius * 1.4
        )
        turned = self.leaf_angle + (0.45 if self.leaf_angle < 0.55 else -0.45)
        yield self.dragged("rotate", "leaf", [_leaf(side, 0.7)], leaf_angle=turned)
        yield self.dragged("open", "leaf", [_leaf(-1, 0.75), _leaf(1, 0.75)], leaf_angle=turned)
        yield self.dragged(
            "points",
            "flower+stem+leaf+pot",
            [blossom, _pot],
            flower=(x + side * 0.10, y),
            foot=(self.foot[0] + side * 0.10, self.foot[1]),
        )
        yield self.dragged("long", "flower", [_blossom(0, 0)], flower=(x + side * 0.28, y + 0.04))
        moved = (x + side * 0.12, y)
        yield self.dragged("off-centre", "flower", [_blossom(-0.5, 0.5)], flower=moved)
        yield self.dragged(
            "stretch", "leaf", [_leaf(side, 0.8)], leaf_length=self.leaf_length * 1.35
        )
        yield self.dragged(
            "shrink", "leaf", [_leaf(side, 0.8)], leaf_length=self.leaf_length * 0.62
        )
        yield self.dragged("shrink", "flower", [_blossom(0, 0)], flower=(x, y + 0.11))


def _blossom(u: float, v: float) -> Anchor:
    """Return a point of the blossom, in its radii."""
    return lambda s: (s.flower[0] + u * s.flower_radius, s.flower[1] + v * s.flower_radius)


def _pot(scene: Plant) -> Point:
    return scene.foot[0], scene.foot[1] - 0.5 * scene.pot_height


def _leaf(side: int, along: float) -> Anchor:
    return lambda s: s.leaf(side, along)
