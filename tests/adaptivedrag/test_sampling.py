"""Reference control, correspondence loss and the paired sampling."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.correspondence import correspondence_loss, corresponding_update, patch_slices
from adaptivedrag.errors import NotFinite
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.reference_control import reference_control
from adaptivedrag.sampling import DraggedEdit, Reference, sample

INVERSION = InvertImageConfig(num_steps=8, inverted_steps=5)


@pytest.fixture(scope="module")
def edited(scenario):
    noise = torch.randn(scenario.latents.shape, generator=torch.Generator().manual_seed(5))
    return scenario.latents + 0.3 * noise


@pytest.fixture(scope="module")
def references(scenario):
    """Two images, of which only the latents at the start timestep matter here."""
    shape = (INVERSION.inverted_steps + 1, *scenario.latents.shape[1:])
    other = scenario.latents.flip(-1)
    return [
        Reference(latents.expand(shape), scenario.conditioning)
        for latents in (scenario.latents, other)
    ]


@pytest.fixture(scope="module")
def edits(scenario, references):
    """Four edits, of both images; masks and drags differ."""
    generator = torch.Generator().manual_seed(6)
    size = scenario.frame.latent_size
    edits = []
    for number, place in enumerate((0, 1, 0, 0)):
        noise = torch.randn(scenario.latents.shape, generator=generator)
        editable = torch.zeros(size, dtype=torch.bool)
        editable[4 : 4 + 3 * number] = True
        edits.append(
            DraggedEdit(
                references[place].trajectory[-1:] + 0.3 * noise,
                place,
                scenario.drags[: number % 3],
                scenario.frame,
                editable,
            )
        )
    return edits


def sampled(tiny, scenario, edited, **changes):
    reference = Reference(
        scenario.latents.expand(INVERSION.inverted_steps + 1, -1, -1, -1), scenario.conditioning
    )
    editable = torch.ones(scenario.frame.latent_size, dtype=torch.bool)
    edit = DraggedEdit(edited, 0, scenario.drags, scenario.frame, editable)
    return sampled_batch(tiny, [reference], [edit], **changes)


def sampled_batch(tiny, references, edits, **changes):
    config = SampleImageConfig(**{"correspondence_radius": 3, **changes})
    return sample(tiny, references, edits, config, INVERSION.num_steps)


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
        with control.reading(torch.tensor([0])):
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
            with control.reading(torch.tensor([0])):
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


# --- batches


@pytest.mark.parametrize(
    "settings",
    [{}, {"hold_background": True}, {"correspondence": "off"}, {"reference_control": False}],
    ids=str,
)
def test_a_batch_gives_each_edit_what_it_gets_alone(tiny, references, edits, settings):
    _, together = sampled_batch(tiny, references, edits, **settings)
    alone = torch.cat(
        [
            sampled_batch(
                tiny, [references[edit.reference]], [replace(edit, reference=0)], **settings
            )[1]
            for edit in edits
        ]
    )
    span = alone.max() - alone.min()
    assert (together - alone).abs().max() < 1e-4 * span
    assert all((one - other).abs().max() > 0.01 * span for one, other in pairwise(alone))


def test_edits_of_a_batch_attend_to_their_own_reference(tiny, references, edits):
    """The right reference is what makes an item of a batch equal to itself alone."""
    wrong = [replace(edit, reference=1 - edit.reference) for edit in edits]
    _, right = sampled_batch(tiny, references, edits, correspondence="off")
    _, crossed = sampled_batch(tiny, references, wrong, correspondence="off")
    assert all((right - crossed).abs().mean(dim=(1, 2, 3)) > 1e-5)


def test_prompts_of_a_batch_may_differ(tiny, scenario, references, edits):
    other = replace(references[1], conditioning=tiny.encode_prompt("a dog in the snow"))
    _, same = sampled_batch(tiny, references, edits[:2])
    _, differing = sampled_batch(tiny, [references[0], other], edits[:2])
    assert torch.equal(same[0], differing[0])
    assert not torch.equal(same[1], differing[1])


def test_the_pass_of_a_reference_is_made_once_for_all_its_edits(tiny, references, edits):
    def passes(some_references, some_edits, **settings):
        before = replace(tiny.passes)
        sampled_batch(tiny, some_references, some_edits, **settings)
        return tiny.passes.since(before)["unet_forwards"] / INVERSION.inverted_steps

    eight = [replace(edit, reference=0) for edit in 2 * edits]
    assert passes(references[:1], eight) == 9 <= 5 / 8 * 8 * passes(references[:1], eight[:1])
    assert passes(references, edits) == 6
    off = {"reference_control": False, "correspondence": "off"}
    assert passes(references, edits, **off) == 4


def test_an_item_that_is_not_finite_leaves_the_others_as_they_are(tiny, scenario, edits):
    latents = torch.cat([edit.latents for edit in edits])
    seen = torch.cat([scenario.latents, scenario.latents.flip(-1)])
    of = torch.tensor([edit.reference for edit in edits])

    def predicted(latents, seen):
        with reference_control(tiny, 10) as control, torch.no_grad():
            with control.writing():
                tiny.predict_noise(seen, 401, scenario.conditioning)
            with control.reading(of):
                return tiny.predict_noise(latents, 401, scenario.conditioning)

    whole = predicted(latents, seen)
    poison = torch.zeros_like(latents)
    poison[2] = torch.nan
    noise = predicted(latents + poison, seen)
    assert noise[2].isnan().all()
    assert torch.equal(noise[[0, 1, 3]], whole[[0, 1, 3]])
    noise = predicted(latents, seen + poison[1:3])
    assert noise[1].isnan().all()
    assert torch.equal(noise[of == 0], whole[of == 0])


def test_a_batch_with_an_item_that_is_not_finite_is_refused(tiny, references, edits):
    bad = replace(edits[1], latents=edits[1].latents * torch.nan)
    with pytest.raises(NotFinite, match="sampled latents are not finite"):
        sampled_batch(tiny, references, [edits[0], bad, *edits[2:]])


def sampled_along(tiny, scenario, trajectory, editable, **settings):
    edit = DraggedEdit(trajectory[-1:] + 0.2, 0, scenario.drags, scenario.frame, editable)
    reference = Reference(trajectory, scenario.conditioning)
    config = SampleImageConfig(**settings)
    return sample(tiny, [reference], [edit], config, INVERSION.num_steps)[1]


def test_the_background_is_held_at_the_inversions_own_latents(tiny, scenario):
    trajectory = torch.cat([scenario.latents + 0.1 * step for step in range(6)])
    editable = torch.zeros(scenario.latents.shape[-2:], dtype=torch.bool)
    editable[4:9, 4:9] = True
    results = {
        held: sampled_along(tiny, scenario, trajectory, editable, hold_background=held)
        for held in (True, False)
    }
    assert torch.equal(results[True][..., ~editable], trajectory[:1][..., ~editable])
    assert (results[True] - results[False])[..., ~editable].abs().mean() > 0.01
    assert (results[True] - trajectory[:1])[..., editable].abs().mean() > 0.01


def test_an_empty_mask_holds_no_background(tiny, scenario):
    trajectory = torch.cat([scenario.latents + 0.1 * step for step in range(6)])
    nothing = torch.zeros(scenario.latents.shape[-2:], dtype=torch.bool)
    held, free = (
        sampled_along(tiny, scenario, trajectory, nothing, hold_background=hold)
        for hold in (True, False)
    )
    assert torch.equal(held, free)
