"""Animals on a meadow: cats, dogs, rabbits and bears."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Color, Field, Point, Shade
from adaptivedrag.scenes.outdoors import paint_meadow
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import capsule, circle, convex, curve, ellipse, turned
from adaptivedrag.scenes.textures import COLORS, ball, grained, mix, tinted, waves

SPECIES = ("cat", "dog", "rabbit", "bear")


@dataclass(frozen=True)
class Animal(Scene):
    """An animal seen from the side; ``side`` is 1 when it looks to the right.

    ``head`` is relative to the body, in units of its half length; ``tail_angle`` is measured
    upward from straight back; ``stride`` is how far feet stand in front of or behind their hips.
    """

    kind: ClassVar[str] = "animal"
    groups: ClassVar[tuple[str, ...]] = ("animal", "animal/head")

    species: str
    fur: str
    side: int
    body: Point
    length: float
    girth: float
    legs: float
    head: Point
    head_radius: float
    ear_length: float
    tail_length: float
    tail_angle: float
    horizon: float
    stride: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        species, side = choose(random, *SPECIES), 1 if random.random() < 0.5 else -1
        ears = {"cat": 0.075, "dog": 0.10, "rabbit": 0.17, "bear": 0.055}[species]
        tail = {"cat": 0.24, "dog": 0.19, "rabbit": 0.09, "bear": 0.08}[species]
        return cls(
            texture=int(random.integers(2**31)),
            species=species,
            fur=choose(random, "brown", "orange", "grey", "black", "white"),
            side=side,
            body=(0.5 - side * between(random, 0.01, 0.07), between(random, 0.58, 0.64)),
            length=between(random, 0.17, 0.22),
            girth=between(random, 0.105, 0.14),
            legs=between(random, 0.16, 0.22),
            head=(between(random, 0.95, 1.15), between(random, 0.65, 0.95)),
            head_radius=between(random, 0.095, 0.12),
            ear_length=ears * between(random, 0.9, 1.2),
            tail_length=tail * between(random, 0.9, 1.15),
            tail_angle=between(random, 0.2, 1.0),
            horizon=between(random, 0.50, 0.62),
            stride=between(random, 0.0, 0.06),
        )

    def caption(self) -> str:
        return f"a {self.fur} {self.species} standing on a meadow"

    def skull(self, u: float = 0.0, v: float = 0.0) -> Point:
        """Return a point of the head, in its radii, with u forward and v down."""
        x = self.body[0] + self.side * self.head[0] * self.length
        y = self.body[1] - self.head[1] * self.length
        return x + self.side * u * self.head_radius, y + v * self.head_radius

    def tail(self, along: float) -> Point:
        """Return the point at a share of the tail's length, on the chord from root to tip."""
        root = (self.body[0] - self.side * self.length * 0.92, self.body[1] - 0.3 * self.girth)
        reach = along * self.tail_length
        return (
            root[0] - self.side * reach * float(np.cos(self.tail_angle)),
            root[1] - reach * float(np.sin(self.tail_angle)),
        )

    def leg(self, place: float, along: float) -> Point:
        """Return a point of a leg from hip to foot; the hip is ``place`` half lengths forward."""
        thick, way = self.girth * 0.28, 1 if place > 0 else -1
        fall = self.legs + self.girth * 0.15 - thick
        x = self.body[0] + self.side * (place * self.length + way * along * self.stride)
        return x, self.body[1] + self.girth * 0.45 + along * fall

    def paint(self, canvas: Canvas) -> None:
        paint_meadow(canvas, self.texture, self.horizon)
        coat = tinted(self.fur, self.texture)
        dark = mix(coat, (0.05, 0.04, 0.05), 0.35)
        ground = self.body[1] + self.girth * 0.6 + self.legs
        shadow = ellipse((self.body[0], ground), self.length * 1.35, 0.03)
        canvas.paint(shadow, (0.05, 0.10, 0.04), opacity=0.5, softness=0.05)
        self._paint_legs(canvas, dark, (-0.42, 0.86))
        self._paint_tail(canvas, mix(coat, dark, 0.4))
        self._paint_legs(canvas, coat, (-0.72, 0.60))
        self._paint_body(canvas, coat)
        self._paint_head(canvas, coat, dark)

    def _fur(self, purpose: int) -> Shade:
        return waves(self.texture, purpose, 11.0, 6)

    def _paint_legs(self, canvas: Canvas, color: Color, places: tuple[float, float]) -> None:
        for place in places:
            hip, foot, thick = self.leg(place, 0), self.leg(place, 1), self.girth * 0.28
            leg = capsule(hip, foot, thick, thick * 0.78)
            canvas.paint(leg, color, "animal/legs", grained(self._fur(31), hip, depth=0.10))
            toes = (foot[0] + self.side * 0.012, foot[1] + thick * 0.4)
            paw = ellipse(toes, thick * 1.15, thick * 0.7)
            canvas.paint(paw, mix(color, (1, 1, 1), 0.12), "animal/legs")

    def _paint_tail(self, canvas: Canvas, color: Color) -> None:
        root, tip = self.tail(0), self.tail(1)
        sag = 0.12 * self.tail_length
        bend = ((root[0] + tip[0]) / 2, (root[1] + tip[1]) / 2 + sag)
        thick = {"cat": 0.024, "dog": 0.027, "rabbit": 0.045, "bear": 0.040}[self.species]
        shape = curve(root, bend, tip, thick, thick * 0.7)
        canvas.paint(shape, color, "animal/tail", grained(waves(self.texture, 32, 60.0), root))

    def _paint_body(self, canvas: Canvas, coat: Color) -> None:
        length, girth = self.length * 1.08, self.girth
        spots = waves(self.texture, 33, 4.0, 4)
        fur = self._fur(34)
        patchy = 0.6 if self.texture % 2 else 0.0

        def coatwork(u: Field, v: Field) -> Field:
            return fur(u * 2, v * 1.4) + patchy * 2.2 * np.tanh(6 * (spots(u, v) - 0.25))

        light = ball(self.body, length, girth, grain=coatwork, depth=0.11)
        canvas.paint(ellipse(self.body, length, girth), coat, "animal/body", light)

    def _paint_head(self, canvas: Canvas, coat: Color, dark: Color) -> None:
        neck = (self.body[0] + self.side * self.length * 0.72, self.body[1] - 0.25 * self.girth)
        throat = capsule(neck, self.skull(-0.1, 0.2), self.girth * 0.62, self.head_radius * 0.62)
        canvas.paint(
            throat, mix(coat, dark, 0.25), "animal/body", grained(self._fur(34), neck, depth=0.10)
        )
        self._paint_ear(canvas, dark, -0.52)
        radius, center = self.head_radius, self.skull()
        light = ball(center, radius, radius, grain=self._fur(35), depth=0.09)
        canvas.paint(
            ellipse(center, radius * 1.05, radius * 0.95), coat, "animal/head/skull", light
        )
        self._paint_ear(canvas, mix(coat, dark, 0.3), 0.12)
        self._paint_snout(canvas, coat)
        eye = self.skull(0.36, -0.18)
        canvas.paint(circle(eye, radius * 0.17), COLORS["white"], "animal/head/eye")
        canvas.paint(
            circle(self.skull(0.41, -0.16), radius * 0.115), (0.06, 0.05, 0.06), "animal/head/eye"
        )
        canvas.paint(circle(self.skull(0.45, -0.21), radius * 0.04), (1, 1, 1), "animal/head/eye")

    def _paint_ear(self, canvas: Canvas, color: Color, place: float) -> None:
        base, tip = self.ear(0.0, place), self.ear(1.0, place)
        width = self.head_radius * 0.30
        if self.species == "cat":
            across = turned((base[0] + width * 1.1, base[1]), base, 0.25 * self.side)
            other = (2 * base[0] - across[0], 2 * base[1] - across[1])
            shape = convex([tip, across, other], 0.004)
        elif self.species == "bear":
            shape = circle(self.ear(0.6, place), width * 1.15)
        else:
            end = width * (1.0 if self.species == "dog" else 0.75)
            shape = capsule(base, tip, width * 0.75, end)
        light = grained(self._fur(36), base, depth=0.10)
        canvas.paint(shape, color, "animal/head/ear", light)

    def ear(self, along: float, place: float = 0.12) -> Point:
        """Return a point on the axis of an ear, from its base to its tip."""
        base = self.skull(place, -0.78)
        if self.species == "dog":
            base = self.skull(place - 0.55, -0.55)
            lean, rise = -0.45, -0.89
        else:
            lean, rise = -0.22, 0.97
        reach = along * self.ear_length
        return base[0] + self.side * lean * reach, base[1] - rise * reach

    def _paint_snout(self, canvas: Canvas, coat: Color) -> None:
        radius, pale = self.head_radius, mix(coat, (1, 0.97, 0.92), 0.38)
        long = {"cat": 0.40, "dog": 0.62, "rabbit": 0.38, "bear": 0.52}[self.species]
        center = self.skull(0.62 + long * 0.35, 0.28)
        canvas.paint(
            ellipse(center, radius * long, radius * 0.36),
            pale,
            "animal/head/snout",
            ball(center, radius * long, radius * 0.36),
        )
        nose = self.skull(0.62 + long * 1.15, 0.16)
        canvas.paint(
            ellipse(nose, radius * 0.15, radius * 0.12), (0.10, 0.07, 0.08), "animal/head/snout"
        )
        mouth = capsule(self.skull(0.60, 0.46), self.skull(0.66 + long * 0.9, 0.44), 0.004)
        canvas.paint(mouth, (0.12, 0.07, 0.07), "animal/head/snout")

    def candidates(self) -> Iterator[SceneDrag]:
        x, y = self.head
        raised = (x, y + 0.55) if y < 0.8 else (x + 0.1, y - 0.5)
        yield self.dragged("move", "animal/head", [_skull(0.1, 0.15)], head=raised)
        yield self.dragged(
            "stretch", "animal/head/ear", [_ear(0.7)], ear_length=self.ear_length * 1.7
        )
        yield self.dragged(
            "stretch", "animal/tail", [_tail(0.85)], tail_length=self.tail_length * 1.5
        )
        yield self.dragged(
            "resize", "animal/head", [_skull(0.1, 0.78)], head_radius=self.head_radius * 1.3
        )
        swing = self.tail_angle + (0.7 if self.tail_angle < 0.6 else -0.7)
        yield self.dragged("rotate", "animal/tail", [_tail(0.8)], tail_angle=swing)
        yield self.dragged(
            "points",
            "animal/head+animal/tail",
            [_skull(0.1, 0.1), _tail(0.8)],
            head=raised,
            tail_angle=swing,
        )
        yield self.dragged(
            "shrink", "animal/tail", [_tail(0.9)], tail_length=self.tail_length * 0.5
        )
        stride = self.stride + (0.07 if self.stride < 0.04 else -0.05)
        yield self.dragged("open", "animal/legs", [_leg(-0.72), _leg(0.60)], stride=stride)
        step = (self.body[0] + (0.12 if self.body[0] < 0.5 else -0.12), self.body[1])
        yield self.dragged("move", "animal", [_back(0, 0), _skull(0.1, 0.1)], body=step)
        grazing = (x + 0.15, y - 1.25)
        yield self.dragged("long", "animal/head", [_skull(0.1, 0.1)], head=grazing)
        yield self.dragged("off-centre", "animal/head", [_skull(-0.45, 0.25)], head=raised)


def _skull(u: float, v: float) -> Anchor:
    return lambda s: s.skull(u, v)


def _ear(along: float) -> Anchor:
    return lambda s: s.ear(along)


def _tail(along: float) -> Anchor:
    return lambda s: s.tail(along)


def _leg(place: float) -> Anchor:
    return lambda s: s.leg(place, 0.85)


def _back(u: float, v: float) -> Anchor:
    """Return a point of the body, in its half axes."""
    return lambda s: (s.body[0] + u * s.length, s.body[1] + v * s.girth)
