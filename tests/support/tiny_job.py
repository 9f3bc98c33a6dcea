"""Jobs that use a tiny model."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SETTINGS = """
model = {model}
segmenter = {segmenter}
preset = "paper"

[train_lora]
steps = 2
batch_size = 1

[invert_image]
num_steps = 4
inverted_steps = 3

[extract_superpixels]
source = "rgb"

[optimize_latent]
steps = 3
max_steps = 4
"""

DIVERGING = {"optimize_latent": {"learning_rate": 1e30}}
"""Settings that make latents stop being finite."""


def write_job(folder: Path, model: Path, images: int = 1, each: int = 1, **settings: dict) -> Path:
    """Write a job of `images` pictures with `each` edits; settings are by edit id."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.pt").write_bytes(b"never loaded: superpixels are made of colors here")
    draw = np.random.default_rng(0)
    lines = []
    for picture in range(images):
        cells = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((128, 128)).save(folder / f"{picture}.png")
        for number in range(each):
            edit_id = f"edit-{picture}-{number}"
            drag = {"handle": [40 + number, 40], "target": [60, 64]}
            edit = {"id": edit_id, "image": f"{picture}.png", "prompt": "a", "drags": [drag]}
            lines.append(json.dumps(edit | {"settings": settings.get(edit_id, {})}))
    (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
    text = SETTINGS.format(model=json.dumps(str(model)), segmenter='"weights.pt"')
    (folder / "job.toml").write_text(text)
    return folder / "job.toml"
