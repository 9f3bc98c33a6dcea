"""Prompts as the UNet is conditioned on them, alone and in batches."""

import pytest
import torch

from adaptivedrag.model.conditioning import Conditioning


def of(*values: float) -> Conditioning:
    """Items of three tokens, with one added condition each."""
    filled = torch.tensor(values, dtype=torch.float32)
    return Conditioning(filled[:, None, None].expand(-1, 3, 2), {"sizes": filled[:, None]})


def test_conditionings_are_concatenated_in_order_with_what_is_added_to_them():
    joined = Conditioning.concatenate([of(1), of(2), of(3)])
    assert len(joined) == 3
    assert joined.tokens[:, 0, 0].tolist() == [1, 2, 3]
    assert joined.added["sizes"].tolist() == [[1], [2], [3]]


def test_one_item_expands_to_a_batch_and_a_batch_stays_as_it_is():
    assert of(5).expand(3).added["sizes"].tolist() == [[5], [5], [5]]
    assert of(5).expand(3).tokens.shape == (3, 3, 2)
    assert of(1, 2).expand(2).added["sizes"].tolist() == [[1], [2]]


def test_items_that_do_not_fit_the_latents_are_refused():
    with pytest.raises(ValueError, match="of 2 items does not fit 3 latents"):
        of(1, 2).expand(3)
    with pytest.raises(ValueError, match="no conditioning"):
        Conditioning.concatenate([])


def test_a_batch_of_prompts_predicts_what_each_prompt_does_alone(tiny, scenario):
    hill, boat = tiny.encode_prompt("a hill"), tiny.encode_prompt("a boat, blue")
    other = scenario.latents.flip(-1)
    with torch.no_grad():
        alone = [
            tiny.predict_noise(latents, 681, conditioning)
            for latents, conditioning in ((scenario.latents, hill), (other, boat))
        ]
        both = tiny.predict_noise(
            torch.cat([scenario.latents, other]), 681, Conditioning.concatenate([hill, boat])
        )
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-4)
    assert (alone[0] - tiny.predict_noise(scenario.latents, 681, boat)).abs().max() > 1e-6


def test_what_an_architecture_adds_reaches_the_unet(tiny, scenario):
    conditioning = tiny.encode_prompt("a hill")
    seen = []
    handle = tiny.unet.register_forward_pre_hook(
        lambda _unet, _inputs, named: seen.append(named["added_cond_kwargs"]), with_kwargs=True
    )
    added = {"time_ids": torch.ones(1, 6)}
    try:
        with torch.no_grad():
            tiny.predict_noise(scenario.latents.expand(2, -1, -1, -1), 681, conditioning)
            tiny.predict_noise(
                scenario.latents.expand(2, -1, -1, -1),
                681,
                Conditioning(conditioning.tokens, added),
            )
    finally:
        handle.remove()
    assert seen[0] is None
    assert seen[1]["time_ids"].tolist() == [[1] * 6] * 2
