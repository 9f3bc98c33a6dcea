"""Sky and meadow behind animals and vehicles."""

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Field, Shape
from adaptivedrag.scenes.textures import generator, gradient, mix, noise, waves


def paint_meadow(canvas: Canvas, seed: int, horizon: float) -> None:
    """Paint a clouded sky, a distant wood and grass."""
    paint_sky(canvas, seed, horizon)
    tops, crowns = waves(seed, 42, 9.0, 4), waves(seed, 43, 46.0, 5)

    def wood(x: Field, y: Field) -> Field:
        return (0.85 + 0.22 * crowns(x, y * 1.5)).astype(np.float32)

    far = Shape(
        lambda x, y: (
            np.float32(horizon - 0.055) + 0.022 * tops(x, x * 0) + 0.008 * crowns(x, x * 0) - y
        ),
        (0.0, horizon - 0.12, 1.0, horizon + 0.02),
    )
    canvas.paint(far, (0.24, 0.38, 0.27), "wood", wood)
    patches, blades = noise(canvas.size, seed, 44, 6, 2), waves(seed, 45, 70.0, 6)

    def grass(x: Field, y: Field) -> Field:
        rows = slice(canvas.size - y.shape[0], None)
        near = (y - np.float32(horizon)) / np.float32(1 - horizon)
        return (0.78 + 0.24 * near + 0.12 * patches[rows] + 0.11 * blades(x * 1.3, y)).astype(
            np.float32
        )

    land = Shape(lambda x, y: np.float32(horizon) - y + 0 * x, (0.0, horizon, 1.0, 1.0))
    tint = float(generator(seed, 46).uniform(0, 0.35))
    canvas.paint(land, mix((0.38, 0.58, 0.24), (0.66, 0.62, 0.30), tint), "meadow", grass)


def paint_sky(canvas: Canvas, seed: int, horizon: float) -> None:
    """Paint a blue or rosy sky with soft clouds."""
    rosy = float(generator(seed, 40).uniform(0, 0.8))
    high, low = (
        mix((0.30, 0.55, 0.85), (0.55, 0.50, 0.72), rosy),
        mix((0.80, 0.90, 0.95), (0.98, 0.84, 0.74), rosy),
    )
    canvas.fill(gradient(canvas.y, high, low, horizon))
    clouds = np.clip(noise(canvas.size, seed, 41, 5, 2) * 1.3 - 0.2, 0, 0.8)
    canvas.colors += clouds[None] * (np.float32(0.97) - canvas.colors)
