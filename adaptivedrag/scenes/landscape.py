"""Landscapes: peaks, a river, a sun, a pine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Color, Field, Point, Shape
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import below, box, circle, convex
from adaptivedrag.scenes.textures import (
    COLORS,
    generator,
    gradient,
    mix,
    noise,
    waves,
)

SKIES: dict[str, tuple[Color, Color, Color]] = {  # high, low, light on everything
    "morning": ((0.45, 0.62, 0.82), (0.98, 0.82, 0.68), (1.00, 0.93, 0.86)),
    "midday": ((0.24, 0.50, 0.84), (0.76, 0.88, 0.95), (1.00, 1.00, 0.98)),
    "evening": ((0.29, 0.25, 0.50), (0.98, 0.60, 0.36), (0.98, 0.78, 0.66)),
}


@dataclass(frozen=True)
class Landscape(Scene):
    """A peak and a smaller one; ``*_top`` are heights of summits (y), widths are half widths."""

    kind: ClassVar[str] = "landscape"

    time: str
    snowy: bool
    horizon: float
    sun: Point
    sun_radius: float
    peak_x: float
    peak_top: float
    peak_width: float
    hill_x: float
    hill_top: float
    hill_width: float
    river_far: float
    river_near: float
    river_bend: float
    pine: Point
    pine_height: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        side = 1 if random.random() < 0.5 else -1
        horizon = between(random, 0.56, 0.66)
        peak_x = 0.5 + side * between(random, 0.02, 0.16)
        return cls(
            texture=int(random.integers(2**31)),
            time=choose(random, *SKIES),
            snowy=bool(random.random() < 0.6),
            horizon=horizon,
            sun=(0.5 - side * between(random, 0.22, 0.34), between(random, 0.12, 0.24)),
            sun_radius=between(random, 0.045, 0.075),
            peak_x=peak_x,
            peak_top=between(random, 0.20, 0.36),
            peak_width=between(random, 0.26, 0.40),
            hill_x=peak_x - side * between(random, 0.30, 0.42),
            hill_top=horizon - between(random, 0.12, 0.20),
            hill_width=between(random, 0.25, 0.35),
            river_far=0.5 + between(random, -0.12, 0.12),
            river_near=0.5 + between(random, -0.20, 0.20),
            river_bend=between(random, -0.12, 0.12),
            pine=(0.5 + side * between(random, 0.28, 0.38), between(random, 0.78, 0.90)),
            pine_height=between(random, 0.20, 0.32),
        )

    def caption(self) -> str:
        peak = "snowy" if self.snowy else "rocky"
        return f"a {peak} peak and a river with a pine under the {self.time} sun"

    def paint(self, canvas: Canvas) -> None:
        high, low, light = SKIES[self.time]
        canvas.fill(gradient(canvas.y, high, low, self.horizon))
        clouds = np.clip(noise(canvas.size, self.texture, 1, 5, 2) * 1.3 - 0.25, 0, 0.75)
        clouds *= np.clip(1.15 - canvas.y / self.horizon, 0, 1)
        white = np.array(mix(low, (1, 1, 1), 0.6), np.float32)[:, None, None]
        canvas.colors += clouds[None] * (white - canvas.colors)
        self._paint_sun(canvas, low)
        self._paint_peak(canvas, "hill", mix((0.40, 0.42, 0.50), low, 0.35), light)
        self._paint_peak(canvas, "peak", mix((0.44, 0.38, 0.36), light, 0.12), light)
        self._paint_land(canvas, light)
        self._paint_pine(canvas, light)

    def _paint_sun(self, canvas: Canvas, low: Color) -> None:
        glow = mix(low, (1.0, 0.95, 0.75), 0.6)
        radius = self.sun_radius
        halo = circle(self.sun, radius * 1.8)
        canvas.paint(halo, glow, opacity=0.55, softness=radius * 2.4)
        warm = (1.0, 0.72, 0.38) if self.time == "evening" else (1.0, 0.93, 0.62)
        canvas.paint(circle(self.sun, radius), warm, part="sun")

    def _paint_peak(self, canvas: Canvas, name: str, rock: Color, light: Color) -> None:
        x, top, width = (getattr(self, f"{name}_{what}") for what in ("x", "top", "width"))
        purpose = 2 if name == "peak" else 5
        height = self.horizon + 0.04 - top
        ragged = waves(self.texture, purpose, 9.0, 5)
        slabs = waves(self.texture, purpose + 1, 14.0, 5)
        ridge = waves(self.texture, purpose + 2, 7.0, 3)

        def outline(xs: Field) -> Field:
            u = (xs - np.float32(x)) / np.float32(width)
            slope = np.abs(u) ** np.float32(0.92)
            return np.float32(top) + np.float32(height) * (
                slope + 0.10 * np.minimum(slope * 3, 1) * ragged(u, np.zeros_like(u))
            )

        def relief(xs: Field, ys: Field) -> tuple[Field, Field, Field]:
            u = (xs - np.float32(x)) / np.float32(width)
            v = (ys - np.float32(top)) / np.float32(height)
            return u, v, slabs(u * 1.6, v)

        def shade(xs: Field, ys: Field) -> Field:
            u, v, rough = relief(xs, ys)
            lee = np.tanh((u - 0.22 * v * ridge(v, u * 0.3)) * 9)
            return (0.90 - 0.22 * lee + 0.17 * rough).astype(np.float32)

        mountain = below(outline, height / width, top - 0.02)
        color = tuple(a * b for a, b in zip(rock, light, strict=True))
        canvas.paint(mountain, color, name, shade)
        if not self.snowy:
            return

        def snow(xs: Field, ys: Field) -> Field:
            _, v, rough = relief(xs, ys)
            edge = (v - 0.36 - 0.16 * rough) * np.float32(height)
            return np.maximum(edge, mountain.distance(xs, ys))

        reach = (x - width, top - 0.02, x + width, top + 0.7 * height)
        canvas.paint(Shape(snow, reach), mix((0.97, 0.98, 1.0), light, 0.35), name, shade)

    def _paint_land(self, canvas: Canvas, light: Color) -> None:
        swell = waves(self.texture, 8, 6.0, 3)
        ground = below(lambda x: np.float32(self.horizon) + 0.018 * swell(x, x * 0))
        grass = waves(self.texture, 9, 55.0, 6)
        patches = noise(canvas.size, self.texture, 10, 7, 2)

        def meadow(x: Field, y: Field) -> Field:
            near = np.clip((y - self.horizon) / (1 - self.horizon), 0, 1)
            rows = slice(canvas.size - y.shape[0], None)
            return (0.80 + 0.22 * near + 0.12 * patches[rows] + 0.10 * grass(x, y * 2)).astype(
                np.float32
            )

        green = tuple(a * b for a, b in zip((0.42, 0.55, 0.26), light, strict=True))
        land = Shape(ground.distance, (0.0, self.horizon - 0.05, 1.0, 1.0))
        canvas.paint(land, green, "meadow", meadow)
        ripples = waves(self.texture, 12, 40.0, 4)

        def water(x: Field, y: Field) -> Field:
            return (0.92 + 0.12 * ripples(x * 0.5, y * 2.2) + 0.15 * (1 - y)).astype(np.float32)

        blue = tuple(a * b for a, b in zip((0.36, 0.58, 0.74), light, strict=True))
        box_ = (0.0, self.horizon + 0.01, 1.0, 1.0)
        bank = Shape(lambda x, y: self._river(x, y) - np.float32(0.012), box_)
        canvas.paint(bank, (0.62, 0.56, 0.38), "meadow", opacity=0.8)
        canvas.paint(Shape(self._river, box_), blue, "river", water)

    def _river(self, x: Field, y: Field) -> Field:
        start = np.float32(self.horizon + 0.015)
        s = np.clip((y - start) / (1 - start), 0, 1)
        side = np.abs(x - self.river_x(s)) - (0.010 + 0.13 * s**1.4)
        return np.maximum(side * np.float32(0.75), start - y)

    def river_x(self, s: Field) -> Field:
        straight = self.river_far + (self.river_near - self.river_far) * s
        return straight + self.river_bend * np.sin(s * np.float32(2 * np.pi))

    def _paint_pine(self, canvas: Canvas, light: Color) -> None:
        (x, foot), height = self.pine, self.pine_height
        shadow = Shape(
            convex([(x, foot - 0.01), (x + 0.12, foot + 0.02), (x, foot + 0.015)]).distance,
            (x - 0.02, foot - 0.02, x + 0.14, foot + 0.04),
        )
        canvas.paint(shadow, (0.08, 0.12, 0.08), opacity=0.4, softness=0.02)
        canvas.paint(
            box((x, foot - 0.04 * height), 0.05 * height, 0.09 * height), COLORS["brown"], "pine"
        )
        needles = waves(self.texture, 13, 26.0, 5)

        def shade(xs: Field, ys: Field) -> Field:
            u, v = (xs - np.float32(x)) / np.float32(height), (ys - np.float32(foot)) / height
            return (0.95 - 1.1 * u + 0.28 * needles(u * 2, v * 2)).astype(np.float32)

        tint = 0.85 + 0.3 * float(generator(self.texture, 14).random())
        green = tuple(a * b * tint for a, b in zip((0.16, 0.36, 0.22), light, strict=True))
        for low, high, half in ((0.08, 0.50, 0.24), (0.32, 0.74, 0.19), (0.56, 1.0, 0.14)):
            tier = convex(
                [
                    (x, foot - high * height),
                    (x + half * height, foot - low * height),
                    (x - half * height, foot - low * height),
                ]
            )
            canvas.paint(tier, green, "pine", shade)

    def candidates(self) -> Iterator[SceneDrag]:
        inward = 1 if self.sun[0] < 0.5 else -1
        sun, rim = _sun(0, 0), _sun(0.45, 0.4)
        near = (self.sun[0] + inward * 0.13, self.sun[1] + 0.02)
        yield self.dragged("move", "sun", [sun], sun=near)
        taller = self.peak_top - 0.11
        yield self.dragged("stretch", "peak", [_peak(0.18)], peak_top=taller)
        shift = self.peak_x + inward * -0.12
        yield self.dragged("move", "peak", [_peak(0.3)], peak_x=shift)
        yield self.dragged(
            "resize", "pine", [_pine(0.85)], pine_height=min(0.42, self.pine_height * 1.4)
        )
        pine = (self.pine[0] - np.sign(self.pine[0] - 0.5) * 0.11, self.pine[1])
        yield self.dragged(
            "points", "sun+pine", [sun, _pine(0.5)], sun=near, pine=(float(pine[0]), pine[1])
        )
        across = (1 - self.sun[0], max(0.09, self.sun[1] - 0.03))
        yield self.dragged("long", "sun", [sun], sun=across)
        yield self.dragged("off-centre", "sun", [rim], sun=near)
        bend = self.river_bend + (0.10 if self.river_bend < 0 else -0.10)
        yield self.dragged("move", "river", [_river(0.25)], river_bend=bend)
        lower = self.peak_top + 0.5 * (self.horizon - 0.06 - self.peak_top)
        yield self.dragged("shrink", "peak", [_peak(0.18)], peak_top=lower)
        yield self.dragged("shrink", "pine", [_pine(0.85)], pine_height=self.pine_height * 0.6)


def _sun(u: float, v: float) -> Anchor:
    """Return a point of the sun, in its radii."""
    return lambda s: (s.sun[0] + u * s.sun_radius, s.sun[1] + v * s.sun_radius)


def _peak(down: float) -> Anchor:
    """Return a point under the summit, as a share of the peak's height."""
    return lambda s: (s.peak_x, s.peak_top + down * (s.horizon + 0.04 - s.peak_top))


def _pine(up: float) -> Anchor:
    """Return a point on the pine's axis, as a share of its height."""
    return lambda s: (s.pine[0], s.pine[1] - up * s.pine_height)


def _river(down: float) -> Anchor:
    """Return a point in the middle of the river: 0 is the horizon, 1 the lower border."""

    def anchor(scene: Landscape) -> Point:
        start = scene.horizon + 0.015
        return float(scene.river_x(np.float32(down))), start + down * (1 - start)

    return anchor
