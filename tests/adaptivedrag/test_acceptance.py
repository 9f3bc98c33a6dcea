"""Checks of the method that span modules: the loop's budget, whole edits of any image, the cost.

`docs/fidelity.md` says which test shows which of the method's acceptance checks.
"""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptivedrag
from adaptivedrag.config import EditConfig
from adaptivedrag.drag import Hooks
from adaptivedrag.methods import Optimization
from adaptivedrag.point_tracking import Track
from adaptivedrag.points import Drag, FeaturePoint, Frame, ImagePoint, lies_inside
from adaptivedrag.presets import PRESETS
from adaptivedrag.semantic_region import AREA_SHARE, RegionMap
from adaptivedrag.superpixels import Superpixels
from stages.pipeline import RESULT, STAGE_NAMES

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

# One unit is one forward pass of Stable Diffusion 1.5's UNet on one item at 64×64 latents; the
# other factors are ratios of multiplications at 512 px, weights frozen or LoRA alone trained.
BACKWARD, ENCODE, DECODE = 1.1, 1.39, 3.13
FIRST_EDIT, FURTHER_EDIT = 955, 245
DRAG_STEPS = 80


# --- superpixels and regions


def test_a_superpixel_is_looked_up_by_row_and_column_of_the_feature_grid():
    """No transposition, no second scale: a wide grid whose halves differ in every way."""
    labels = np.zeros((16, 40), np.int32)
    labels[:, 8:] = 1
    labels[8:, 8:] = 2
    frame = Frame.of_image(32, 80, factor=8, working_size=768)
    regions = RegionMap.of(Superpixels(labels), CPU)
    points = {ImagePoint(5, 25): 0, ImagePoint(70, 5): 1, ImagePoint(79, 31): 2}
    cells = torch.tensor([frame.to_cell(point) for point in points])
    assert regions.label_at(cells).tolist() == list(points.values())


@pytest.mark.parametrize(("ahead", "is_region"), [(4, True), (3, False)])
def test_a_superpixel_is_used_up_below_a_quarter_of_the_mean_area_ahead(ahead, is_region):
    """Cells of 16×16: `ahead` columns of the handle's own one lie in the drag's direction."""
    cell = 16
    rows, cols = np.indices((64, 64)) // cell
    regions = RegionMap.of(Superpixels((rows * 4 + cols).astype(np.int32)), CPU)
    assert regions.smallest_area == cell * cell / AREA_SHARE
    handles = torch.tensor([[24, 32 - ahead]])
    cells = torch.cartesian_prod(torch.arange(64), torch.arange(64))[None]
    inside = regions.contains(
        cells, handles, torch.tensor([[24.0, 60.0]]), torch.tensor([6]), handles
    )[0]
    found = cells[0][inside]
    assert (found[:, 1].max() == 31) == is_region


@given(
    handle=st.tuples(st.integers(0, 31), st.integers(0, 31)),
    target=st.tuples(st.floats(-4, 36, width=32), st.floats(-4, 36, width=32)),
    anchor=st.tuples(st.integers(0, 31), st.integers(0, 31)),
    radius=st.integers(1, 8),
)
@settings(max_examples=60, deadline=None)
def test_a_region_is_never_empty(handle, target, anchor, radius):
    labels = np.random.default_rng(1).integers(0, 6, (32, 32)).astype(np.int32)
    handles = torch.tensor([handle])
    cells = torch.cartesian_prod(torch.arange(32), torch.arange(32))[None]
    inside = RegionMap.of(Superpixels(labels), CPU).contains(
        cells, handles, torch.tensor([target]), torch.tensor([radius]), torch.tensor([anchor])
    )
    assert inside.any()


# --- the loop under trackers whose answers are known


STEPS = 8
BUDGET = 20


@pytest.fixture
def dragged(tiny, scenario, monkeypatch):
    """Run the real loop with a tracker that moves every handle by a number of columns each time."""
    handle = scenario.frame.to_image(FeaturePoint(20, 10))
    target = scenario.frame.to_image(FeaturePoint(20, 10 + 2 * STEPS))
    settings = Optimization(
        steps=STEPS, max_steps=BUDGET, stop_distance=0.5, skip_distance=0.5, patience=99
    )

    def run(columns, **changes):
        def moved(_features, _initial, handles, *_rest):
            cells = handles + torch.tensor([0, columns])
            return Track(cells, torch.zeros(len(handles)))

        monkeypatch.setattr("adaptivedrag.handle_motion.track_points", moved)
        problem = scenario.problem(drags=[Drag(handle, target)])
        return settings.replaced(**changes).drag(tiny, problem, Hooks())

    return run


