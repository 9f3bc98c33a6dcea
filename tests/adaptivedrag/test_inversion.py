"""DDIM inversion of several images at once."""

from dataclasses import replace

import pytest
import torch

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.inversion import invert
from adaptivedrag.model.conditioning import Conditioning

INVERSION = InvertImageConfig(num_steps=8, inverted_steps=5)


@pytest.fixture(scope="module")
def images(scenario):
    return torch.cat([scenario.latents, scenario.latents.flip(-1), 0.5 * scenario.latents])


@pytest.fixture(scope="module")
def prompts(tiny):
    return [tiny.encode_prompt(prompt) for prompt in ("a face", "a dog", "")]


def test_a_batch_gives_each_image_what_it_gets_alone(tiny, images, prompts):
    together = invert(tiny, images, Conditioning.concatenate(prompts), INVERSION)
    alone = torch.cat(
        [
            invert(tiny, latents[None], prompt, INVERSION)
            for latents, prompt in zip(images, prompts, strict=True)
        ]
    )
    assert together.shape == (3, INVERSION.inverted_steps + 1, *images.shape[1:])
    assert (together - alone).abs().max() < 1e-4 * (alone.max() - alone.min())
    assert torch.equal(together[:, 0], images)


def test_prompts_of_a_batch_are_those_of_its_items(tiny, images, prompts):
    same = Conditioning.concatenate([prompts[0]] * 3)
    changed = Conditioning.concatenate([prompts[0], prompts[1], prompts[0]])
    first, second = (invert(tiny, images, seen, INVERSION) for seen in (same, changed))
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert not torch.equal(first[1], second[1])


def test_passes_are_counted_per_item(tiny, images, prompts):
    before = replace(tiny.passes)
    invert(tiny, images, prompts[0], INVERSION)
    assert tiny.passes.since(before)["unet_forwards"] == 3 * INVERSION.inverted_steps
    shares = tiny.passes.shares(before, 2)
    assert [share["unet_forwards"] for share in shares] == [7, 8]


def test_a_batch_with_an_image_that_is_not_finite_is_refused(tiny, images, prompts):
    poisoned = images.clone()
    poisoned[1, 0, 0, 0] = torch.nan
    with pytest.raises(NotFinite, match="not finite after 0 inversion steps"):
        invert(tiny, poisoned, prompts[0], INVERSION)
