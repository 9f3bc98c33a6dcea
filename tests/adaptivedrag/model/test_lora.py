"""LoRA against peft and diffusers."""

import numpy as np
import pytest
import torch

from adaptivedrag.config import TrainLoraConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora import lora_applied, seed_of_draws, train_lora, training_batch
from adaptivedrag.model.memory_ladder import Rung, stepped_down


def predicted(model, scenario):
    with torch.no_grad():
        return model.predict_noise(scenario.latents, 681, scenario.conditioning)


@pytest.fixture(scope="module")
def posterior(scenario):
    return scenario.latents, torch.full_like(scenario.latents, 0.1)


@pytest.fixture(scope="module")
def weights(tiny, scenario, posterior):
    config = TrainLoraConfig(steps=3, learning_rate=1e-2)
    return train_lora(tiny, posterior, scenario.conditioning, config, seed=0)[0]


def test_training_leaves_the_model_as_it_was(tiny, scenario, posterior):
    before = {name: value.clone() for name, value in tiny.unet.state_dict().items()}
    noise = predicted(tiny, scenario)
    train_lora(tiny, posterior, scenario.conditioning, TrainLoraConfig(steps=1), seed=0)
    after = tiny.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert torch.equal(noise, predicted(tiny, scenario))


def test_every_attention_linear_is_adapted(weights):
    assert len(weights) == 2 * 128
    assert all(value.dtype == np.float32 for value in weights.values())


def test_a_batch_in_parts_at_the_lowest_rung_trains_the_same(tiny, scenario, posterior):
    config = TrainLoraConfig(steps=2)
    lowest = Rung(at_once=1, gradient_checkpointing=True)
    whole, losses = train_lora(tiny, posterior, scenario.conditioning, config, seed=0)
    with stepped_down(tiny, lowest):
        parts, again = train_lora(
            tiny, posterior, scenario.conditioning, config, seed=0, at_once=lowest.at_once
        )
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    one, other = (np.concatenate([*map(np.ravel, each.values())]) for each in (whole, parts))
    assert 0 < np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one)


def test_an_untrained_lora_changes_nothing(tiny, scenario, posterior):
    fresh, losses = train_lora(
        tiny, posterior, scenario.conditioning, TrainLoraConfig(steps=0), seed=0
    )
    assert losses == []
    noise = predicted(tiny, scenario)
    with lora_applied(tiny, fresh):
        assert torch.equal(noise, predicted(tiny, scenario))


def test_training_is_repeatable_and_follows_its_seed(tiny, scenario, posterior, weights):
    config = TrainLoraConfig(steps=3, learning_rate=1e-2)
    torch.manual_seed(123)  # global state must not matter
    again = train_lora(tiny, posterior, scenario.conditioning, config, seed=0)[0]
    other = train_lora(tiny, posterior, scenario.conditioning, config, seed=1)[0]
    assert all(np.array_equal(value, again[name]) for name, value in weights.items())
    assert any(not np.array_equal(value, other[name]) for name, value in weights.items())


def test_merging_equals_the_adapter_that_diffusers_loads(
    tiny, scenario, weights, tiny_model_directory, tmp_path
):
    from diffusers import StableDiffusionPipeline
    from safetensors.numpy import save_file

    save_file(dict(weights), tmp_path / "pytorch_lora_weights.safetensors")
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_model_directory, safety_checker=None, feature_extractor=None
    )
    pipeline.load_lora_weights(tmp_path)
    with torch.no_grad():
        theirs = pipeline.unet(scenario.latents, 681, scenario.conditioning.tokens).sample
    plain = predicted(tiny, scenario)
    with lora_applied(tiny, weights):
        ours = predicted(tiny, scenario)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (ours - plain).abs().max() > 1e-3


def test_a_saved_lora_is_one_safetensors_file_that_reads_back_bit_equal(bench, edit, tmp_path):
    from safetensors.numpy import load_file

    record = bench.perform("train_lora", edit)
    found = {
        name: value
        for file in (tmp_path / "store").rglob("*.safetensors")
        for name, value in load_file(file).items()
    }
    kept = bench.store.read(record)["lora"]
    assert len(found) == len(kept) == 2 * 128
    assert all(np.array_equal(value, found[name]) for name, value in kept.items())


def test_merged_weights_are_put_back_exactly_even_after_an_error(tiny, scenario, weights):
    noise = predicted(tiny, scenario)

    def fail_inside():
        with lora_applied(tiny, weights):
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.equal(noise, predicted(tiny, scenario))


def test_training_lowers_the_loss(tiny, scenario, posterior):
    """Against the same draws where nothing is learned: losses differ more from draw to draw."""

    def last_losses(learning_rate):
        config = TrainLoraConfig(steps=12, batch_size=2, learning_rate=learning_rate)
        return train_lora(tiny, posterior, scenario.conditioning, config, seed=0)[1][-4:]

    assert np.mean(last_losses(1e-2)) < 0.98 * np.mean(last_losses(1e-9))


def test_a_lora_of_another_model_is_refused_by_name(tiny):
    foreign = {
        "unet.no.such.to_q.lora_A.weight": np.zeros((4, 8), np.float32),
        "unet.no.such.to_q.lora_B.weight": np.zeros((8, 4), np.float32),
    }
    with pytest.raises(InvalidEdit, match=r"no\.such\.to_q"), lora_applied(tiny, foreign):
        pass


def test_images_do_not_share_their_draws():
    image = np.zeros((8, 8, 3), np.uint8)
    seeds = {
        seed_of_draws(0, image, "a"),
        seed_of_draws(1, image, "a"),
        seed_of_draws(0, image, "b"),
        seed_of_draws(0, image + 1, "a"),
    }
    assert len(seeds) == 4


def test_square_crops_of_a_wide_image_reach_both_ends(tiny):
    columns = torch.arange(48.0).expand(1, 4, 16, 48)
    posterior = columns, torch.zeros_like(columns)
    generator = torch.Generator().manual_seed(3)
    noised, noise, timesteps, windows = training_batch(posterior, tiny, 256, generator)
    assert noised.shape == (256, 4, 16, 16)
    alphas = torch.tensor([tiny.schedule.alpha(int(step)) for step in timesteps])
    alphas = alphas[:, None, None, None]
    clean = (noised - (1 - alphas).sqrt() * noise) / alphas.sqrt()
    first = clean[:, 0, 0, 0].round()
    assert (first.min(), first.max()) == (0, 32)
    assert torch.equal(windows[:, 3], 8 * first)
    assert windows[:, [0, 1, 2, 4, 5]].unique(dim=0).tolist() == [[128, 384, 0, 128, 128]]