def test_a_handle_that_moves_the_ideal_distance_each_time_ends_at_the_users_steps(dragged):
    result = dragged(2)
    assert (result.steps, result.budget) == (STEPS, STEPS)
    assert result.verdict == "reached"
    np.testing.assert_array_equal(result.tracks[:, 0, 1], np.arange(10, 27, 2))


def test_a_handle_that_never_moves_ends_at_the_maximum_or_by_the_stuck_guard(dragged):
    to_the_maximum, guarded = dragged(0), dragged(0, patience=5)
    assert (to_the_maximum.steps, to_the_maximum.budget) == (BUDGET, BUDGET)
    assert (guarded.steps, guarded.budget) == (5, STEPS + 5)
    assert to_the_maximum.verdict == guarded.verdict == "stalled"


def test_a_handle_tracked_backwards_stays_and_lengthens_the_budget(dragged):
    result = dragged(-1)
    assert (result.tracks == result.tracks[0]).all()
    assert result.budget == BUDGET
    assert dragged(-1, backtracking=False).budget == STEPS
    assert dragged(-1, backtracking=False).tracks[-1, 0, 1] < result.tracks[0, 0, 1]


# --- whole edits


QUICK = EditConfig().merged(
    {
        "working_size": 512,
        "train_lora": {"steps": 1, "batch_size": 1},
        "invert_image": {"num_steps": 8, "inverted_steps": 2},
        "extract_superpixels": {"source": "rgb"},
        "optimize_latent": {"steps": 2, "max_steps": 2, "learning_rate": 0.1},
    }
)


def photograph(height, width):
    from skimage.data import astronaut

    return np.ascontiguousarray(np.resize(astronaut(), (512, 512, 3))[:height, :width])


def ten_drags(width, height):
    across, down = width / 12, height / 12
    return [((k * across, k * down), ((k + 2) * across - 1, k * down)) for k in range(1, 11)]


CASES = {
    "512x341, one drag into each border": (
        (341, 512),
        [((20, 30), (0, 30)), ((480, 300), (511, 340)), ((200, 20), (210, 0))],
    ),
    "341x512, ten drags": ((512, 341), ten_drags(341, 512)),
    "101x67, handles on the last row and column": (
        (67, 101),
        [((100, 66), (80, 50)), ((100, 10), (90, 20)), ((10, 66), (20, 60))],
    ),
    "130x94, one drag": ((94, 130), [((60, 40), (80, 45))]),
    "96x96, overlapping handles with one target": (
        (96, 96),
        [((40, 40), (60, 40)), ((40, 40), (60, 40)), ((41, 40), (60, 40))],
    ),
    "96x96, a drag of no length beside another": (
        (96, 96),
        [((40, 40), (40, 40)), ((70, 70), (50, 80))],
    ),
}


@pytest.mark.parametrize(("size", "drags"), CASES.values(), ids=CASES)
def test_an_image_of_any_size_is_edited_and_keeps_it(tiny_model_directory, size, drags):
    image, given_drags = photograph(*size), [tuple(drag) for drag in drags]
    before = image.copy()
    result = adaptivedrag.edit(
        image, drags, prompt="a face", model=str(tiny_model_directory), config=QUICK
    )
    assert result.image.shape == image.shape
    assert result.mask.shape == image.shape[:2]
    assert result.drag.latents.isfinite().all()
    assert np.array_equal(image, before)
    assert drags == given_drags
    for report, (handle, target) in zip(result.drag.points, drags, strict=True):
        assert (report.handle, report.target) == (handle, target)
        assert (report.verdict == "no-op") == (handle == target)
        assert lies_inside(report.end, size[1], size[0])


