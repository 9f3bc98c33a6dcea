"""Holes that the model paints, and what becomes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from adaptivedrag import painting
from adaptivedrag.config import EditConfig
from adaptivedrag.errors import NotFinite
from adaptivedrag.inversion import invert
from adaptivedrag.masks import image_mask
from adaptivedrag.painting import HoledPicture, paint, paint_holes, unpainted
from adaptivedrag.presets import PRESETS
from adaptivedrag.warp.pasting import Pasted

ROUNDS, STEPS, INVERTED = 2, 8, 5


@pytest.fixture(scope="module")
def config() -> EditConfig:
    return PRESETS["plus"].merged(
        {
            "invert_image": {"num_steps": STEPS, "inverted_steps": INVERTED},
            "sample_image": {"hole_rounds": ROUNDS},
        }
    )


@pytest.fixture(scope="module")
def pasted(scenario) -> Pasted:
    """A photograph with a gray hole, a rim around it, and content beside it."""
    nothing = np.zeros(scenario.image.shape[:2], bool)
    hole, rim, arrived = nothing.copy(), nothing.copy(), nothing.copy()
    hole[40:70, 30:50], rim[36:74, 26:54], arrived[40:70, 54:74] = True, True, True
    rim &= ~hole
    picture, cleared = scenario.image.copy(), scenario.image.copy()
    picture[hole], cleared[hole | rim] = 128, 128
    return Pasted(picture, hole, arrived, hole | arrived, rim, cleared)


@pytest.fixture(scope="module")
def trajectory(tiny, scenario, config):
    return invert(tiny, scenario.latents, scenario.conditioning, config.invert_image)


@pytest.fixture(scope="module")
def hole(scenario):
    cells = torch.zeros(1, *scenario.frame.latent_size, dtype=torch.bool)
    cells[:, 4:9, 3:8] = True
    return cells


def painted(tiny, scenario, trajectory, hole, **changes):
    given = {
        "hidden": hole,
        "num_steps": STEPS,
        "rounds": ROUNDS,
        "first_layer": 10,
        "generators": [torch.Generator().manual_seed(0)],
    }
    given |= changes
    return paint(tiny, trajectory, hole, conditioning=scenario.conditioning, **given)


def test_latents_outside_the_hole_are_those_of_the_picture(tiny, scenario, trajectory, hole):
    made = painted(tiny, scenario, trajectory, hole)
    (cells,) = hole
    assert torch.equal(made[..., ~cells], trajectory[:, 0][..., ~cells])
    assert (made - trajectory[:, 0])[..., cells].abs().mean() > 0.05


def test_hidden_cells_are_not_read(tiny, scenario, trajectory, hole):
    """Keys and values of far cells reach the hole only through attention."""
    corner = torch.zeros_like(hole)
    corner[:, -2:, -2:] = True
    shown, hidden = (
        painted(tiny, scenario, trajectory, hole, hidden=cells)
        for cells in (torch.zeros_like(hole), corner)
    )
    assert not torch.equal(shown, hidden)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 1},
        {"first_layer": None},
        {"generators": [torch.Generator().manual_seed(1)]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_rounds_reference_and_seed_change_the_hole(tiny, scenario, trajectory, hole, change):
    usual = painted(tiny, scenario, trajectory, hole)
    assert torch.equal(usual, painted(tiny, scenario, trajectory, hole))
    assert not torch.equal(usual, painted(tiny, scenario, trajectory, hole, **change))


def test_a_round_is_one_pass_and_each_level_one_more_of_the_picture(
    tiny, scenario, trajectory, hole
):
    before = replace(tiny.passes)
    painted(tiny, scenario, trajectory, hole)
    assert tiny.passes.since(before)["unet_forwards"] == INVERTED * (1 + ROUNDS)


def test_latents_that_are_not_finite_are_refused(tiny, scenario, trajectory, hole):
    with pytest.raises(NotFinite, match="painted latents are not finite"):
        painted(tiny, scenario, trajectory * torch.nan, hole)


def made_of(tiny, scenario, pasted, config, mask=None, **settings):
    asked = config.merged({"sample_image": settings})
    picture = HoledPicture(pasted, mask, scenario.conditioning, scenario.frame, seed=0)
    (made,) = paint_holes(tiny, [picture], asked.sample_image, asked.invert_image)
    return made


@pytest.fixture
def always_painted(monkeypatch):
    """The tiny model's paintings are noise: take them all the same, the rim with them."""
    monkeypatch.setattr(painting, "PREFERENCE", (1e9, 1e9, 1e9, 1.0))


def far_from(region: np.ndarray) -> np.ndarray:
    return ~binary_dilation(region, iterations=6)


