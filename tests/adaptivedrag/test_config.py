"""Settings: what they refuse, and how they are fitted to other latent sizes."""

import pytest
from pydantic import ValidationError

from adaptivedrag.config import EditConfig
from adaptivedrag.methods import METHODS, Optimization, Warp
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
        EditConfig().merged({"sample_image": {"learning_rat": 1.0}})


@pytest.mark.parametrize(
    ("settings", "where", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat", "'optimization' has no .* mean 'learning_rate'"),
        ({"method": "warp", "steps": 4}, "steps", "the method 'warp' has no .* stop_distance"),
        ({"method": "warp", "stop_distance": -1.0}, "stop_distance", "greater than 0"),
        ({"method": "relocation"}, "method", "choose optimization or alternation or warp"),
        ({"method": ["warp"]}, "method", "choose optimization or alternation or warp"),
    ],
)
def test_settings_of_a_drag_method_are_refused_by_name(settings, where, message):
    with pytest.raises(ValidationError, match=message) as refused:
        EditConfig().merged({"optimize_latent": settings})
    assert refused.value.errors()[0]["loc"] == ("optimize_latent", where)


def test_settings_without_a_method_keep_that_of_the_preset():
    plus = PRESETS["plus"].merged({"optimize_latent": {"stop_distance": 3.0}})
    assert plus.optimize_latent == Warp(stop_distance=3.0)
    with pytest.raises(ValidationError, match="the method 'warp' has no such setting"):
        PRESETS["plus"].merged({"optimize_latent": {"patience": 3}})


def test_another_method_begins_with_its_own_defaults():
    tuned = PRESETS["released"].merged({"optimize_latent": {"stop_distance": 3.0}})
    assert tuned.merged({"optimize_latent": {"method": "warp"}}).optimize_latent == Warp()
    same = {"optimize_latent": {"method": "optimization", "patience": 3}}
    assert tuned.merged(same).optimize_latent == tuned.optimize_latent.replaced(patience=3)
    back = PRESETS["plus"].merged(same).optimize_latent
    assert back == Optimization(patience=3)


def test_every_method_is_in_the_table_under_its_own_name():
    assert {name: method().method for name, method in METHODS.items()} == {
        name: name for name in METHODS
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_rate_that_is_no_positive_number_is_refused(value):
    with pytest.raises(ValidationError):
        EditConfig().merged({"optimize_latent": {"learning_rate": value}})


def test_constants_of_another_reference_are_the_same_at_its_size():
    larger = (4, 128, 128)
    for config in PRESETS.values():
        assert config.scaled_to(*larger, larger) == config
        assert config.scaled_to(4, 64, 64, larger) != config
