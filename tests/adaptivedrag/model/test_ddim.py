"""DDIM against diffusers and against the paper's numbers."""

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.inversion import invert
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.ddim import Schedule
from adaptivedrag.model.diffusion import DiffusionModel

CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule.from_config(CONFIG)


def test_fifty_steps_go_from_981_to_1_and_the_35th_is_681(schedule):
    assert schedule.timesteps(50) == list(range(981, 0, -20))
    assert schedule.start(50, 35) == 681
    assert schedule.start(50, 40) == 781


@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [10, 25, 50])
def test_alphas_timesteps_and_moves_are_those_of_diffusers(steps, predicted):
    config = {**CONFIG, "prediction_type": predicted}
    schedule = Schedule.from_config(config)
    theirs = DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=False)
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == schedule.timesteps(steps)
    ours = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs.alphas_cumprod.double(), rtol=1e-5, atol=1e-7)
    theirs.alphas_cumprod = ours
    theirs.final_alpha_cumprod = ours[0]
    generator = torch.Generator().manual_seed(0)
    latents, prediction = (
        torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    for timestep in schedule.timesteps(steps):
        noise = schedule.noise(prediction, latents, timestep, timestep)
        moved = schedule.move(latents, noise, timestep, schedule.previous(timestep, steps))
        expected = theirs.step(prediction, timestep, latents).prev_sample
        torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)


def test_inversion_moves_are_those_of_diffusers_inverse_scheduler(schedule):
    theirs = DDIMInverseScheduler(**CONFIG, clip_sample=False, set_alpha_to_one=False)
    theirs.set_timesteps(50)
    latents = torch.full((1, 1, 2, 2), 0.7, dtype=torch.float64)
    noise = torch.full((1, 1, 2, 2), -0.3, dtype=torch.float64)
    moved = schedule.move(latents, noise, 661, 681)
    alphas = torch.tensor(schedule.alphas_cumprod)
    clean = (latents - (1 - alphas[661]).sqrt() * noise) / alphas[661].sqrt()
    torch.testing.assert_close(
        moved, alphas[681].sqrt() * clean + (1 - alphas[681]).sqrt() * noise, rtol=1e-6, atol=1e-6
    )
    assert 681 in theirs.timesteps.tolist()


def test_a_move_and_its_inverse_with_the_same_noise_are_the_identity(schedule):
    generator = torch.Generator().manual_seed(1)
    latents, noise = (torch.randn(1, 4, 8, 8, generator=generator).double() for _ in range(2))
    there = schedule.move(latents, noise, 681, 661)
    torch.testing.assert_close(schedule.move(there, noise, 661, 681), latents)


def test_the_coefficients_from_681_to_661_are_those_of_the_corrected_equation(schedule):
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert schedule.move(one, 0 * one, 681, 661).item() == pytest.approx(1.07192, abs=1e-5)
    assert schedule.move(0 * one, one, 681, 661).item() == pytest.approx(-0.07587, abs=1e-5)


def test_more_steps_than_fit_are_refused(schedule):
    with pytest.raises(ValueError, match="1000 steps do not fit into the 1000 of training"):
        schedule.timesteps(1000)


def test_a_schedule_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="'sample'; supported are 'epsilon' and 'v_prediction'"):
        Schedule.from_config({**CONFIG, "prediction_type": "sample"})
    with pytest.raises(ValueError, match="squaredcos"):
        Schedule.from_config({**CONFIG, "beta_schedule": "squaredcos"})


@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_back_the_noise(predicted):
    schedule = Schedule.from_config({**CONFIG, "prediction_type": predicted})
    theirs = DDIMScheduler(**CONFIG)
    generator = torch.Generator().manual_seed(4)
    clean, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    times = torch.tensor([21, 481, 961])
    alphas = torch.tensor([schedule.alpha(int(time)) for time in times])[:, None, None, None]
    target = schedule.target(clean, noise, alphas)
    is_noise = predicted == "epsilon"
    expected = noise if is_noise else theirs.get_velocity(clean, noise, times)
    torch.testing.assert_close(target, expected, rtol=0, atol=1e-5)
    noised = alphas.sqrt() * clean + (1 - alphas).sqrt() * noise
    for item, time in enumerate(times.tolist()):
        one = slice(item, item + 1)
        found = schedule.noise(target[one], noised[one], time, time)
        torch.testing.assert_close(found, noise[one], rtol=0, atol=1e-5)


@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction"])
def test_inversion_and_sampling_of_a_constant_prediction_return_the_same_latents(predicted):
    schedule = Schedule.from_config({**CONFIG, "prediction_type": predicted})
    generator = torch.Generator().manual_seed(2)
    latents, prediction = (
        torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2)
    )

    class Constant(DiffusionModel):
        def __init__(self):
            self.schedule = schedule

        def predict(self, _latents, _timestep, _conditioning):
            return prediction

    config = InvertImageConfig()
    conditioning = Conditioning(torch.zeros(1, 77, 8))
    found = invert(Constant(), latents, conditioning, config)[:, -1]
    assert (found - latents).abs().max() > 0.5
    for timestep in schedule.timesteps(config.num_steps)[-config.inverted_steps :]:
        below = schedule.previous(timestep, config.num_steps)
        noise = Constant().predict_noise(found, timestep, conditioning)
        found = schedule.move(found, noise, timestep, below)
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-12)


def test_inversion_keeps_every_step_and_finer_steps_invert_better(tiny, scenario):
    def round_trip_error(steps: int) -> float:
        config = InvertImageConfig(num_steps=steps, inverted_steps=steps // 2)
        (trajectory,) = invert(tiny, scenario.latents, scenario.conditioning, config)
        assert len(trajectory) == steps // 2 + 1
        latents = trajectory[-1:]
        for timestep in tiny.schedule.timesteps(steps)[-(steps // 2) :]:
            with torch.no_grad():
                noise = tiny.predict_noise(latents, timestep, scenario.conditioning)
            below = tiny.schedule.previous(timestep, steps)
            latents = tiny.schedule.move(latents, noise, timestep, below)
        return float((latents - trajectory[0]).norm())

    assert round_trip_error(100) < 0.5 * round_trip_error(10)
