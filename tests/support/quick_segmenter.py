"""The shipped segmenter, asked quickly."""

import json
from importlib.resources import files
from pathlib import Path
from shutil import copy

SHIPPED = Path(str(files("adaptivedrag"))) / "pocket" / "segmenter"
AUTOMATIC = {"points_per_side": 1, "pred_iou_thresh": 0.0, "stability_score_thresh": 0}


def write_quick_segmenter(folder: Path) -> Path:
    """Write the shipped weights with settings that ask at one point; return the folder."""
    folder.mkdir(parents=True)
    config = json.loads((SHIPPED / "config.json").read_text("utf-8"))
    text = json.dumps(config | {"automatic": AUTOMATIC})
    (folder / "config.json").write_text(text, "utf-8")
    copy(SHIPPED / "model.safetensors", folder)
    return folder
