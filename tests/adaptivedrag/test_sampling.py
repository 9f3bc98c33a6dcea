"""Reference control, correspondence loss and the paired sampling."""

import pytest
import torch

from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.correspondence import correspondence_loss, corresponding_update, patch_slices
from adaptivedrag.errors import NotFinite
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.reference_control import reference_control
from adaptivedrag.sampling import sample

INVERSION = InvertImageConfig(num_steps=8, inverted_steps=5)


@pytest.fixture(scope="module")
def edited(scenario):
    noise = torch.randn(scenario.latents.shape, generator=torch.Generator().manual_seed(5))
    return scenario.latents + 0.3 * noise


def sampled(tiny, scenario, edited, **changes):
    config = SampleImageConfig(**{"correspondence_radius": 3, **changes})
    return sample(
        tiny,
        scenario.latents,
        edited,
        scenario.conditioning,
        scenario.drags,
        scenario.frame,
        config,
        INVERSION,
    )


def test_exactly_the_last_six_self_attentions_are_controlled_and_restored(tiny):
    before = [attention.processor for attention in tiny.self_attentions().values()]
    with reference_control(tiny, 10):
        changed = [
            name
            for (name, attention), old in zip(tiny.self_attentions().items(), before, strict=True)
            if attention.processor is not old
        ]
    assert changed == [
        f"up_blocks.{block}.attentions.{index}.transformer_blocks.0.attn1"
        for block in (2, 3)
        for index in (0, 1, 2)
    ]
    assert [attention.processor for attention in tiny.self_attentions().values()] == before


def test_reference_control_equals_attention_over_concatenated_queries(tiny, scenario, edited):
    """diffusers' own attention on the reference's keys and values, item by item."""
    name, attention = list(tiny.self_attentions().items())[-1]
    assert name.startswith("up_blocks.3")
    width = attention.to_q.in_features
    states = torch.randn(2, 24, width, generator=torch.Generator().manual_seed(2))
    with reference_control(tiny, 10) as control, torch.no_grad():
        with control.writing():
            attention(states[:1])
        with control.reading():
            ours = attention(states[1:])
    with torch.no_grad():
        theirs = attention(states[1:], encoder_hidden_states=states[:1])
    torch.testing.assert_close(ours, theirs)


def test_an_unedited_latent_comes_out_as_the_reference(tiny, scenario):
    reference, same = sampled(tiny, scenario, scenario.latents.clone(), correspondence="off")
    torch.testing.assert_close(reference, same, rtol=0, atol=1e-4)


def test_a_drag_of_no_length_is_no_edit_in_the_sampling_either(scenario, edited):
    still = [Drag(ImagePoint(40, 50), ImagePoint(40, 50))]
    config = SampleImageConfig(correspondence_radius=3)
    updated = corresponding_update(scenario.latents, edited, still, scenario.frame, config)
    assert torch.equal(updated, edited)


def test_latents_that_are_not_finite_are_refused_and_leave_no_state(tiny, scenario, edited):
    with pytest.raises(NotFinite, match="sampled latents are not finite") as failure:
        sampled(tiny, scenario, edited * torch.nan)
    assert not failure.value.state


def test_the_reference_does_not_depend_on_the_edit(tiny, scenario, edited):
    first, _ = sampled(tiny, scenario, edited)
    second, _ = sampled(tiny, scenario, 0.5 * edited)
    plain, _ = sampled(tiny, scenario, edited, reference_control=False)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, plain, rtol=0, atol=1e-5)


def test_the_correspondence_loss_leaves_the_reference_bit_identical(tiny, scenario, edited):
    with_loss, changed = sampled(tiny, scenario, edited)
    without, plain = sampled(tiny, scenario, edited, correspondence="off")
    assert torch.equal(with_loss, without)
    assert not torch.equal(changed, plain)


def test_without_the_correspondence_loss_sampling_is_a_plain_paired_ddim(tiny, scenario, edited):
    reference, dragged = scenario.latents, edited
    schedule = tiny.schedule
    with reference_control(tiny, 10) as control, torch.no_grad():
        for timestep in schedule.timesteps(INVERSION.num_steps)[-INVERSION.inverted_steps :]:
            below = schedule.previous(timestep, INVERSION.num_steps)
            with control.writing():
                noise = tiny.predict_noise(reference, timestep, scenario.conditioning)
            reference = schedule.move(reference, noise, timestep, below)
            with control.reading():
                noise = tiny.predict_noise(dragged, timestep, scenario.conditioning)
            dragged = schedule.move(dragged, noise, timestep, below)
    off = sampled(tiny, scenario, edited, correspondence="off")
    assert torch.equal(off[0], reference)
    assert torch.equal(off[1], dragged)


def test_control_from_layer_sixteen_on_is_plain_attention(tiny, scenario, edited):
    none = sampled(tiny, scenario, edited, correspondence="off", reference_first_layer=16)
    off = sampled(tiny, scenario, edited, correspondence="off", reference_control=False)
    assert torch.equal(none[1], off[1])


@pytest.mark.parametrize(
    "change",
    [
        {"reference_control": False},
        {"correspondence": "off"},
        {"correspondence": "mse"},
        {"correspondence_radius": 1},
        {"reference_first_layer": 14},
    ],
    ids=str,
)
def test_every_switch_of_the_sampling_changes_the_image(tiny, scenario, edited, change):
    _, plain = sampled(tiny, scenario, edited)
    _, switched = sampled(tiny, scenario, edited, **change)
    assert (plain - switched).abs().mean() > 1e-5


@pytest.mark.parametrize("kind", ["contrastive", "mse"])
def test_an_update_lowers_its_own_loss_for_a_single_drag(scenario, edited, kind):
    config = SampleImageConfig(correspondence=kind, correspondence_radius=3)
    drags = scenario.drags[:1]
    handle, target = patch_slices((6, 5), (5, 8), 3, scenario.frame.latent_size)

    def loss(latents):
        return correspondence_loss(
            scenario.latents[..., *handle], latents[..., *target], config
        ).item()

    updated = corresponding_update(scenario.latents, edited, drags, scenario.frame, config)
    assert not torch.equal(updated, edited)
    assert loss(updated) < loss(edited)


def test_windows_stay_aligned_around_both_centers_at_the_border():
    handle, target = patch_slices((0, 7), (9, 15), 5, (16, 16))
    assert handle == (slice(0, 6), slice(2, 8))
    assert target == (slice(9, 15), slice(10, 16))


def test_an_update_near_a_corner_stays_finite(scenario, edited):
    corner = [Drag(ImagePoint(0, 0), ImagePoint(99, 127))]
    config = SampleImageConfig(correspondence_radius=3)
    updated = corresponding_update(scenario.latents, edited, corner, scenario.frame, config)
    assert updated.isfinite().all()
