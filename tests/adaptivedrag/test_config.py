"""Settings: what they refuse, and how they are fitted to other latent sizes."""

import pytest
from pydantic import ValidationError

from adaptivedrag.config import EditConfig
from adaptivedrag.presets import PRESETS


def test_scaling_to_the_reference_size_changes_nothing():
    for config in PRESETS.values():
        assert config.scaled_to(4, 64, 64) == config


def test_scaling_follows_area_length_and_terms():
    scaled = EditConfig().scaled_to(16, 32, 32)
    assert scaled.extract_superpixels.count == 50
    assert scaled.optimize_latent.background_weight == pytest.approx(0.1)
    assert scaled.optimize_latent.stop_distance == 1.0
    assert scaled.optimize_latent.tracking_radius_range == (2, 10)
    assert scaled.sample_image.correspondence_radius == 2


def test_fixed_radii_are_scaled_like_every_length():
    scaled = PRESETS["dragdiffusion"].scaled_to(4, 128, 128).optimize_latent
    assert (scaled.supervision_radius, scaled.tracking_radius) == (2, 6)
    assert EditConfig().scaled_to(4, 32, 32).optimize_latent.tracking_radius is None


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="learning_rat"):
        EditConfig().merged({"optimize_latent": {"learning_rat": 1.0}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_rate_that_is_no_positive_number_is_refused(value):
    with pytest.raises(ValidationError):
        EditConfig().merged({"optimize_latent": {"learning_rate": value}})


def test_a_stage_key_holds_only_what_the_stage_reads():
    base = EditConfig()
    changed = base.merged({"optimize_latent": {"learning_rate": 0.02}})
    differing = [
        stage
        for stage in ("train_lora", "invert_image", "build_mask", "optimize_latent", "sample_image")
        if base.for_stage(stage) != changed.for_stage(stage)
    ]
    assert differing == ["optimize_latent"]
