"""Light, grain and color, which make flat shapes look like things.

Backgrounds take lattice noise, which is fixed to the picture; objects take sums of waves in their
own coordinates, so that texture moves, turns and stretches with the object.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from adaptivedrag.scenes.canvas import Color, Field, Point, Shade
from adaptivedrag.scenes.shapes import local

COLORS: dict[str, Color] = {
    "red": (0.80, 0.16, 0.15),
    "orange": (0.93, 0.52, 0.13),
    "yellow": (0.95, 0.80, 0.22),
    "green": (0.24, 0.56, 0.26),
    "blue": (0.17, 0.38, 0.72),
    "purple": (0.48, 0.27, 0.62),
    "pink": (0.92, 0.50, 0.62),
    "brown": (0.47, 0.30, 0.18),
    "white": (0.92, 0.91, 0.87),
    "grey": (0.52, 0.54, 0.57),
    "black": (0.15, 0.15, 0.18),
}
LIGHT = (-0.45, -0.62, 0.64)


def mix(first: Color, second: Color, share: float) -> Color:
    """Mix ``share`` of ``second`` into ``first``."""
    a, b, c = (p + (q - p) * share for p, q in zip(first, second, strict=True))
    return a, b, c


def tinted(name: str, seed: int) -> Color:
    """Return a named color, a little different in every scene."""
    shift = generator(seed, 11).uniform(-0.05, 0.05, 3)
    r, g, b = (float(np.clip(v + s, 0.03, 0.97)) for v, s in zip(COLORS[name], shift, strict=True))
    return r, g, b


def generator(seed: int, purpose: int) -> np.random.Generator:
    """Return the random numbers of one purpose (clouds, fur, …) in a scene's texture."""
    return np.random.Generator(np.random.Philox(key=(seed, purpose)))


def noise(size: int, seed: int, purpose: int, cells: int, stretch: int = 1) -> Field:
    """Draw smooth noise in about [-1, 1] over the picture: two octaves on random lattices.

    Args:
        cells: lattice cells across the picture.
        stretch: how much longer the grain is along x than along y.
    """
    random = generator(seed, purpose)
    total = np.zeros((size, size), np.float32)
    for octave in (1, 2):
        rows, columns = cells * octave, max(2, cells * octave // stretch)
        lattice = random.uniform(-1, 1, (rows + 3, columns + 3)).astype(np.float32)
        total += _spline(size, rows) @ lattice @ _spline(size, columns).T / np.float32(octave)
    return total


def waves(seed: int, purpose: int, frequency: float, count: int = 4) -> Shade:
    """Return a function of an object's own coordinates: waves in random directions, ±1."""
    random = generator(seed, purpose)
    angles = random.uniform(0, np.pi, count)
    rates = frequency * random.uniform(0.6, 1.6, count)
    phases = random.uniform(0, 2 * np.pi, count).astype(np.float32)
    du = (rates * np.cos(angles)).astype(np.float32)
    dv = (rates * np.sin(angles)).astype(np.float32)

    def value(u: Field, v: Field) -> Field:
        total = np.sin(u * du[0] + v * dv[0] + phases[0])
        for a, b, phase in zip(du[1:], dv[1:], phases[1:], strict=True):
            total = total + np.sin(u * a + v * b + phase + total)
        return total / np.float32(count)

    return value


def ball(
    center: Point,
    rx: float,
    ry: float,
    angle: float = 0.0,
    grain: Shade | None = None,
    depth: float = 0.10,
) -> Shade:
    """Shade an ellipsoid, with grain that is fixed to it (in units of its radii)."""

    def shade(x: Field, y: Field) -> Field:
        u, v = local(x, y, center)
        u, v = u / np.float32(rx), v / np.float32(ry)
        height = np.sqrt(np.maximum(1 - u * u - v * v, 0))
        light = 0.62 + 0.52 * np.maximum(LIGHT[0] * u + LIGHT[1] * v + LIGHT[2] * height, -0.4)
        if grain is not None:
            a, b = local(x, y, center, angle)
            light = light + np.float32(depth) * grain(a / np.float32(rx), b / np.float32(ry))
        return light.astype(np.float32)

    return shade


def pillar(center_x: float, half_width: float, grain: Shade | None = None) -> Shade:
    """Shade an upright cylinder."""

    def shade(x: Field, y: Field) -> Field:
        u = np.clip((x - np.float32(center_x)) / np.float32(half_width), -1, 1)
        light = 0.55 + 0.55 * np.sqrt(1 - u * u * 0.96) - 0.18 * u
        if grain is not None:
            light = light + 0.06 * grain(u, y)
        return light.astype(np.float32)

    return shade


def grained(
    grain: Shade, center: Point = (0.0, 0.0), angle: float = 0.0, depth: float = 0.12
) -> Shade:
    """Shade plainly, with grain in coordinates around ``center``."""

    def shade(x: Field, y: Field) -> Field:
        return (1 + np.float32(depth) * grain(*local(x, y, center, angle))).astype(np.float32)

    return shade


def gradient(y: Field, top: Color, bottom: Color, end: float = 1.0) -> Field:
    """Return a (3, size, 1) field from one color to another, reaching the second at y = ``end``."""
    share = np.clip(y / np.float32(end), 0, 1)
    low = np.array(top, np.float32)[:, None, None]
    return low + (np.array(bottom, np.float32)[:, None, None] - low) * share[None]


@lru_cache(maxsize=64)
def _spline(size: int, cells: int) -> NDArray[np.float32]:
    """Return the B-spline weights of ``cells + 3`` lattice values at ``size`` pixel centers."""
    position = (np.arange(size) + 0.5) / size * cells
    base = np.minimum(position.astype(int), cells - 1)
    t = position - base
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    )
    matrix = np.zeros((size, cells + 3), np.float32)
    for offset in range(4):
        matrix[np.arange(size), base + offset] = weights[offset] / 6 * 1.5
    return matrix
