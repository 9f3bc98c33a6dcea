"""Pictures of results: whose, in which order, and from where."""

from dataclasses import replace
from pathlib import Path

import pytest
import results_pictures
from PIL import Image
from results_pictures import OF_SCENES, PANEL_SIDE, SIDE, chosen, draw
from support.finished_job import finish

from artifacts import ArtifactStore
from flows.evaluation.ablation import write_row_job
from stages.jobs.importers import import_dragscenes
from stages.jobs.reader import load_job

DRAGS = [(0, 0), (0, 1), (5, 0)]  # two moves of two scenes, and a stretch


@pytest.fixture
def dataset(tiny_model_directory, tmp_path) -> Path:
    folder = tmp_path / "scenes"
    import_dragscenes(folder, DRAGS, size=64)
    with (folder / "job.toml").open("a") as file:
        file.write(f'model = "{tiny_model_directory}"\n')
    return folder


def test_the_first_edits_of_each_kind_are_chosen(edit):
    kinds = ("move", "move", "open", "move", "open")
    edits = [replace(edit, id=str(n), tags=("cat", kind)) for n, kind in enumerate(kinds)]
    assert [each.id for each in chosen(edits, 2)] == ["0", "2"]
    assert [each.id for each in chosen(edits, 4)] == ["0", "2", "1", "4"]


def test_one_picture_of_some_edits_or_one_of_each_shows_what_the_store_has(
    dataset, store, tmp_path, monkeypatch
):
    for shade, preset in enumerate(OF_SCENES, start=1):
        for edit in load_job(write_row_job(dataset, preset, {"preset": preset})).edits:
            finish(edit, store, shade=60 * shade)
    monkeypatch.setattr(results_pictures, "PICTURE", tmp_path / "results.png")
    monkeypatch.setattr(results_pictures, "SHOWN", 2)
    draw(dataset, store, None)
    picture = Image.open(tmp_path / "results.png")
    assert picture.width > (2 + len(OF_SCENES)) * SIDE
    assert 2 * SIDE < picture.height < 3 * SIDE
    assert {(60 * n,) * 3 for n in (1, 2, 3)} <= {color for _, color in picture.getcolors(1 << 20)}
    draw(dataset, store, tmp_path / "panels")
    panels = sorted((tmp_path / "panels").iterdir())
    assert [panel.name.partition("-")[0] for panel in panels] == ["move", "move", "stretch"]
    assert Image.open(panels[0]).width > (2 + len(OF_SCENES)) * PANEL_SIDE


def test_results_that_are_missing_are_named(dataset, tmp_path):
    with pytest.raises(SystemExit, match=r"3 results of paste are missing: run .*paste\.toml"):
        draw(dataset, ArtifactStore.open(tmp_path / "none"), tmp_path / "panels")
