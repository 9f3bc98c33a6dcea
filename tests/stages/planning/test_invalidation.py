"""What a change reruns, ingredient by ingredient: no more, and no less.

A change is *direct* for the stages whose keys change though all that earlier stages made stays the
same. Stages after those rerun because their inputs change.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from PIL import Image
from support.actions import actions
from support.lora_forms import write_lora
from support.tiny_models import shared_model

from adaptivedrag.config import EditConfig
from adaptivedrag.methods import Alternation, DragMethod, Warp
from adaptivedrag.model.lora_files import find_lora
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.section import Section
from adaptivedrag.warp import CONTENT_VERSION
from artifacts import StatCache
from stages import build_mask, optimize_latent, sample_image
from stages.jobs.edit import Edit
from stages.jobs.image_files import inspect_image, inspect_mask
from stages.pipeline import STAGE_NAMES, STAGES
from stages.planning.reasons import differences

LORA, INVERSION, SUPERPIXELS, MASK, DRAG, IMAGE, WITNESS = STAGE_NAMES
ALL = set(STAGE_NAMES)
AFTER = {
    LORA: {INVERSION, DRAG, IMAGE, WITNESS},
    INVERSION: {DRAG, IMAGE, WITNESS},
    SUPERPIXELS: {MASK, DRAG, IMAGE, WITNESS},
    MASK: {DRAG, IMAGE, WITNESS},
    DRAG: {IMAGE, WITNESS},
    IMAGE: {WITNESS},
    WITNESS: set(),
}
"""What reruns after a stage that came out different."""

FIELDS = {
    "dtype": {LORA, INVERSION, DRAG, IMAGE, WITNESS},
    "seed": {LORA},
    "working_size": ALL,
    "train_lora": ({LORA}, "rank steps batch_size learning_rate weight_decay"),
    "invert_image": ({INVERSION, DRAG, IMAGE}, "num_steps inverted_steps"),
    "extract_superpixels": ({SUPERPIXELS}, "source count compactness feature_channels"),
    "build_mask": ({MASK}, "mode line_extension content_margin"),
    "optimize_latent": (
        {DRAG},
        "method steps max_steps learning_rate background_weight stop_distance skip_distance"
        " supervision_radius supervision_radius_range tracking_radius tracking_radius_range"
        " region_anchor regions_in_supervision regions_in_tracking backtracking overshoot_returns"
        " patience",
    ),
    "sample_image": (
        {IMAGE},
        "hold_background reference_control reference_first_layer correspondence"
        " correspondence_radius correspondence_temperature correspondence_rate"
        " composite keep_texture holes",
    ),
    "sample_image.hole_rounds": set(),  # while holes are not painted
    "locate_handles": ({WITNESS}, "timestep draws"),
}
"""Which keys each field of the settings enters. A new field has to be named here."""

VALUES = {
    # Masks of segments, and content that is warped, need segments beside the superpixels.
    "build_mask.mode": {
        mode: {SUPERPIXELS, MASK} for mode in ("segment", "union", "swept", "content")
    },
    "optimize_latent.method": {"alternation": {DRAG}, "warp": ALL - {MASK, WITNESS}},
    "working_size": {700: set()},  # the image is smaller still
}
"""Values that enter other keys than their field does."""

SIZE = 512  # constants are given for this size: no fitting hides a change


def expected_fields() -> dict[str, set[str]]:
    found = {}
    for name, what in FIELDS.items():
        if isinstance(what, set):
            found[name] = what
        else:
            found |= {f"{name}.{field}": what[0] for field in what[1].split()}
    return found


EXPECTED = expected_fields()


def fields_of(section: type[Section] = EditConfig, prefix: str = "") -> dict[str, Any]:
    """Walk the settings: every field by its full name."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if field.annotation is DragMethod:
            found |= fields_of(type(field.default), f"{prefix}{name}.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found |= fields_of(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def other_values(field: Any) -> list[Any]:
    """Return values that are allowed and not the default: each other word, or a near number."""
    default = field.default
    if get_origin(field.annotation) is Literal:
        return [word for word in get_args(field.annotation) if word != default]
    if isinstance(default, bool):
        return [not default]
    match default:
        case None:
            return [3]
        case int():
            return [default + 1]
        case float():
            return [default * 1.5]
        case tuple():
            return [(default[0] + 1, default[1]), (default[0], default[1] + 1)]
    raise AssertionError(f"say how to change {field}")


def changes() -> list[tuple[str, Any]]:
    found = []
    for name, field in fields_of().items():
        values = [400] if name == "working_size" else other_values(field)
        found += [(name, value) for value in [*values, *VALUES.get(name, ())]]
    return list(dict.fromkeys(found))


@dataclass
class Workplace:
    folder: Path
    cache: StatCache

    def picture(self, name: str, dot: tuple[int, int] | None = None) -> Path:
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        if dot:
            pixels[dot] = 255
        Image.fromarray(pixels).save(self.folder / name)
        return self.folder / name

    def file(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def image(self, name: str, dot: tuple[int, int] | None = None) -> dict[str, Any]:
        path = self.picture(name, dot)
        return {"image_path": path, "image": inspect_image(path, self.cache)}

    def mask(self, name: str, dot: tuple[int, int]) -> dict[str, Any]:
        path = self.picture(name, dot)
        return {"mask_path": path, "mask_digest": inspect_mask(path, self.cache).digest}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workplace:
    folder = tmp_path_factory.mktemp("matrix")
    return Workplace(folder, StatCache(folder / "cache.sqlite"))


@pytest.fixture(scope="module")
def edit(place) -> Edit:
    return Edit(
        id="edit",
        **place.image("image.png"),
        prompt="a hill",
        drags=(Drag(ImagePoint(40, 50), ImagePoint(66, 40)),),
        tags=(),
        mask_path=None,
        mask_digest=None,
        config=EditConfig(),
        lora="train",
        model=str(shared_model()),
        segmenter=str(place.file("segmenter.pt", b"weights")),
    )


def with_setting(edit: Edit, name: str, value: Any) -> Edit:
    section, _, field = name.rpartition(".")
    overrides = {section: {field: value}} if section else {name: value}
    return replace(edit, config=edit.config.merged(overrides))


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    keys = [{name: action.key for name, action in each.items()} for each in (before, after)]
    return {name for name in ALL if keys[0].get(name) != keys[1].get(name)}


def check(before: Edit, after: Edit, direct: set[str], stages=STAGES) -> None:
    """A change enters the keys it should, can be named, and reruns what follows from them."""
    old, new = actions(before, same_values=True), actions(after, stages, same_values=True)
    assert changed(old, new) == direct
    both = direct & old.keys() & new.keys()  # an edit may go without a stage
    assert all(list(differences(old[name], new[name])) for name in both)
    chains = actions(before, same_values=False), actions(after, stages, same_values=False)
    assert changed(*chains) == direct.union(*(AFTER[name] for name in direct))


def test_every_field_of_the_settings_is_in_the_table():
    assert fields_of().keys() == EXPECTED.keys()


@pytest.mark.parametrize(("name", "value"), changes(), ids=str)
def test_a_setting_reruns_exactly_what_depends_on_it(edit, name, value):
    direct = VALUES.get(name, {}).get(value, EXPECTED[name])
    check(edit, with_setting(edit, name, value), direct)


@pytest.mark.parametrize(
    ("method", "field"),
    [
        (method, field)
        for method in (Alternation, Warp)
        for field in sorted({*method.model_fields} - {"method"})
    ],
)
def test_a_setting_of_another_method_reruns_the_drag(edit, method, field):
    plain = with_setting(edit, "optimize_latent.method", method().method)
    for value in other_values(method.model_fields[field]):
        check(plain, with_setting(plain, f"optimize_latent.{field}", value), {DRAG})


def test_rounds_and_the_seed_rerun_what_is_painted(edit):
    painted = with_setting(edit, "sample_image.holes", "paint")
    check(painted, with_setting(painted, "sample_image.hole_rounds", 4), {IMAGE})
    check(painted, with_setting(painted, "seed", 1), {LORA, IMAGE})


def test_what_was_sampled_before_there_were_composites_is_still_found():
    """Its part of the key, as the version before wrote it."""
    assert sample_image.STAGE.key_config(EditConfig()) == {
        "reference_control": True,
        "reference_first_layer": None,
        "correspondence": "contrastive",
        "correspondence_radius": 5,
        "correspondence_temperature": 0.07,
        "correspondence_rate": 0.01,
        "hold_background": False,
        "dtype": "float32",
        "inversion": {"num_steps": 50, "inverted_steps": 35},
    }


def test_the_seed_reruns_a_drag_that_draws(edit):
    alternating = with_setting(edit, "optimize_latent.method", "alternation")
    check(alternating, with_setting(alternating, "seed", 1), {LORA})
    drawing = with_setting(alternating, "optimize_latent.renoising", True)
    check(drawing, with_setting(drawing, "seed", 1), {LORA, DRAG})


def test_what_the_optimization_made_before_there_were_methods_is_still_found():
    """Its part of the key, as the version before wrote it."""
    assert optimize_latent.STAGE.key_config(EditConfig()) == {
        "steps": 80,
        "max_steps": 300,
        "learning_rate": 0.01,
        "background_weight": 0.1,
        "stop_distance": 2.0,
        "skip_distance": 2.0,
        "supervision_radius": None,
        "supervision_radius_range": [1, 8],
        "tracking_radius": None,
        "tracking_radius_range": [3, 20],
        "region_anchor": "current",
        "regions_in_supervision": True,
        "regions_in_tracking": True,
        "backtracking": True,
        "overshoot_returns": True,
        "relocation": False,
        "patience": 40,
        "dtype": "float32",
        "inversion": {"num_steps": 50, "inverted_steps": 35},
    }


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_raised_version_reruns_its_stage_and_what_follows(edit, stage):
    raised = [replace(s, version=s.version + 1) if s is stage else s for s in STAGES]
    check(edit, edit, {stage.name}, raised)


@pytest.mark.parametrize(
    ("name", "value", "direct"),
    [
        ("build_mask.mode", "content", {MASK}),
        ("build_mask.mode", "union", set()),
        ("optimize_latent.method", "warp", {DRAG}),
    ],
)
def test_another_way_to_find_content_reruns_the_stages_that_find_it(
    edit, monkeypatch, name, value, direct
):
    asked = with_setting(edit, name, value)
    before = actions(asked, same_values=True)
    for module in (build_mask, optimize_latent):
        monkeypatch.setattr(module, "CONTENT_VERSION", CONTENT_VERSION + 1)
    after = actions(asked, same_values=True)
    assert changed(before, after) == direct
    named = [
        difference.name
        for stage in direct
        for difference in differences(before[stage], after[stage])
    ]
    assert named == ["version of content"] * len(direct)


def test_other_weights_rerun_the_stages_that_load_them(edit, place):
    other = str(shared_model(seed=1))
    check(edit, replace(edit, model=other), {LORA, INVERSION, DRAG, IMAGE, WITNESS})
    same = str(shutil.copytree(shared_model(), place.folder / "copy"))
    check(edit, replace(edit, model=same), set())
    segmenter = str(place.file("other.pt", b"other weights"))
    check(edit, replace(edit, segmenter=segmenter), {SUPERPIXELS})
    colors = with_setting(edit, "extract_superpixels.source", "rgb")
    check(colors, replace(colors, segmenter=segmenter), set())


def test_a_pixel_reruns_what_reads_the_image_and_a_copy_nothing(edit, place):
    direct = {LORA, INVERSION, SUPERPIXELS, WITNESS}
    check(edit, replace(edit, **place.image("dot.png", dot=(7, 9))), direct)
    check(edit, replace(edit, **place.image("copy.png")), set())
    warped = with_setting(edit, "optimize_latent.method", "warp")
    of_the_warp = direct - {LORA, INVERSION} | {DRAG}
    check(warped, replace(warped, **place.image("dot.png", dot=(7, 9))), of_the_warp)
    composited = with_setting(edit, "sample_image.composite", True)
    check(composited, replace(composited, **place.image("dot.png", dot=(7, 9))), direct | {IMAGE})


def test_a_point_a_prompt_and_a_name_rerun_what_reads_them(edit):
    moved = (Drag(ImagePoint(40, 50), ImagePoint(66, 41)),)
    check(edit, replace(edit, drags=moved), {MASK, DRAG, IMAGE, WITNESS})
    check(edit, replace(edit, drags=edit.drags * 2), {MASK, DRAG, IMAGE, WITNESS})
    check(edit, replace(edit, prompt="a hill."), {LORA, INVERSION, DRAG, IMAGE, WITNESS})
    check(edit, replace(edit, id="other", tags=("x",)), set())


def test_a_pixel_of_the_users_mask_reruns_the_mask_where_it_is_used(edit, place):
    one, two = (place.mask(f"mask{n}.png", dot=(n, n)) for n in (1, 2))
    check(replace(edit, **one), replace(edit, **two), set())
    asked = with_setting(edit, "build_mask.mode", "user")
    check(replace(asked, **one), replace(asked, **two), {MASK})


def test_a_lora_that_is_off_or_given_reruns_what_reads_it(edit, place):
    off = replace(edit, lora="off")
    readers = {LORA, INVERSION, DRAG, IMAGE}
    assert changed(actions(edit, same_values=True), actions(off, same_values=True)) == readers
    # "auto" is "train" or "off", by the drag method; a file is always taken.
    check(edit, replace(edit, lora="auto"), set())
    warp = with_setting(edit, "optimize_latent.method", "warp")
    check(replace(warp, lora="off"), replace(warp, lora="auto"), set())
    edit = replace(edit, model="pocket")
    one, copy, two = (
        find_lora(write_lora(place.folder / f"{name}.safetensors", edit.model, factor))
        for name, factor in (("one", 1), ("copy", 1), ("two", 2))
    )
    given = replace(edit, lora=one)
    check(edit, given, {LORA})
    auto = replace(warp, model="pocket", lora="auto")
    found = [actions(each, same_values=True) for each in (auto, replace(auto, lora=one))]
    assert changed(*found) == {LORA, DRAG, IMAGE}
    check(given, replace(given, lora=copy), set())
    check(given, replace(given, lora=two), {LORA})
    for name, value in (("train_lora.rank", 4), ("seed", 1)):
        check(given, with_setting(given, name, value), set())
        check(off, with_setting(off, name, value), set())


def test_a_stage_key_holds_only_what_the_stage_reads():
    base = EditConfig()
    changed = base.merged({"optimize_latent": {"learning_rate": 0.02}})
    differing = [
        stage.name for stage in STAGES if stage.key_config(base) != stage.key_config(changed)
    ]
    assert differing == ["optimize_latent"]
