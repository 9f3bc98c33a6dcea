"""Portraits: eyes, brows, mouth, nose, hair."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Color, Field, Point, Shade, Shape
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import (
    box,
    capsule,
    circle,
    common,
    curve,
    ellipse,
    local,
    turned,
)
from adaptivedrag.scenes.textures import (
    COLORS,
    ball,
    generator,
    mix,
    noise,
    tinted,
    waves,
)

SKINS: tuple[Color, ...] = (
    (0.95, 0.78, 0.66),
    (0.88, 0.67, 0.52),
    (0.72, 0.50, 0.36),
    (0.50, 0.33, 0.23),
)


@dataclass(frozen=True)
class Face(Scene):
    """A portrait; features are placed in half axes of the head, tilted about the chin."""

    kind: ClassVar[str] = "face"
    groups: ClassVar[tuple[str, ...]] = ("head",)

    hair: str
    shirt: str
    wall: str
    skin: int
    center: Point
    width: float
    height: float
    tilt: float
    eye_gap: float
    eye_size: float
    gaze: float
    brow: float
    mouth_y: float
    mouth_width: float
    mouth_open: float
    smile: float
    hair_length: float
    hair_volume: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        return cls(
            texture=int(random.integers(2**31)),
            hair=choose(random, "red", "orange", "yellow", "brown", "black", "grey"),
            shirt=choose(random, "red", "green", "blue", "purple", "white", "yellow"),
            wall=choose(random, "blue", "green", "grey", "pink", "yellow", "white"),
            skin=int(random.integers(len(SKINS))),
            center=(between(random, 0.44, 0.56), between(random, 0.42, 0.48)),
            width=between(random, 0.17, 0.205),
            height=between(random, 0.225, 0.26),
            tilt=between(random, -0.10, 0.10),
            eye_gap=between(random, 0.38, 0.46),
            eye_size=between(random, 0.17, 0.22),
            gaze=between(random, -0.3, 0.3),
            brow=between(random, 0.30, 0.36),
            mouth_y=between(random, 0.52, 0.60),
            mouth_width=between(random, 0.30, 0.42),
            mouth_open=between(random, 0.04, 0.14),
            smile=between(random, -0.02, 0.10),
            hair_length=between(random, 0.3, 1.3),
            hair_volume=between(random, 1.12, 1.28),
        )

    def caption(self) -> str:
        return f"a portrait of a person with {self.hair} hair and a {self.shirt} shirt"

    def at(self, u: float, v: float) -> Point:
        """Return a point of the head, in its half axes (v down)."""
        x, y = self.center
        chin = (x, y + self.height)
        return turned((x + u * self.width, y + v * self.height), chin, self.tilt)

    def paint(self, canvas: Canvas) -> None:
        self._paint_wall(canvas)
        skin, hair = SKINS[self.skin], tinted(self.hair, self.texture)
        if self.hair == "red":
            hair = mix(hair, COLORS["orange"], 0.25)
        strands = waves(self.texture, 52, 34.0, 5)
        self._paint_hair(canvas, hair, strands)
        self._paint_shoulders(canvas, skin)
        for u in (-0.98, 0.98):
            canvas.paint(
                ellipse(self.at(u, 0.08), 0.13 * self.width, 0.16 * self.height, self.tilt),
                mix(skin, (0.6, 0.2, 0.15), 0.18),
                "head/skin",
            )
        self._paint_skin(canvas, skin)
        for side in (-1, 1):
            self._paint_eye(canvas, side, hair)
        self._paint_nose(canvas, skin)
        self._paint_mouth(canvas)
        self._paint_fringe(canvas, hair, strands)

    def _paint_wall(self, canvas: Canvas) -> None:
        paper = np.array(mix(tinted(self.wall, self.texture), (0.75, 0.74, 0.72), 0.4), np.float32)
        center = (canvas.x - 0.35) ** 2 + (canvas.y - 0.3) ** 2
        light = 1.0 - 0.45 * center + 0.09 * noise(canvas.size, self.texture, 51, 5)
        canvas.fill(paper[:, None, None] * light[None].astype(np.float32))

    def _paint_hair(self, canvas: Canvas, hair: Color, strands: Shade) -> None:
        volume, top = self.hair_volume, self.at(0, -0.12)
        back = ellipse(top, self.width * volume, self.height * volume * 0.98, self.tilt)
        dark = mix(hair, (0.02, 0.01, 0.02), 0.30)
        light = self._hair_light(strands)
        canvas.paint(back, dark, "head/hair", light)
        for side in (-1, 1):
            start, end = (
                self.at(side * 0.82 * volume, -0.1),
                self.at(side * (0.80 * volume + 0.08), self.hair_length * 0.92),
            )
            lock = capsule(start, end, self.width * 0.26 * volume, self.width * 0.20)
            canvas.paint(lock, dark, "head/hair", light)

    def _hair_light(self, strands: Shade) -> Shade:
        def shade(x: Field, y: Field) -> Field:
            u, v = local(x, y, self.at(0, 0), self.tilt)
            u, v = u / np.float32(self.width), v / np.float32(self.height)
            return (0.92 - 0.10 * u - 0.12 * v + 0.20 * strands(u, v * 0.12)).astype(np.float32)

        return shade

    def _paint_shoulders(self, canvas: Canvas, skin: Color) -> None:
        x, chin = self.center[0], self.center[1] + self.height
        cloth = tinted(self.shirt, self.texture)
        folds = waves(self.texture, 53, 13.0, 4)
        top = chin + 0.09

        def shade(xs: Field, ys: Field) -> Field:
            u, v = local(xs, ys, (x, top))
            return (0.98 - 0.5 * u - 0.25 * v + 0.10 * folds(u * 1.6, v)).astype(np.float32)

        neck = box((x, chin + 0.03), self.width * 0.42, 0.12, 0.03)
        canvas.paint(neck, mix(skin, (0.25, 0.08, 0.05), 0.22), "neck")
        body = ellipse((x, top + 0.36), 0.36, 0.36)
        canvas.paint(body, cloth, "shirt", shade)
        collar = ellipse((x, top + 0.005), self.width * 0.55, 0.035)
        canvas.paint(collar, mix(skin, (0.25, 0.08, 0.05), 0.12), "neck")

    def _paint_skin(self, canvas: Canvas, skin: Color) -> None:
        center = self.at(0, 0)
        pores = waves(self.texture, 54, 9.0, 5)
        shape = ellipse(center, self.width, self.height, self.tilt)
        light = ball(center, self.width * 1.15, self.height * 1.15, self.tilt, pores, 0.035)
        canvas.paint(shape, mix(skin, (1, 1, 1), 0.06), "head/skin", light)
        for side in (-1, 1):
            cheek = circle(self.at(side * 0.52, 0.32), self.width * 0.14)
            canvas.paint(cheek, mix(skin, (0.85, 0.25, 0.2), 0.5), opacity=0.35, softness=0.05)

    def _paint_eye(self, canvas: Canvas, side: int, hair: Color) -> None:
        center = self.at(side * self.eye_gap, -0.08)
        size = self.eye_size * self.width
        white = ellipse(center, size, size * 0.62, self.tilt)
        canvas.paint(white, (0.95, 0.94, 0.92), "head/eye")
        look = self.at(side * self.eye_gap + self.gaze * self.eye_size, -0.08)
        tone = COLORS[("brown", "blue", "green", "grey")[self.texture % 4]]
        iris = circle(look, size * 0.56)
        canvas.paint(common(iris, white), mix(tone, (1, 1, 1), 0.08), "head/eye")
        canvas.paint(common(circle(look, size * 0.28), white), (0.04, 0.03, 0.04), "head/eye")
        glint = (look[0] - size * 0.18, look[1] - size * 0.2)
        canvas.paint(circle(glint, size * 0.12), (1, 1, 1), "head/eye")
        lid = self._arc(side * self.eye_gap, -0.08, self.eye_size, -0.125, 0.005)
        canvas.paint(lid, (0.16, 0.10, 0.09), "head/eye")
        brow = self._arc(side * self.eye_gap, -self.brow + 0.06, self.eye_size * 1.25, -0.10, 0.011)
        canvas.paint(brow, mix(hair, (0.05, 0.03, 0.02), 0.45), "head/brow")

    def _arc(self, u: float, v: float, reach: float, rise: float, thick: float) -> Shape:
        """Make a bow around a point of the head, ``reach`` wide, its middle ``rise`` lower."""
        ends = self.at(u - reach, v), self.at(u, v + 2 * rise), self.at(u + reach, v)
        return curve(*ends, thick, thick, 5)

    def _paint_nose(self, canvas: Canvas, skin: Color) -> None:
        shadow = mix(skin, (0.45, 0.16, 0.10), 0.45)
        side = capsule(self.at(0.05, -0.02), self.at(0.13, 0.26), 0.004, 0.006)
        canvas.paint(side, shadow, "head/skin", opacity=0.6, softness=0.012)
        canvas.paint(self._arc(0.03, 0.29, 0.14, 0.035, 0.006), shadow, "head/skin", opacity=0.8)
        tip = circle(self.at(-0.01, 0.20), self.width * 0.07)
        canvas.paint(tip, mix(skin, (1, 1, 1), 0.5), opacity=0.4, softness=0.02)

    def _paint_mouth(self, canvas: Canvas) -> None:
        red = mix((0.78, 0.28, 0.28), SKINS[self.skin], 0.25)
        u, v = self.mouth_width, self.mouth_y
        corners = self.at(-u, v - self.smile), self.at(u, v - self.smile)
        depth = self.mouth_open + 0.05
        upper = curve(corners[0], self.at(0, v - depth), corners[1], 0.010, 0.010)
        lower = curve(corners[0], self.at(0, v + self.smile + 2 * depth), corners[1], 0.012, 0.012)
        gape = ellipse(
            self.at(0, v + 0.4 * self.smile),
            u * self.width * 0.86,
            self.mouth_open * self.height,
            self.tilt,
        )
        canvas.paint(gape, (0.25, 0.06, 0.08), "head/mouth")
        teeth = ellipse(
            self.at(0, v + 0.4 * self.smile - 0.55 * self.mouth_open),
            u * self.width * 0.62,
            self.mouth_open * self.height * 0.42,
            self.tilt,
        )
        canvas.paint(teeth, (0.95, 0.94, 0.90), "head/mouth")
        canvas.paint(upper, mix(red, (0.2, 0, 0), 0.15), "head/mouth")
        canvas.paint(lower, red, "head/mouth")

    def _paint_fringe(self, canvas: Canvas, hair: Color, strands: Shade) -> None:
        volume = self.hair_volume
        cap = ellipse(
            self.at(0, -0.30), self.width * volume * 0.98, self.height * volume * 0.80, self.tilt
        )
        parting = 0.5 if generator(self.texture, 55).random() < 0.5 else -0.5
        brow = ellipse(
            self.at(parting * 0.9, 0.55), self.width * 1.25, self.height * 1.12, self.tilt
        )

        def distance(x: Field, y: Field) -> Field:
            return np.maximum(cap.distance(x, y), -brow.distance(x, y))

        canvas.paint(Shape(distance, cap.box), hair, "head/hair", self._hair_light(strands))

    def candidates(self) -> Iterator[SceneDrag]:
        side = 1 if self.center[0] < 0.5 else -1
        moved = (self.center[0] + side * 0.10, self.center[1] + 0.01)
        yield self.dragged("move", "head", [_face(0, 0.12), _face(0, -0.6)], center=moved)
        yield self.dragged(
            "stretch", "head/hair", [_lock(side, 0.85)], hair_length=self.hair_length + 0.55
        )
        if self.hair_length > 0.75:
            shorter = self.hair_length - 0.45
            yield self.dragged("shrink", "head/hair", [_lock(side, 0.9)], hair_length=shorter)
        yield self.dragged("resize", "head/hair", [_crown], hair_volume=self.hair_volume + 0.20)
        tilt = self.tilt + (0.32 if self.tilt < 0 else -0.32)
        yield self.dragged("rotate", "head", [_face(0, -0.55)], tilt=tilt)
        yield self.dragged(
            "points", "head/mouth", [_corner(-1), _corner(1)], mouth_width=self.mouth_width + 0.17
        )
        yield self.dragged("open", "head/mouth", [_lip], mouth_open=self.mouth_open + 0.15)
        far = (self.center[0] + side * 0.17, self.center[1] + 0.01)
        yield self.dragged("long", "head", [_face(0, 0.12)], center=far)
        yield self.dragged("off-centre", "head", [_face(-0.6 * side, 0.35)], center=moved)


def _face(u: float, v: float) -> Anchor:
    return lambda s: s.at(u, v)


def _lock(side: int, along: float) -> Anchor:
    """Return a point of the hair at one side of the face, from its root to its tip."""

    def anchor(scene: Face) -> Point:
        tip = scene.hair_length * 0.92 + 0.1
        return scene.at(side * (0.82 * scene.hair_volume + 0.16), -0.1 + along * tip)

    return anchor


def _crown(scene: Face) -> Point:
    return scene.at(0, -0.12 - 0.88 * scene.hair_volume)


def _corner(side: int) -> Anchor:
    """Return a corner of the mouth."""
    return lambda s: s.at(side * s.mouth_width * 0.98, s.mouth_y - s.smile)


def _lip(scene: Face) -> Point:
    """Return the middle of the lower lip."""
    depth = scene.mouth_open + 0.05
    return scene.at(0, scene.mouth_y + depth)
