"""A long stage that was cut off goes on as if it had not been: the same bytes, on the CPU."""

import pytest
import torch

from adaptivedrag.config import TrainLoraConfig
from adaptivedrag.drag import Hooks
from adaptivedrag.errors import NotFinite
from adaptivedrag.methods import Optimization
from adaptivedrag.model.lora import train_lora
from adaptivedrag.section import LatentScale

STEPS = 12


class Cut(Exception):
    """The end of the process, as far as these tests go."""


def drag(tiny, scenario, **hooks):
    settings = Optimization(steps=STEPS, max_steps=STEPS, learning_rate=0.1)
    settings = settings.fitted_to(LatentScale.of(4, *scenario.frame.latent_size))
    mask = scenario.superpixels.labels < scenario.superpixels.count // 2
    return settings.drag(tiny, scenario.problem(mask=mask), Hooks(**hooks))


@pytest.mark.parametrize("cut", [1, 2, 7])
def test_a_drag_that_was_cut_off_ends_with_the_bytes_of_one_that_was_not(tiny, scenario, cut):
    kept = {}

    def keep(step, state):
        kept.update({name: value.clone() for name, value in state.items()})
        if step == cut:
            raise Cut

    with pytest.raises(Cut):
        drag(tiny, scenario, on_state=keep, state_every=1)
    assert int(kept["step"]) == cut
    passes = tiny.passes.unet_forwards
    resumed = drag(tiny, scenario, resume_from=kept)
    assert tiny.passes.unet_forwards - passes == resumed.steps + 1 - cut
    whole = drag(tiny, scenario)
    assert torch.equal(resumed.latents, whole.latents)
    assert (resumed.tracks == whole.tracks).all()
    assert (resumed.points, resumed.steps) == (whole.points, whole.steps)
    assert resumed.budget == whole.budget
    assert resumed.details == whole.details
    losses = whole.details["losses"]
    assert len(losses) == whole.steps
    assert len(set(losses)) > 1
    del kept["losses"]  # as states of older versions are
    since = drag(tiny, scenario, resume_from=kept).details["losses"]
    assert since == [None] * cut + losses[cut:]


def test_a_drag_that_diverges_hands_over_its_last_good_state(tiny, scenario):
    with pytest.raises(NotFinite) as failure:
        drag(tiny, scenario, resume_from=None, on_step=_spoil(scenario, tiny, after=3))
    assert failure.value.step == 3
    assert failure.value.state["latents"].isfinite().all()
    assert len(failure.value.state["tracks"]) == 4


def _spoil(scenario, tiny, *, after):
    """Make the UNet put out NaN once a number of steps are done."""
    weight = tiny.unet.conv_in.weight
    sound = weight.detach().clone()

    def on_step(step, _budget):
        weight.data.copy_(sound if step < after else sound * torch.nan)

    return on_step


@pytest.fixture(autouse=True)
def _sound_weights(tiny):
    sound = tiny.unet.conv_in.weight.detach().clone()
    yield
    tiny.unet.conv_in.weight.data.copy_(sound)


def test_a_lora_that_was_cut_off_ends_with_the_bytes_of_one_that_was_not(tiny):
    generator = torch.Generator().manual_seed(0)
    posterior = (torch.randn(1, 4, 16, 16, generator=generator), torch.full((1, 4, 16, 16), 0.1))
    conditioning = tiny.encode_prompt("a hill")
    config = TrainLoraConfig(rank=2, steps=7, batch_size=2)
    kept = {}

    def keep(step, state):
        kept.update({name: value.clone() for name, value in state.items()})
        if step == 4:
            raise Cut

    with pytest.raises(Cut):
        train_lora(tiny, posterior, conditioning, config, seed=3, on_state=keep, state_every=2)
    resumed, losses = train_lora(tiny, posterior, conditioning, config, seed=3, resume_from=kept)
    whole, whole_losses = train_lora(tiny, posterior, conditioning, config, seed=3)
    assert losses == whole_losses
    assert resumed.keys() == whole.keys()
    assert all((resumed[name] == whole[name]).all() for name in whole)


def test_a_lora_that_diverges_names_the_step_and_hands_over_the_last_good_state(tiny):
    posterior = (torch.ones(1, 4, 16, 16), torch.full((1, 4, 16, 16), 0.1))
    conditioning = tiny.encode_prompt("a hill")
    config = TrainLoraConfig(rank=2, steps=9, batch_size=1)
    spoiled = {"at": 5}

    def on_step(step, _steps):
        if step == spoiled["at"]:
            tiny.unet.conv_in.weight.data.mul_(torch.nan)

    with pytest.raises(NotFinite, match="step 5: lower train_lora") as failure:
        train_lora(tiny, posterior, conditioning, config, seed=0, on_step=on_step, state_every=2)
    assert failure.value.step == 4
    values = [v for name, v in failure.value.state.items() if name.endswith(".value")]
    assert values
    assert all(value.isfinite().all() for value in values)
