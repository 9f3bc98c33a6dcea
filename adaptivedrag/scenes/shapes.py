"""Signed distances of the shapes that scenes are made of, in scene units, negative inside.

Ellipses and curves use first-order distances: exact on the border, where anti-aliasing needs them.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from adaptivedrag.scenes.canvas import Field, Point, Shape


def local(x: Field, y: Field, center: Point, angle: float = 0.0) -> tuple[Field, Field]:
    """Return coordinates around ``center`` in which a shape rotated by ``angle`` is upright."""
    dx, dy = x - np.float32(center[0]), y - np.float32(center[1])
    if angle == 0.0:
        return dx, dy
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * dx + sin * dy, cos * dy - sin * dx


def turned(point: Point, center: Point, angle: float) -> Point:
    """Turn ``point`` about ``center`` by ``angle`` radians (clockwise on the screen)."""
    dx, dy = point[0] - center[0], point[1] - center[1]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return center[0] + cos * dx - sin * dy, center[1] + sin * dx + cos * dy


def ellipse(center: Point, rx: float, ry: float, angle: float = 0.0) -> Shape:
    def distance(x: Field, y: Field) -> Field:
        u, v = local(x, y, center, angle)
        u, v = u / np.float32(rx), v / np.float32(ry)
        radius = np.sqrt(u * u + v * v)
        slope = np.sqrt((u / np.float32(rx)) ** 2 + (v / np.float32(ry)) ** 2)
        return radius * (radius - 1) / np.maximum(slope, np.float32(1e-6))

    reach = max(rx, ry)
    half = (rx, ry) if angle == 0.0 else (reach, reach)
    return Shape(distance, _around(center, *half))


def circle(center: Point, radius: float) -> Shape:
    def distance(x: Field, y: Field) -> Field:
        u, v = local(x, y, center)
        return np.sqrt(u * u + v * v) - np.float32(radius)

    return Shape(distance, _around(center, radius, radius))


def capsule(start: Point, end: Point, r0: float, r1: float | None = None) -> Shape:
    """Make a limb from ``start`` to ``end`` whose radius goes from ``r0`` to ``r1``."""
    r1 = r0 if r1 is None else r1
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(dx * dx + dy * dy, 1e-9)

    def distance(x: Field, y: Field) -> Field:
        u, v = local(x, y, start)
        along = np.clip((u * np.float32(dx) + v * np.float32(dy)) / np.float32(length), 0, 1)
        du, dv = u - along * np.float32(dx), v - along * np.float32(dy)
        return np.sqrt(du * du + dv * dv) - (np.float32(r0) + along * np.float32(r1 - r0))

    reach = max(r0, r1)
    low = (min(start[0], end[0]) - reach, min(start[1], end[1]) - reach)
    high = (max(start[0], end[0]) + reach, max(start[1], end[1]) + reach)
    return Shape(distance, (*low, *high))


def box(center: Point, half_width: float, half_height: float, rounding: float = 0.0) -> Shape:
    def distance(x: Field, y: Field) -> Field:
        u, v = local(x, y, center)
        u = np.abs(u) - np.float32(half_width - rounding)
        v = np.abs(v) - np.float32(half_height - rounding)
        outside = np.sqrt(np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2)
        return outside + np.minimum(np.maximum(u, v), 0) - np.float32(rounding)

    return Shape(distance, _around(center, half_width, half_height))


def convex(points: Sequence[Point], rounding: float = 0.0) -> Shape:
    """Make a convex polygon; corners in clockwise order on the screen."""

    def distance(x: Field, y: Field) -> Field:
        sides = []
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
            length = float(np.hypot(bx - ax, by - ay))
            nx, ny = (by - ay) / length, (ax - bx) / length
            sides.append(
                (x - np.float32(ax)) * np.float32(nx) + (y - np.float32(ay)) * np.float32(ny)
            )
        return reduce(np.maximum, sides) - np.float32(rounding)

    return Shape(distance, _bounds(points, rounding))


def below(height: Callable[[Field], Field], steepness: float = 0.0, top: float = 0.0) -> Shape:
    """Take everything under the curve ``y = height(x)``; ``steepness`` is its typical slope."""
    scale = np.float32(1.0 / np.hypot(1.0, steepness))
    return Shape(lambda x, y: (height(x) - y) * scale, (0.0, top, 1.0, 1.0))


def profile(center_x: float, top: float, bottom: float, width: Callable[[Field], Field]) -> Shape:
    """Make a turned body: half width ``width(v)`` with v from 0 at the top to 1 at the bottom."""

    def distance(x: Field, y: Field) -> Field:
        v = np.clip((y - np.float32(top)) / np.float32(bottom - top), 0, 1)
        side = np.abs(x - np.float32(center_x)) - width(v)
        return np.maximum(side, np.maximum(np.float32(top) - y, y - np.float32(bottom)))

    widest = float(width(np.linspace(0, 1, 33, dtype=np.float32)).max())
    return Shape(distance, (center_x - widest, top, center_x + widest, bottom))


def petals(center: Point, radius: float, count: int, depth: float, turn: float) -> Shape:
    """Make a blossom of ``count`` petals whose notches reach ``depth`` of the radius inward."""

    def distance(x: Field, y: Field) -> Field:
        u, v = local(x, y, center)
        angle = np.arctan2(v, u) - np.float32(turn)
        wave = np.abs(np.cos(angle * np.float32(count / 2)))
        rim = np.float32(radius) * (1 - np.float32(depth) * (1 - np.sqrt(wave)))
        return (np.sqrt(u * u + v * v) - rim) * np.float32(0.8)

    return Shape(distance, _around(center, radius, radius))


def curve(start: Point, bend: Point, end: Point, r0: float, r1: float, pieces: int = 7) -> Shape:
    """Make a limb along a quadratic Bézier curve."""
    points = [bezier(start, bend, end, i / pieces) for i in range(pieces + 1)]
    radii = np.linspace(r0, r1, pieces + 1)
    limbs = [
        capsule(points[i], points[i + 1], float(radii[i]), float(radii[i + 1]))
        for i in range(pieces)
    ]
    return union(*limbs)


def bezier(start: Point, bend: Point, end: Point, t: float) -> Point:
    a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
    return (
        a * start[0] + b * bend[0] + c * end[0],
        a * start[1] + b * bend[1] + c * end[1],
    )


def union(*shapes: Shape) -> Shape:
    boxes = np.array([shape.box for shape in shapes])
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)

    def distance(x: Field, y: Field) -> Field:
        return reduce(np.minimum, (shape.distance(x, y) for shape in shapes))

    return Shape(distance, (float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def common(first: Shape, second: Shape) -> Shape:
    """Intersect two shapes, within the first one's box."""

    def distance(x: Field, y: Field) -> Field:
        return np.maximum(first.distance(x, y), second.distance(x, y))

    return Shape(distance, first.box)


def _around(center: Point, half_width: float, half_height: float) -> tuple[float, ...]:
    return (
        center[0] - half_width,
        center[1] - half_height,
        center[0] + half_width,
        center[1] + half_height,
    )


def _bounds(points: Sequence[Point], margin: float) -> tuple[float, ...]:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return (min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin)
