"""Still lifes: a bottle or vase, a pear, an apple or an orange, a bowl."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Field, Point
from adaptivedrag.scenes.room import paint_room
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import capsule, circle, ellipse, profile, turned, union
from adaptivedrag.scenes.textures import (
    COLORS,
    ball,
    generator,
    mix,
    pillar,
    tinted,
    waves,
)


@dataclass(frozen=True)
class StillLife(Scene):
    """A tall vessel, a round fruit, a pear and a bowl, from back to front."""

    kind: ClassVar[str] = "still life"

    vessel: str
    glaze: str
    fruit: str
    bowl: str
    wall: str
    table: float
    vessel_foot: Point
    vessel_width: float
    vessel_height: float
    fruit_at: Point
    fruit_radius: float
    pear_foot: Point
    pear_size: float
    pear_angle: float
    bowl_at: Point
    bowl_width: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        side = 1 if random.random() < 0.5 else -1
        table = between(random, 0.60, 0.68)
        radius = between(random, 0.075, 0.10)
        return cls(
            texture=int(random.integers(2**31)),
            vessel=choose(random, "bottle", "vase", "jug"),
            glaze=choose(random, "red", "green", "blue", "white", "purple", "grey", "brown"),
            fruit=choose(random, "apple", "orange", "lemon"),
            bowl=choose(random, "red", "yellow", "blue", "white", "grey", "green"),
            wall=choose(random, "yellow", "green", "blue", "pink", "grey", "white"),
            table=table,
            vessel_foot=(0.5 - side * between(random, 0.14, 0.22), table + 0.10),
            vessel_width=between(random, 0.085, 0.115),
            vessel_height=between(random, 0.36, 0.46),
            fruit_at=(0.5 + side * between(random, 0.02, 0.10), between(random, 0.74, 0.80)),
            fruit_radius=radius,
            pear_foot=(0.5 - side * between(random, 0.26, 0.34), between(random, 0.90, 0.94)),
            pear_size=between(random, 0.085, 0.105),
            pear_angle=between(random, -0.35, 0.35),
            bowl_at=(0.5 + side * between(random, 0.25, 0.31), between(random, 0.80, 0.86)),
            bowl_width=between(random, 0.13, 0.16),
        )

    def caption(self) -> str:
        article = "an" if self.fruit in ("apple", "orange") else "a"
        return (
            f"a still life with a {self.glaze} {self.vessel}, {article} {self.fruit}, "
            f"a pear and a {self.bowl} bowl"
        )

    def paint(self, canvas: Canvas) -> None:
        paint_room(canvas, self.texture, self.wall, self.table)
        self._paint_vessel(canvas)
        self._paint_bowl(canvas)
        self._paint_fruit(canvas)
        self._paint_pear(canvas)

    def _shadow(self, canvas: Canvas, x: float, y: float, reach: float) -> None:
        shape = ellipse((x + reach * 0.5, y), reach * 1.3, reach * 0.28)
        canvas.paint(shape, (0.04, 0.03, 0.03), opacity=0.5, softness=0.035)

    def _paint_vessel(self, canvas: Canvas) -> None:
        (x, foot), width, height = self.vessel_foot, self.vessel_width, self.vessel_height
        self._shadow(canvas, x, foot, width)
        top = foot - height
        glaze = tinted(self.glaze, self.texture)
        grain = waves(self.texture, 71, 9.0, 4)

        def outline(v: Field) -> Field:
            if self.vessel == "bottle":
                shoulder = 1 / (1 + np.exp(-(v - 0.36) * 22))
                return np.float32(width) * (0.30 + 0.68 * shoulder)
            if self.vessel == "vase":
                return np.float32(width) * (0.62 + 0.40 * np.sin((v * 1.25 - 0.32) * np.pi))
            return np.float32(width) * (0.58 + 0.42 * np.sin(np.clip(v * 1.1, 0, 1) * np.pi * 0.9))

        body = profile(x, top, foot, outline)
        canvas.paint(body, glaze, "vessel", pillar(x, width * 1.05, grain))
        for level, tone in ((0.55, (1.0, 0.98, 0.9)), (0.78, (0.05, 0.05, 0.1))):
            low, high = top + level * height, top + (level + 0.10) * height
            half = float(outline(np.float32(level + 0.05)))
            band = profile(x, low, high, lambda v, half=half: half * 0.995 + 0 * v)
            canvas.paint(band, mix(glaze, tone, 0.4), "vessel", pillar(x, width * 1.05))
        mouth = float(outline(np.float32(0.0)))
        canvas.paint(ellipse((x, top), mouth, mouth * 0.26), mix(glaze, (0, 0, 0), 0.55), "vessel")
        glint = ellipse((x - width * 0.45, top + 0.62 * height), width * 0.10, height * 0.16)
        canvas.paint(glint, (1, 1, 1), opacity=0.40, softness=0.02)

    def _paint_bowl(self, canvas: Canvas) -> None:
        (x, y), width = self.bowl_at, self.bowl_width
        height = width * 0.72
        self._shadow(canvas, x, y + height * 0.62, width * 0.7)
        glaze = tinted(self.bowl, self.texture // 3)
        grain = waves(self.texture, 72, 8.0, 4)
        top = y - height * 0.35
        body = profile(
            x,
            top,
            y + height * 0.65,
            lambda v: np.float32(width) * np.sqrt(np.maximum(1 - (0.90 * v) ** 2, 0)),
        )
        canvas.paint(body, glaze, "bowl", pillar(x, width * 1.05, grain))
        canvas.paint(ellipse((x, top), width, width * 0.24), mix(glaze, (1, 1, 1), 0.25), "bowl")
        canvas.paint(
            ellipse((x, top), width * 0.91, width * 0.19),
            mix(glaze, (0, 0, 0), 0.45),
            "bowl",
            lambda xs, ys: 1.0 + 1.5 * (xs - np.float32(x)) + 0 * ys,
        )

    def _paint_fruit(self, canvas: Canvas) -> None:
        (x, y), radius = self.fruit_at, self.fruit_radius
        self._shadow(canvas, x, y + radius * 0.9, radius)
        name = {"apple": "red", "orange": "orange", "lemon": "yellow"}[self.fruit]
        skin = waves(self.texture, 73, 9.0 if self.fruit == "apple" else 26.0, 5)
        wide = radius * (1.18 if self.fruit == "lemon" else 1.0)
        light = ball(self.fruit_at, wide, radius, grain=skin, depth=0.11)
        canvas.paint(
            ellipse(self.fruit_at, wide, radius), tinted(name, self.texture), "fruit", light
        )
        if self.fruit == "apple":
            stalk = capsule((x, y - radius * 0.8), (x + radius * 0.2, y - radius * 1.3), 0.006)
            canvas.paint(stalk, COLORS["brown"], "fruit")
        glint = circle((x - radius * 0.38, y - radius * 0.42), radius * 0.10)
        canvas.paint(glint, (1, 1, 1), opacity=0.7, softness=0.015)

    def pear(self, u: float, v: float) -> Point:
        """Return a point of the pear, in its size, v upward from the middle of its belly."""
        x, foot = self.pear_foot
        belly = (x, foot - self.pear_size)
        point = (belly[0] + u * self.pear_size, belly[1] - v * self.pear_size)
        return turned(point, belly, self.pear_angle)

    def _paint_pear(self, canvas: Canvas) -> None:
        size, belly, neck = self.pear_size, self.pear(0, 0), self.pear(0, 1.25)
        self._shadow(canvas, belly[0], self.pear_foot[1], size)
        stalk = capsule(self.pear(0, 1.7), self.pear(0.15, 2.1), 0.006)
        canvas.paint(stalk, COLORS["brown"], "pear")
        shape = union(capsule(belly, neck, size, size * 0.5))
        skin = waves(self.texture, 74, 12.0, 5)
        green = mix(
            (0.66, 0.72, 0.24), (0.85, 0.62, 0.22), float(generator(self.texture, 75).random())
        )
        middle = self.pear(0, 0.4)
        light = ball(middle, size * 1.35, size * 1.8, self.pear_angle, skin, 0.10)
        canvas.paint(shape, green, "pear", light)

    def candidates(self) -> Iterator[SceneDrag]:
        (x, y), fruit = self.fruit_at, _fruit(0.0, 0.05)
        way = -1 if self.bowl_at[0] > 0.5 else 1
        yield self.dragged("move", "fruit", [fruit], fruit_at=(x + way * 0.13, y + 0.08))
        yield self.dragged(
            "stretch", "vessel", [_vessel(0.9)], vessel_height=self.vessel_height * 1.28
        )
        yield self.dragged(
            "resize", "fruit", [_fruit(0.0, 0.8)], fruit_radius=self.fruit_radius * 1.4
        )
        turn = self.pear_angle + (0.7 if self.pear_angle < 0 else -0.7)
        yield self.dragged("rotate", "pear", [_pear(0, 1.4)], pear_angle=turn)
        pear = (self.pear_foot[0] + way * -0.10, self.pear_foot[1])
        yield self.dragged(
            "points",
            "fruit+pear",
            [fruit, _pear(0, 0.2)],
            fruit_at=(x - way * -0.04, y + 0.11),
            pear_foot=pear,
        )
        yield self.dragged(
            "long",
            "pear",
            [_pear(0, 0.3)],
            pear_foot=(self.pear_foot[0] - way * 0.30, self.pear_foot[1]),
        )
        yield self.dragged(
            "off-centre", "fruit", [_fruit(0.5, -0.35)], fruit_at=(x + way * 0.13, y + 0.08)
        )
        bowl = (self.bowl_at[0] + way * 0.08, self.bowl_at[1] + 0.03)
        yield self.dragged("move", "bowl", [_bowl], bowl_at=bowl)
        lower = self.vessel_height * 0.7
        yield self.dragged("shrink", "vessel", [_vessel(0.9)], vessel_height=lower)


def _fruit(u: float, v: float) -> Anchor:
    return lambda s: (s.fruit_at[0] + u * s.fruit_radius, s.fruit_at[1] + v * s.fruit_radius)


def _vessel(up: float) -> Anchor:
    return lambda s: (s.vessel_foot[0], s.vessel_foot[1] - up * s.vessel_height)


def _pear(u: float, v: float) -> Anchor:
    return lambda s: s.pear(u, v)


def _bowl(scene: StillLife) -> Point:
    return scene.bowl_at[0], scene.bowl_at[1] + 0.2 * scene.bowl_width
