"""Cars and vans on a road."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Color, Field, Point, Shade, Shape
from adaptivedrag.scenes.outdoors import paint_meadow
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import box, capsule, circle, convex, ellipse, turned
from adaptivedrag.scenes.textures import ball, generator, mix, noise, tinted, waves


@dataclass(frozen=True)
class Vehicle(Scene):
    """A vehicle seen from the side; ``nose`` and ``rear`` are its ends along x.

    ``place`` is where its middle stands on the road; ``tilt`` lifts its front.
    """

    kind: ClassVar[str] = "vehicle"
    groups: ClassVar[tuple[str, ...]] = ("vehicle",)

    model: str
    paintwork: str
    side: int
    place: Point
    nose: float
    rear: float
    body_height: float
    cabin_height: float
    wheel: float
    tilt: float
    horizon: float
    road: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        model, side = choose(random, "car", "van", "truck"), 1 if random.random() < 0.5 else -1
        road = between(random, 0.66, 0.72)
        cabin = {"car": 0.115, "van": 0.165, "truck": 0.15}[model]
        return cls(
            texture=int(random.integers(2**31)),
            model=model,
            paintwork=choose(random, "red", "orange", "yellow", "green", "blue", "white", "purple"),
            side=side,
            place=(0.5 + between(random, -0.08, 0.08), road + between(random, 0.10, 0.16)),
            nose=between(random, 0.22, 0.29),
            rear=between(random, 0.22, 0.29),
            body_height=between(random, 0.10, 0.13),
            cabin_height=cabin * between(random, 0.9, 1.15),
            wheel=between(random, 0.058, 0.074),
            tilt=0.0,
            horizon=between(random, 0.50, 0.60),
            road=road,
        )

    def caption(self) -> str:
        return f"a {self.paintwork} {self.model} on a road through a meadow"

    def at(self, u: float, v: float) -> Point:
        """Return a point of the body: u from -1 (rear) to 1 (nose), v upward in body heights."""
        x, y = self.place[0], self.place[1] - self.wheel
        reach = self.nose if u > 0 else self.rear
        point = (x + self.side * u * reach, y - v * self.body_height)
        return turned(point, (x, y), -self.side * self.tilt)

    def paint(self, canvas: Canvas) -> None:
        paint_meadow(canvas, self.texture, self.horizon)
        self._paint_road(canvas)
        x, y = self.place
        middle = x + self.side * (self.nose - self.rear) / 2
        shadow = ellipse((middle, y), (self.nose + self.rear) * 0.52, 0.022)
        canvas.paint(shadow, (0.03, 0.03, 0.05), opacity=0.65, softness=0.03)
        color = tinted(self.paintwork, self.texture)
        self._paint_cabin(canvas, color)
        self._paint_body(canvas, color)
        for place in (-0.62, 0.62):
            self._paint_wheel(canvas, self.at(place, 0.0))

    def _paint_road(self, canvas: Canvas) -> None:
        gravel = noise(canvas.size, self.texture, 61, 60, 3)

        def asphalt(x: Field, y: Field) -> Field:
            rows = slice(canvas.size - y.shape[0], None)
            return (0.85 + 0.35 * (y - self.road) + 0.09 * gravel[rows] + 0 * x).astype(np.float32)

        surface = Shape(lambda x, y: np.float32(self.road) - y + 0 * x, (0.0, self.road, 1.0, 1.0))
        canvas.paint(surface, (0.40, 0.40, 0.42), "road", asphalt)
        kerb = box((0.5, self.road + 0.004), 0.6, 0.007)
        canvas.paint(kerb, (0.72, 0.70, 0.64), "road")
        start = float(generator(self.texture, 62).uniform(-0.1, 0.1))
        for i in range(5):
            dash = box((start + 0.25 * i, 0.945), 0.07, 0.009, 0.004)
            canvas.paint(dash, (0.88, 0.87, 0.80), "road")

    def _paint_body(self, canvas: Canvas, color: Color) -> None:
        corners = [(-1.0, 0.05), (-1.0, 0.85), (-0.9, 1.02), (0.75, 1.0), (1.0, 0.72), (1.0, 0.05)]
        canvas.paint(self._panel(corners, 0.008), color, "vehicle/body", self._gloss())
        stripe = [(-0.98, 0.36), (-0.98, 0.44), (0.99, 0.44), (0.99, 0.36)]
        canvas.paint(self._panel(stripe, 0.0), mix(color, (0, 0, 0), 0.45), "vehicle/body")
        sill = [(-1.0, 0.0), (-1.0, 0.14), (1.0, 0.14), (1.0, 0.0)]
        canvas.paint(self._panel(sill, 0.004), (0.16, 0.16, 0.18), "vehicle/body")
        lamp = ellipse(self.at(0.93, 0.62), 0.016, 0.022)
        canvas.paint(lamp, (1.0, 0.95, 0.72), "vehicle/body")
        canvas.paint(
            ellipse(self.at(-0.96, 0.66), 0.011, 0.020), (0.75, 0.10, 0.08), "vehicle/body"
        )
        handle = capsule(self.at(-0.06, 0.72), self.at(-0.16, 0.72), 0.005)
        canvas.paint(handle, (0.85, 0.85, 0.86), "vehicle/body")
        for u in (0.10, -0.42):
            seam = capsule(self.at(u, 0.18), self.at(u, 0.98), 0.0022)
            canvas.paint(seam, mix(color, (0, 0, 0), 0.6), "vehicle/body")

    def _paint_cabin(self, canvas: Canvas, color: Color) -> None:
        top = 1.0 + self.cabin_height / self.body_height
        rear, front, lean = {
            "car": (-0.72, 0.55, 0.27),
            "van": (-0.98, 0.62, 0.22),
            "truck": (0.08, 0.74, 0.14),
        }[self.model]
        back_lean = lean if self.model == "car" else 0.03
        outline = [(rear, 0.9), (rear + back_lean, top), (front - lean, top), (front, 0.9)]
        canvas.paint(self._panel(outline, 0.014), color, "vehicle/cabin", self._gloss())
        if self.model == "truck":
            self._paint_load(canvas, top)
        inner, low = 0.055, 1.08
        glass_top = top - 0.10
        middle = {"car": -0.08, "van": 0.05, "truck": 0.08}[self.model]
        panes = [(middle + 0.035, front - inner, 0.0, lean)]
        if self.model != "truck":
            panes.append((rear + inner, middle - 0.035, back_lean, 0.0))
        for left, right, lean_left, lean_right in panes:
            pane = [
                (left, low),
                (left + lean_left * 0.85, glass_top),
                (right - lean_right * 0.85, glass_top),
                (right, low),
            ]
            canvas.paint(
                self._panel(pane, 0.003), (0.62, 0.76, 0.84), "vehicle/window", self._glass()
            )

    def _paint_load(self, canvas: Canvas, top: float) -> None:
        crate = [(-0.97, 0.95), (-0.97, top * 0.98), (-0.02, top * 0.98), (-0.02, 0.95)]
        planks = waves(self.texture, 63, 20.0, 3)

        def shade(x: Field, y: Field) -> Field:
            u, v = self._inside(x, y)
            return (0.95 + 0.10 * planks(u * 0.2, v) + 0.12 * np.sin(v * 26)).astype(np.float32)

        canvas.paint(self._panel(crate, 0.004), (0.72, 0.56, 0.36), "vehicle/load", shade)

    def _paint_wheel(self, canvas: Canvas, hub: Point) -> None:
        radius = self.wheel
        canvas.paint(circle(hub, radius * 1.18), (0.10, 0.10, 0.11), "vehicle/body")
        canvas.paint(circle(hub, radius), (0.17, 0.17, 0.18), "vehicle/wheel")
        disc = radius * 0.62
        canvas.paint(
            circle(hub, disc),
            (0.80, 0.81, 0.84),
            "vehicle/wheel",
            ball(hub, disc * 1.3, disc * 1.3),
        )
        for i in range(5):
            angle = 2 * np.pi * i / 5 + self.texture % 5
            end = (hub[0] + disc * 0.82 * np.cos(angle), hub[1] + disc * 0.82 * np.sin(angle))
            canvas.paint(capsule(hub, end, radius * 0.07), (0.30, 0.30, 0.33), "vehicle/wheel")
        canvas.paint(circle(hub, radius * 0.16), (0.25, 0.25, 0.28), "vehicle/wheel")

    def _panel(self, corners: list[Point], rounding: float) -> Shape:
        points = [self.at(u, v) for u, v in corners]
        return convex(points if self.side > 0 else points[::-1], rounding)

    def _inside(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Return the body coordinates (u, v) of scene points; see `at`."""
        base = (self.place[0], self.place[1] - self.wheel)
        angle = -self.side * self.tilt
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = x - np.float32(base[0]), y - np.float32(base[1])
        along, down = (cos * dx + sin * dy) * self.side, cos * dy - sin * dx
        reach = np.where(along > 0, np.float32(self.nose), np.float32(self.rear))
        return along / reach, -down / np.float32(self.body_height)

    def _gloss(self) -> Shade:
        dirt = waves(self.texture, 64, 7.0, 5)

        def shade(x: Field, y: Field) -> Field:
            u, v = self._inside(x, y)
            shine = 0.30 * np.exp(-((v - np.float32(0.84)) ** 2) / np.float32(0.012))
            sheen = 0.25 * np.exp(-((v - np.float32(1.9)) ** 2) / np.float32(0.08))
            return (0.80 + 0.16 * v + shine + sheen + 0.06 * dirt(u, v)).astype(np.float32)

        return shade

    def _glass(self) -> Shade:
        def shade(x: Field, y: Field) -> Field:
            u, v = self._inside(x, y)
            band = 0.5 + 0.5 * np.tanh(6 * np.sin(5.0 * u + 1.6 * v))
            return (0.62 + 0.20 * (v - 1) + 0.28 * band).astype(np.float32)

        return shade

    def candidates(self) -> Iterator[SceneDrag]:
        (x, y), way = self.place, 1 if self.place[0] < 0.5 else -1
        moved = (x + way * 0.11, y)
        yield self.dragged("move", "vehicle", [_body(0.02, 0.6), _body(0.3, 1.4)], place=moved)
        yield self.dragged("stretch", "vehicle", [_body(0.85, 0.6)], nose=self.nose * 1.38)
        yield self.dragged(
            "resize",
            "vehicle",  # larger wheels lift the body
            [_tread(-0.62), _tread(0.62)],
            wheel=self.wheel * 1.35,
        )
        yield self.dragged("rotate", "vehicle", [_body(0.85, 0.6)], tilt=0.20)
        yield self.dragged(
            "points",
            "vehicle",
            [_body(-0.85, 0.6), _body(0.85, 0.6)],
            nose=self.nose * 1.25,
            rear=self.rear * 1.25,
        )
        yield self.dragged("long", "vehicle", [_body(0.02, 0.6)], place=(x + way * 0.20, y))
        yield self.dragged("off-centre", "vehicle", [_body(-0.7, 0.7)], place=moved)
        yield self.dragged(
            "stretch",
            "vehicle/cabin+vehicle/window",
            [_roof],
            cabin_height=self.cabin_height * 1.5,
        )
        yield self.dragged("shrink", "vehicle", [_body(0.85, 0.6)], nose=self.nose * 0.7)


def _body(u: float, v: float) -> Anchor:
    return lambda s: s.at(u, v)


def _tread(u: float) -> Anchor:
    """Return a point on the upper tire of the wheel under ``u``."""

    def anchor(scene: Vehicle) -> Point:
        x, y = scene.at(u, 0.0)
        return x, y - 0.80 * scene.wheel

    return anchor


def _roof(scene: Vehicle) -> Point:
    u = {"car": -0.08, "van": 0.0, "truck": 0.36}[scene.model]
    return scene.at(u, 1.0 + 0.96 * scene.cabin_height / scene.body_height)
