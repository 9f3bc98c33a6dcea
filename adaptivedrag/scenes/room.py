"""The room of plants and still lifes: a wall and a table."""

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Field, Shape
from adaptivedrag.scenes.textures import COLORS, generator, mix, noise, tinted


def paint_room(canvas: Canvas, seed: int, wall: str, table: float) -> None:
    """Paint a papered wall lit from one side, and the top of a wooden table below ``table``."""
    random = generator(seed, 21)
    paper = mix(tinted(wall, seed), (0.9, 0.88, 0.84), 0.45)
    stripes, phase = random.integers(5, 12), random.uniform(0, 6)
    pattern = np.tanh(4 * np.sin(canvas.x * np.float32(stripes * 6.28) + np.float32(phase)))
    light = 1.02 - 0.22 * canvas.x - 0.10 * canvas.y
    light = light + 0.035 * float(random.integers(0, 2)) * pattern
    light = light + 0.05 * noise(canvas.size, seed, 22, 4)
    canvas.fill(np.array(paper, np.float32)[:, None, None] * light[None].astype(np.float32))
    wood = mix(COLORS["brown"], (0.85, 0.62, 0.40), float(random.uniform(0.15, 0.75)))
    grain = noise(canvas.size, seed, 23, 44, 9)

    def planks(x: Field, y: Field) -> Field:
        rows = slice(canvas.size - y.shape[0], None)
        near = (y - np.float32(table)) / np.float32(1 - table)
        return (0.82 + 0.22 * near + 0.10 * grain[rows] - 0.10 * x).astype(np.float32)

    top = Shape(lambda x, y: np.float32(table) - y + 0 * x, (0.0, table, 1.0, 1.0))
    canvas.paint(top, wood, "table", planks)
    edge = Shape(
        lambda x, y: np.abs(y - np.float32(table)) - 0.004 + 0 * x,
        (0.0, table - 0.01, 1.0, table + 0.01),
    )
    canvas.paint(edge, mix(wood, (0, 0, 0), 0.5), "table", opacity=0.6)