@pytest.mark.usefixtures("always_painted")
def test_the_hole_is_painted_and_everything_else_has_its_bytes(tiny, scenario, pasted, config):
    made = made_of(tiny, scenario, pasted, config)
    assert [piece["filling"] for piece in made.details["holes"]] == ["painted, with its rim"]
    assert np.abs(made.picture[pasted.hole].astype(int) - 128).mean() > 1
    far = far_from(pasted.hole | pasted.rim)
    assert np.array_equal(made.picture[far], pasted.picture[far])


@pytest.mark.usefixtures("always_painted")
@pytest.mark.parametrize("composite", [True, False])
def test_a_mask_of_the_users_keeps_every_byte_outside(tiny, scenario, pasted, config, composite):
    """Without it the feather of a hole at its edge reaches beyond."""
    mask = np.zeros(scenario.frame.feature_size, bool)
    mask[20:35, 15:25] = True  # the hole
    made = made_of(tiny, scenario, pasted, config, mask, composite=composite)
    outside = ~image_mask(mask, scenario.frame)
    assert np.array_equal(made.picture[outside], pasted.picture[outside])
    free = made_of(tiny, scenario, pasted, config, composite=composite)
    assert not np.array_equal(free.picture[outside], pasted.picture[outside])


@pytest.mark.usefixtures("always_painted")
@pytest.mark.parametrize(
    ("switch", "where"),
    [
        ("composite", lambda pasted: far_from(pasted.hole | pasted.rim)),
        ("keep_texture", lambda pasted: ~(pasted.hole | pasted.rim)),
    ],
)
def test_every_switch_of_the_painting_changes_the_picture(
    tiny, scenario, pasted, config, switch, where
):
    usual = made_of(tiny, scenario, pasted, config).picture
    without = made_of(tiny, scenario, pasted, config, **{switch: False}).picture
    assert (usual != without).any(axis=2)[where(pasted)].any()
    assert np.array_equal(usual[pasted.hole], without[pasted.hole])


def test_a_piece_becomes_what_is_nearest_to_its_surroundings(tiny, scenario, pasted, config):
    """A gray ground goes on in the gray filling, and not in what the tiny model paints."""
    gray = np.full_like(pasted.picture, 128)
    gray[pasted.arrived] = pasted.picture[pasted.arrived]
    even = replace(pasted, picture=gray, cleared=gray)
    made = made_of(tiny, scenario, even, config)
    (piece,) = made.details["holes"]
    assert piece["filling"] == "smooth"
    assert piece["incoherence"][0] < piece["incoherence"][1]
    assert np.array_equal(made.picture, gray)


def test_a_rim_that_is_unlike_the_surroundings_goes_with_the_hole(tiny, scenario, pasted, config):
    gray = np.full_like(pasted.picture, 128)
    glowing = gray.copy()
    glowing[pasted.rim] = (250, 240, 120)
    made = made_of(tiny, scenario, replace(pasted, picture=glowing, cleared=gray), config)
    assert [piece["filling"] for piece in made.details["holes"]] == ["smooth, with its rim"]
    assert np.array_equal(made.picture[pasted.rim], gray[pasted.rim])


def test_a_hole_larger_than_what_is_left_stays_filled_and_says_so(pasted, config):
    large = replace(pasted, hole=np.indices(pasted.hole.shape)[0] > 50)
    left = unpainted(large, config.sample_image)
    assert left is not None
    assert left.picture is large.picture
    (line,) = left.warnings
    assert line.startswith("the hole is ")
    assert "it stays filled smoothly" in line


def test_nothing_is_painted_without_a_hole_or_where_holes_are_smooth(pasted, config):
    assert unpainted(pasted, config.sample_image) is None
    whole = replace(pasted, hole=pasted.hole & False)
    for asked, settings in ((whole, config.sample_image), (pasted, PRESETS["paste"].sample_image)):
        left = unpainted(asked, settings)
        assert left is not None
        assert left.picture is pasted.picture
        assert left.details == {}


@pytest.mark.usefixtures("always_painted")
def test_pictures_that_are_painted_together_are_as_they_are_alone(tiny, scenario, pasted, config):
    """Each has its own hole, draws and prompt; in one of them nothing is left to be read."""
    larger = replace(pasted, arrived=np.ones_like(pasted.arrived))
    pictures = [
        HoledPicture(each, None, tiny.encode_prompt(prompt), scenario.frame, seed)
        for seed, (each, prompt) in enumerate([(pasted, "a face"), (larger, "")])
    ]
    together, *alone = (
        [p.picture for p in paint_holes(tiny, some, config.sample_image, config.invert_image)]
        for some in (pictures, *([each] for each in pictures))
    )
    for made, (expected,) in zip(together, alone, strict=True):
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert (made != expected).mean() < 1e-3
    assert not np.array_equal(*together)
