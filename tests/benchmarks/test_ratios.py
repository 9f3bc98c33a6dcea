"""Speed as ratios of CPU time within one run, which neighbors on the machine hardly change."""

import time
from collections.abc import Callable

import torch
from results_index import write

from adaptivedrag.features import sample_features, window
from adaptivedrag.metrics import find_true_end
from adaptivedrag.scenes import benchmark_scene, drags, render
from stages.pipeline import STAGE_NAMES
from stages.planning.plan import plan_edits


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the CPU time of the shortest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def test_a_page_of_rows_costs_as_much_per_row_however_many_there_are(tmp_path):
    few, many = (
        min(write(tmp_path / str(number), number) for _ in range(3)) for number in (300, 1200)
    )
    assert many / few < 6, f"300 rows {few:.4f} s, 1200 rows {many:.4f} s"


def test_sampling_windows_is_much_cheaper_than_interpolating_the_whole_map():
    features = torch.randn(640, 64, 64)
    cells = window(torch.tensor([[100, 100]]), 12).float()
    whole = seconds(
        lambda: torch.nn.functional.interpolate(features[None], scale_factor=4, mode="bilinear")
    )
    part = seconds(lambda: sample_features(features, cells))
    assert whole / part > 5, f"whole map {whole:.4f} s, window {part:.4f} s"


def test_a_hit_costs_a_small_part_of_making_it(bench, store, edit):
    start = time.process_time()
    for name in STAGE_NAMES:
        bench.perform(name, edit)
    made = time.process_time() - start
    found = seconds(lambda: [bench.perform(name, edit) for name in STAGE_NAMES])
    assert made / found > 5, f"made in {made:.3f} s, found in {found:.3f} s"


def test_planning_many_edits_costs_less_than_making_one(bench, store, changed):
    start = time.process_time()
    for name in STAGE_NAMES:
        bench.perform(name, changed())
    made = time.process_time() - start
    edits = [changed(id=f"e{index}") for index in range(100)]
    planned = seconds(lambda: plan_edits(edits, store), repeats=3)
    assert planned < made, f"planned 100 edits in {planned:.3f} s, made one in {made:.3f} s"


def test_a_second_picture_of_a_drag_is_compared_with_the_renders_of_the_first():
    drag = drags(benchmark_scene(5))[0]
    before, after = (render(scene, 512).image for scene in (drag.before, drag.after))
    first = seconds(lambda: find_true_end(drag, before), repeats=1)
    find_true_end(drag, after)
    second = seconds(lambda: find_true_end(drag, after))
    assert first / second > 2, f"the first {first:.3f} s, another {second:.3f} s"