def test_an_image_larger_than_the_working_size_comes_back_at_its_own(tiny_model_directory):
    image = photograph(300, 500)
    config = QUICK.merged({"working_size": 128})
    drags = [((499, 299), (400, 200))]
    result = adaptivedrag.edit(image, drags, model=str(tiny_model_directory), config=config)
    assert result.image.shape == image.shape
    rows, cols = result.drag.latents.shape[-2:]
    assert 64 * rows * cols <= 1.5 * 128**2  # padded to the stride of the UNet
    assert result.mask[299, 499]


def test_lists_of_points_are_not_changed_by_an_edit(tiny_model_directory):
    drags = [[[40.0, 40.0], [60.0, 50.0]], [[20.0, 70.0], [30.0, 60.0]]]
    before = [[list(point) for point in drag] for drag in drags]
    adaptivedrag.edit(photograph(96, 96), drags, model=str(tiny_model_directory), config=QUICK)
    assert drags == before


# --- cost


@pytest.fixture
def full_length(changed, tmp_path):
    """The edit on the smallest image, with every number of steps as the presets have it."""
    from PIL import Image

    from artifacts import StatCache
    from stages.jobs.image_files import inspect_image

    path = tmp_path / "small.png"
    Image.fromarray(photograph(64, 64)).save(path)
    image = inspect_image(path, StatCache(tmp_path / "cache.sqlite"))

    def edit(preset, handle=(10, 10)):
        config = PRESETS[preset].merged(
            {
                "extract_superpixels": {"source": "rgb"},
                "optimize_latent": {
                    "steps": DRAG_STEPS,
                    "max_steps": DRAG_STEPS,
                    "stop_distance": 0.01,  # never arrives, so that all steps are taken
                    "patience": 10 * DRAG_STEPS,
                },
            }
        )
        config = config.merged({"build_mask": {"mode": "superpixel_line"}})  # there is no mask file
        drag = Drag(ImagePoint(*handle), ImagePoint(50, 50))
        return replace(changed(), image_path=path, image=image, drags=(drag,), config=config)

    return edit


def units(record):
    """Units of what a stage's summary counts; build_mask and superpixels need no pass."""
    prices = {"unet_forwards": 1, "unet_backwards": BACKWARD}
    prices |= {"vae_encodes": ENCODE, "vae_decodes": DECODE}
    return sum(price * record.summary.get(name, 0) for name, price in prices.items())


@pytest.mark.slow
def test_edits_cost_at_most_what_the_method_allows(bench, full_length):
    """Full-length settings: LoRA 80×4, 35 steps of inversion and sampling, 80 drag steps."""
    records = {}

    def cost(edit):
        """Units of what is made for an edit that was not there before."""
        spent = 0.0
        for name in STAGE_NAMES[: STAGE_NAMES.index(RESULT.name) + 1]:  # the witness measures
            record = bench.perform(name, edit)
            if (name, record.key) not in records:
                records[name, record.key] = record
                spent += units(record)
        return spent

    first = cost(full_length("paper"))
    shared = sum(
        units(record)
        for (name, _), record in records.items()
        if name in ("train_lora", "invert_image")
    )
    assert shared == pytest.approx(320 + 352 + 35 + 2 * ENCODE)
    further = cost(full_length("paper", handle=(20, 12)))
    baseline = cost(full_length("dragdiffusion"))  # LoRA and inversion are those of `paper`
    steps = [r.summary["steps"] for (name, _), r in records.items() if name == "optimize_latent"]
    assert steps == [DRAG_STEPS] * 3
    drag_and_sampling = 81 + 80 * BACKWARD + 2 * 35 + DECODE
    assert first == pytest.approx(shared + drag_and_sampling)
    assert further == baseline == pytest.approx(drag_and_sampling)
    assert first <= FIRST_EDIT
    assert further <= FURTHER_EDIT
    assert baseline + shared <= FIRST_EDIT


# --- the documentation


def functions_of(path):
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_fidelity_page_names_exists():
    page = (ROOT / "docs" / "fidelity.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 40
    missing = [f"{file}::{name}" for file, name in named if name not in functions_of(ROOT / file)]
    assert not missing


def test_the_fidelity_page_has_a_row_for_every_claim_and_every_check():
    page = (ROOT / "docs" / "fidelity.md").read_text("utf-8")
    rows = re.findall(r"^\| (C?\d+) \|", page, re.MULTILINE)
    assert rows == [*(f"C{number}" for number in range(1, 33)), *map(str, range(1, 19))]
