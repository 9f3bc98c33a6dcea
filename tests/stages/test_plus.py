"""Presets that move content in the picture, through the stages: what they make and cost."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.quick_segmenter import write_quick_segmenter

import adaptivedrag
from adaptivedrag.config import Runtime
from adaptivedrag.presets import PRESETS
from artifacts import ArtifactStore
from stages.images import read_image
from stages.jobs.reader import load_job
from stages.jobs.toml import toml_document
from stages.pipeline import BY_NAME, STAGE_NAMES
from stages.planning.plan import plan_edits
from stages.planning.work import cut_batches, work_for
from stages.reports.panel import CAPTION, COLUMNS, GAP, HEADER, write_panel
from stages.reports.tiles import TILE
from stages.workbench import Workbench, unheard

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"
SIZE = 64
ENCODE, DECODE = 1.39, 3.13
"""Costs of the VAE's passes, in forward passes of the UNet."""

FURTHER, FURTHER_OF_ONE_ROUND = 200, 125
"""What any edit may cost: nothing of one serves the next, so the first costs no more."""

SHORT = {"invert_image": {"num_steps": 4, "inverted_steps": 2}}


@pytest.fixture(scope="module")
def folder(tiny_model_directory, tmp_path_factory) -> Path:
    """A disk before stripes, and a segmenter that is asked at one point, in the disk's middle."""
    folder = tmp_path_factory.mktemp("plus")
    rows, cols = np.indices((SIZE, SIZE))
    image = np.repeat((cols // 4 % 2 * 40 + 100).astype(np.uint8)[..., None], 3, axis=2)
    image[np.hypot(rows - 32, cols - 32) < 9] = (230, 60, 40)
    Image.fromarray(image).save(folder / "disk.png")
    write_quick_segmenter(folder / "segmenter")
    (folder / "model").symlink_to(tiny_model_directory)
    return folder


@pytest.fixture(scope="module")
def one_bench(folder) -> Workbench:
    return Workbench(ArtifactStore.open(folder / "store"), Runtime(threads=1))


def edits(folder, preset, targets=((48, 32),), **settings):
    """Load edits of the disk, one for each target."""
    colors = {"extract_superpixels": {"source": "rgb", "count": 3000}}
    job = {"model": "model", "segmenter": "segmenter", "preset": preset, **colors, **settings}
    lines = [
        {
            "image": "disk.png",
            "id": f"to-{x}-{y}",
            "drags": [{"handle": [32, 32], "target": [x, y]}],
        }
        for x, y in targets
    ]
    (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "job.toml").write_text(toml_document({"edits": "edits.jsonl", **job}))
    return load_job(folder / "job.toml").edits


def perform_all(bench, edit, on_step=unheard):
    (plan,) = plan_edits([edit], bench.store)
    off = {name for name, staged in plan.stages.items() if str(staged.status) == "off"}
    names = [name for name in STAGE_NAMES if name not in off]
    return {name: bench.perform(name, edit, on_step=on_step) for name in names}


def units(records) -> float:
    prices = {"unet_forwards": 1, "vae_encodes": ENCODE, "vae_decodes": DECODE}
    counted = [record.summary for record in records]
    return sum(price * each.get(name, 0) for name, price in prices.items() for each in counted)


@pytest.mark.slow
def test_an_edit_of_plus_costs_at_most_what_it_may(folder, one_bench):
    """At full length; a round more is a pass more at each level, as tests of the painting show."""
    settings = {"sample_image": {"hole_rounds": 1}}
    (edit,) = edits(folder, "plus", **settings)
    made = perform_all(one_bench, edit)
    assert {"train_lora", "invert_image"}.isdisjoint(made)
    of_one_round = units(made.values())
    assert 100 < of_one_round <= FURTHER_OF_ONE_ROUND
    usual = PRESETS["plus"]
    more = usual.sample_image.hole_rounds - 1
    of_all = of_one_round + more * usual.invert_image.inverted_steps
    assert of_all <= FURTHER
    assert f"| **preset `plus`** | **{of_all:.1f}** | **{of_all:.1f}** |" in PAGE.read_text("utf-8")


def test_paste_uses_no_model_and_plus_paints_the_hole_that_it_leaves(folder, one_bench):
    (pasted,), (painted,) = (edits(folder, name, **SHORT) for name in ("paste", "plus"))
    heard = []
    by_paste = perform_all(one_bench, pasted)
    by_plus = perform_all(one_bench, painted, lambda *step: heard.append(step))
    assert by_paste["optimize_latent"].key == by_plus["optimize_latent"].key
    assert by_paste["sample_image"].summary == {"warnings": []}
    moved = one_bench.store.read(by_paste["optimize_latent"])
    image = one_bench.store.read(by_paste["sample_image"])["image"]
    assert np.array_equal(image, moved["picture"])
    assert by_plus["sample_image"].summary["unet_forwards"] == 2 + 2 * (1 + 3)
    assert heard == [(1, 10), (2, 10), (6, 10), (10, 10)]
    assert by_plus["sample_image"].summary["holes"]


def test_moved_pictures_are_painted_together_and_finished_alone_without_a_model(folder, one_bench):
    for preset, sizes in (("paste", [1, 1]), ("plus", [2])):
        two = edits(folder, preset, ((48, 32), (16, 32)), **SHORT)
        alone = {edit.id: perform_all(one_bench, edit)["sample_image"] for edit in two}
        items, _ = work_for(BY_NAME["sample_image"], plan_edits(two, one_bench.store), force=True)
        batches = list(cut_batches(items, lambda _item: 4))
        assert [len(batch) for batch in batches] == sizes
    (batch,) = batches
    for item, record in zip(batch, one_bench.make(batch, force=True), strict=True):
        before = alone[item.edit.id]
        pictures = [one_bench.store.read(each)["image"].astype(int) for each in (record, before)]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
        assert record.key == before.key
        assert record.summary["unet_forwards"] == before.summary["unet_forwards"]


def test_a_panel_shows_the_moved_picture_before_the_result(folder, one_bench, tmp_path):
    (edit,) = edits(folder, "paste", **SHORT)
    perform_all(one_bench, edit)
    panel = Image.open(write_panel(edit, one_bench.store, tmp_path / "panel.png"))

    def tile(number: int) -> np.ndarray:
        left = GAP + number % COLUMNS * (TILE + GAP)
        top = HEADER + number // COLUMNS * (TILE + CAPTION + GAP) + CAPTION
        return np.asarray(panel.crop((left, top, left + TILE, top + TILE - 2)))

    _, _, _, _, paths, moved, result = map(tile, range(7))
    assert np.array_equal(moved, result)
    assert not np.array_equal(moved, paths)


def test_an_edit_in_memory_has_the_bytes_of_the_stages(folder, one_bench):
    (edit,) = edits(folder, "plus", **SHORT)
    made = perform_all(one_bench, edit)
    result = adaptivedrag.edit(
        read_image(edit.image_path),
        edit.drags,
        model=edit.model,
        segmenter=edit.segmenter,
        config=edit.config,
        lora="off",
    )
    assert np.array_equal(result.image, one_bench.store.read(made["sample_image"])["image"])
    assert np.array_equal(
        result.drag.pasted.hole, one_bench.store.read(made["optimize_latent"])["hole"]
    )


def test_what_no_model_makes_gets_no_lora_in_memory_either(folder):
    (edit,) = edits(folder, "paste", train_lora={"steps": 1, "batch_size": 1})
    result = adaptivedrag.edit(
        read_image(edit.image_path),
        edit.drags,
        model=edit.model,
        segmenter=edit.segmenter,
        config=edit.config,
        lora="train",
    )
    assert result.lora_losses == ()


def test_a_composite_keeps_the_image_outside_the_mask_of_an_optimization(folder, one_bench):
    drag = {"optimize_latent": {"steps": 1, "max_steps": 1}, "lora": "off"}
    plain, composited = (
        edits(folder, "paper", **SHORT, **drag, sample_image={"composite": on})[0]
        for on in (False, True)
    )
    image = read_image(plain.image_path)
    records = [perform_all(one_bench, edit) for edit in (plain, composited)]
    free, kept = (one_bench.store.read(each["sample_image"])["image"] for each in records)
    outside = one_bench.store.read(records[0]["build_mask"])["picture"] == 0
    far = np.zeros_like(outside)
    far[:8] = outside[:8]
    assert far.any()
    assert np.array_equal(kept[far], image[far])
    assert not np.array_equal(free[far], image[far])
