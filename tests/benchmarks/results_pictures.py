"""Pictures of results beside one another, for edits that are chosen before any result.

    python tests/benchmarks/results_pictures.py hundred --store STORE
    python tests/benchmarks/results_pictures.py hundred --store STORE --panels FOLDER
    python tests/benchmarks/results_pictures.py photographs --store STORE --panels FOLDER

The first writes `docs/images/results.png`, the others a picture for each edit. The datasets are
folders that `adaptivedrag import` wrote; of each kind of drag, or of picture, the first edits are
shown. Results are read from the store, and those that are missing are named.
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from artifacts import ArtifactStore
from flows.evaluation.ablation import write_row_job
from stages.evaluate import source_image, true_result
from stages.images import Pixels
from stages.jobs.edit import Edit
from stages.jobs.reader import load_job
from stages.pipeline import RESULT
from stages.planning.plan import plan_edits
from stages.reports.panel import sheet
from stages.reports.srgb_png import save_png
from stages.reports.tiles import drag_tile

PICTURE = Path("docs/images/results.png")
OF_SCENES, OF_PHOTOGRAPHS = ("paste", "paper", "plus"), ("paste", "plus")
"""Presets whose results are shown."""
SHOWN, PANELS, PHOTOGRAPHS = 9, 27, 12
"""Edits in the picture, and those with a panel of their own: scenes, photographs."""
SIDE, PANEL_SIDE = 160, 384


def chosen(edits: Sequence[Edit], number: int) -> list[Edit]:
    """Return the first edit of each kind, then the second ones, until there are enough."""
    seen = Counter[str]()
    ranks = []
    for edit in edits:
        seen[_kind(edit)] += 1
        ranks.append(seen[_kind(edit)])
    ranked = sorted(zip(ranks, range(len(edits)), strict=True))
    return [edits[place] for _, place in ranked[:number]]


def _kind(edit: Edit) -> str:
    """Return the kind of drag of a scene, or of picture: the last of its tags."""
    return edit.tags[-1] if edit.tags else edit.id


def results(
    dataset: Path, preset: str, edits: Sequence[Edit], store: ArtifactStore
) -> dict[str, Pixels]:
    """Read the results of some edits with a preset, by id.

    Raises:
        SystemExit: if any is missing.
    """
    job = write_row_job(dataset, preset, {"preset": preset})
    names = {edit.id for edit in edits}
    plans = plan_edits([edit for edit in load_job(job).edits if edit.id in names], store)
    if missing := [plan.edit.id for plan in plans if not plan.done]:
        raise SystemExit(f"{len(missing)} results of {preset} are missing: run {job}")
    records = {plan.edit.id: plan.records[RESULT.name] for plan in plans}
    return {name: store.read(record)["image"] for name, record in records.items()}


def tiles(
    edit: Edit, made: dict[str, dict[str, Pixels]], side: int
) -> Iterator[tuple[str, Image.Image]]:
    """Yield the source with its drags, the truth where it is known, and the results."""
    yield _kind(edit), drag_tile(source_image(edit), edit.drags, side)
    if edit.scene:
        yield "truth", drag_tile(true_result(edit.scene, edit.image.width).truth, (), side)
    for preset, pictures in made.items():
        yield preset, drag_tile(pictures[edit.id], (), side)


def draw(dataset: Path, store: ArtifactStore, panels: Path | None) -> None:
    """Write the picture of all edits, or a picture of each into the folder `panels`."""
    edits = load_job(dataset / "job.toml").edits
    scenes = any(edit.scene for edit in edits)
    number = (PANELS if scenes else PHOTOGRAPHS) if panels else SHOWN
    shown = chosen(edits, number)
    presets = OF_SCENES if scenes else OF_PHOTOGRAPHS
    made = {preset: results(dataset, preset, shown, store) for preset in presets}
    if panels is None:
        rows = [tile for edit in shown for tile in tiles(edit, made, SIDE)]
        title = "The first drag of each kind, chosen before any result"
        save_png(sheet(title, "", rows, columns=len(rows) // len(shown)), PICTURE)
        return
    panels.mkdir(parents=True, exist_ok=True)
    for edit in shown:
        row = list(tiles(edit, made, PANEL_SIDE))
        picture = sheet(edit.id, edit.prompt, row, columns=len(row))
        save_png(picture, panels / f"{_kind(edit)}-{edit.id}.png")


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--store", required=True)
    parser.add_argument("--panels", type=Path)
    options = parser.parse_args()
    draw(options.dataset, ArtifactStore.open_to_read(options.store), options.panels)
