"""The README shows the demo's middle edit, neither its best nor its worst."""

import numpy as np
from demo_picture import main, ranked
from PIL import Image

from stages.images import read_image
from stages.jobs.demo import write_demo
from stages.jobs.reader import load_job


def test_the_middle_edit_is_shown(tmp_path):
    job = write_demo(tmp_path / "inputs")
    (tmp_path / "panels").mkdir()
    (tmp_path / "images").mkdir()
    edits = load_job(job.path).edits
    for number, edit in enumerate(edits):
        before, truth = (read_image(path) for path in (edit.image_path, job.truths[edit.id]))
        share = (number * 5 % 6) / 6  # of the way to the truth
        mixed = (before + share * (truth.astype(float) - before)).round().astype(np.uint8)
        Image.fromarray(mixed).save(tmp_path / "images" / f"{edit.id}.png")
        (tmp_path / "panels" / f"{edit.id}.png").write_text(edit.id)
    names = [edit.id for edit in edits]
    main(tmp_path, tmp_path / "shown.png")
    best_first = sorted(range(6), key=lambda number: -(number * 5 % 6))
    assert ranked(tmp_path) == [names[number] for number in best_first]
    assert (tmp_path / "shown.png").read_text() == names[best_first[3]]
