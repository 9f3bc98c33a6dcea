"""The README's picture: the panel of the demo's middle edit.

    python tests/benchmarks/demo_picture.py results/demo docs/images/demo.png

takes the folder that `adaptivedrag demo` filled. Edits are ranked by how much of the true result
they recover over the whole picture; of two in the middle, it is the worse one.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from adaptivedrag.metrics import recovery
from stages.images import read_image
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job


def ranked(demo: Path) -> list[str]:
    """Return the ids of the demo's edits, the best first."""
    edits = load_job(demo / "inputs" / "demo.toml").edits
    shares = {edit.id: _recovered(demo, edit) for edit in edits}
    return sorted(shares, key=lambda name: -shares[name])


def _recovered(demo: Path, edit: Edit) -> float:
    before = read_image(edit.image_path)
    truth = read_image(demo / "inputs" / "truth" / f"{edit.id}.png")
    result = read_image(demo / "images" / f"{edit.id}.png")
    share = recovery(before, truth, result, np.ones(before.shape[:2], bool)).share
    assert share is not None
    return share


def main(demo: Path, picture: Path) -> None:
    """Copy the panel of the middle edit."""
    names = ranked(demo)
    shutil.copyfile(demo / "panels" / f"{names[len(names) // 2]}.png", picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
