"""The memory of an edit with SD 1.5 at 512 px, and the counter that it is read off."""

from pathlib import Path

import pytest
import torch
from benchmarks.memory import (
    META,
    SD_15,
    LiveBytes,
    fused_attention,
    saved_for_backward,
    stages,
    table,
)

PAGE = Path(__file__).parents[3] / "docs" / "memory.md"


def test_living_storages_are_counted_once_and_until_they_are_freed():
    live = LiveBytes()
    with live:
        first = torch.empty(256, device=META)
        view = first[:10].reshape(2, 5)
        second = first + 1
        assert live.now == 2048
        del first
        assert live.now == 2048  # the view keeps it
        del view, second
        assert (live.now, live.peak) == (0, 2048)


def test_weights_count_neither_as_made_nor_as_saved():
    linear = torch.nn.Linear(32, 32, bias=False, device=META).requires_grad_(False)
    states = torch.empty(8, 32, device=META, requires_grad=True)
    live = LiveBytes(linear)
    with live, saved_for_backward(linear) as saved:
        out = linear(states).exp()
    # The product needs only the frozen weight; the exponential keeps its result.
    assert [storage.nbytes() for storage in saved] == [8 * 32 * 4]
    assert live.now == out.nbytes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_holds_no_matrix_of_queries_by_keys(dtype):
    states = torch.empty(1, 8, 4096, 40, device=META, dtype=dtype, requires_grad=True)
    with fused_attention(), LiveBytes() as live:
        torch.nn.functional.scaled_dot_product_attention(states, states, states).sum().backward()
    matrix = 8 * 4096 * 4096 * states.element_size()
    assert live.peak < matrix / 10


@pytest.mark.slow
def test_every_stage_of_an_edit_at_512_px_fits_into_8_gib():
    held = sum(SD_15.weights().values())
    peaks = {usage.stage: usage.peak + held for usage in stages(SD_15)}
    assert max(peaks.values()) <= SD_15.limit, peaks
    assert table(SD_15) in PAGE.read_text("utf-8")
