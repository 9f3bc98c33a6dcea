"""Eight edits of one image in a batch, with the pocket model: fewer passes, the same pixels."""

import torch
from batches import compare, table

from adaptivedrag.config import InvertImageConfig


def test_a_batch_of_eight_edits_takes_fewer_passes_and_gives_the_same_pixels():
    torch.set_num_threads(1)
    inversions, samples = compare(64, InvertImageConfig(num_steps=10, inverted_steps=7))
    shown = table([inversions, samples])
    assert inversions.items == (56, 56), shown
    assert samples.items == (63, 112), shown
    assert samples.items[0] / samples.items[1] <= 5 / 8
    for found in (inversions, samples):
        assert max(found.latents, found.pixels) < 1e-4, shown
        assert found.levels < 1e-4 * found.values, shown
