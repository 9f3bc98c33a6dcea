"""A small rerun with models that are not loaded: `sample_image` of one edit on the pocket model.

`plus` on a scene of 128 px. Beside it, how long a process takes to import torch and diffusers.
"""

import subprocess
import sys
from collections.abc import Iterator

from loopback import Place, place
from support.report import Row, Stopwatch

from stages.jobs.importers import import_dragscenes

ASKED = 12.0
IMPORTS = "import torch; from diffusers import AutoencoderKL, UNet2DConditionModel"


def rows(_seed: int) -> Iterator[Row]:
    clock = Stopwatch()
    with place() as at:
        seconds, imports = rerun(at), importing()
    yield Row(
        "one small rerun, models cold",
        f"under {ASKED:.0f} s",
        f"{seconds:.1f} s",
        seconds < ASKED,
        clock.seconds,
        f"`run --only sample_image --force`; importing torch and diffusers takes {imports:.1f} s.",
    )


def rerun(at: Place) -> float:
    """Do an edit, and its sampling once more; return the seconds of that."""
    import_dragscenes(at.folder / "scenes", [(5, 0)], size=128)
    job = at.folder / "scenes" / "job.toml"
    job.write_text(f'preset = "plus"\n{job.read_text()}')
    keep = ["--store", at.folder / "store", "--out", at.folder / "out"]
    at.call("run", job, *keep)
    clock = Stopwatch()
    at.call("run", job, *keep, "--only", "sample_image", "--force")
    return clock.seconds


def importing() -> float:
    clock = Stopwatch()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return clock.seconds
