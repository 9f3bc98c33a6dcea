"""Are pixels what they were? Make edits of the benchmark and the demo again, and compare digests.

    OMP_NUM_THREADS=1 python tests/benchmarks/pixels.py FOLDER         # 1 if one differs
    OMP_NUM_THREADS=1 python tests/benchmarks/pixels.py FOLDER --note  # note today's digests

Twenty edits of the hundred with `plus`, eight of them with each other preset, and the six of the
demo, one by one on one thread: about a quarter of an hour. Results are kept in FOLDER, so that a
run which was cut off goes on. `pixels.json` has digests that were made on x86-64; another processor
may round otherwise, and then differs in many rows by little. A stage whose numbers change on
purpose gets a new version, and its digests are noted again.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from artifacts import digest_pixels
from flows.request import RunRequest
from flows.run_job import run
from stages.jobs.demo import write_demo
from stages.jobs.importers import dragscenes, import_dragscenes
from stages.jobs.selection import Selection

NOTED = Path(__file__).with_name("pixels.json")
SELECTED = {
    "plus": "scene-00[0-4]-*",
    "paper": "scene-00[0-4]-[03]-*",
    "released": "scene-00[0-4]-[03]-*",
    "dragdiffusion": "scene-00[0-4]-[03]-*",
}


def jobs(folder: Path) -> dict[str, tuple[Path, Selection]]:
    """Write the jobs; return each with the edits that are selected, by name."""
    found: dict[str, tuple[Path, Selection]] = {}
    dataset = folder / "hundred"
    if not (dataset / "job.toml").is_file():
        import_dragscenes(dataset, dragscenes(100, 25))
    settings = (dataset / "job.toml").read_text("utf-8")
    for preset, selected in SELECTED.items():
        path = dataset / f"{preset}.toml"
        path.write_text(f'preset = "{preset}"\n{settings}', "utf-8")
        found[preset] = path, [selected]
    found["demo"] = write_demo(folder / "demo").path, []
    return found


def pictures(folder: Path, name: str, path: Path, selected: Selection) -> dict[str, str]:
    """Make the pictures of a job; return the digest of each by the id of its edit."""
    out = folder / "results" / name
    request = RunRequest(out=str(out))
    summary = run(path, folder / "store", request, select=selected, console=Console())
    if summary.exit_code:
        sys.exit(f"{name}: {summary}")
    files = sorted((out / "images").glob("*.png"))
    return {file.stem: digest_pixels(np.asarray(Image.open(file))) for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--note", action="store_true", help="note the digests instead")
    asked = parser.parse_args()
    found = {name: pictures(asked.folder, name, *job) for name, job in jobs(asked.folder).items()}
    if asked.note:
        NOTED.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        return
    noted = json.loads(NOTED.read_text("utf-8"))
    differing = 0
    for name, digests in noted.items():
        other = [edit for edit in digests if found[name].get(edit) != digests[edit]]
        differing += len(other)
        equal = len(digests) - len(other)
        Console().print(f"{name}: {equal} of {len(digests)} equal", *other)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
