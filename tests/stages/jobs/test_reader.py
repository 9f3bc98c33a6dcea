import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import matrix_profile

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Drag, ImagePoint
from adaptivedrag.presets import DEFAULT_PRESET, PRESETS
from stages.jobs.reader import load_job, single_edit
from stages.jobs.spec import JobSpec

DRAG = {"handle": [10, 12], "target": [30, 12]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A folder with an image of 64x48, a mask, and two files that are no images."""
    root = tmp_path / "job"
    root.mkdir()
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[10:20, 10:20] = 200
    Image.fromarray(pixels).save(root / "cat.png")
    Image.fromarray(pixels[:, :, 0]).save(root / "mask.png")
    Image.fromarray(pixels[:40]).save(root / "other_mask.png")
    Image.new("RGB", (20, 64)).save(root / "narrow.png")
    Image.new("RGB", (64, 64)).save(root / "square.png")
    Image.fromarray(pixels).save(tmp_path / "outside.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    return root


def edit(name: str = "cat", **more: object) -> dict[str, object]:
    return {"id": name, "image": "cat.png", "drags": [DRAG], **more}


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in edit("bad").items() if key != name}


def write(folder: Path, *lines: object, toml: str = "") -> Path:
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    (folder / "edits.jsonl").write_bytes(b"\n".join(texts) + b"\n")
    (folder / "job.toml").write_text(toml, "utf-8")
    return folder / "job.toml"


def dragging(handle: object, target: object = (30, 12)) -> dict[str, object]:
    return edit("bad", drags=[DRAG, {"handle": handle, "target": target}])


BAD_EDITS = {
    # name: (line, field, what the reason says)
    "missing image": (edit("bad", image="dog.png"), "image", "'dog.png' does not exist"),
    "unreadable image": (edit("bad", image="broken.png"), "image", "damaged or not an image"),
    "image outside": (edit("bad", image="../outside.png"), "image", "lies outside"),
    "image is a folder": (edit("bad", image="."), "image", "not a regular file"),
    "image too small": (edit("bad", image="narrow.png"), "image", "20x64 pixels"),
    "image name with NUL": (edit("bad", image="a\0b"), "image", "control character"),
    "handle right of image": (
        dragging([64, 3]),
        "drags[1].handle",
        "(64, 3) lies outside the 64x48",
    ),
    "target above image": (dragging([3, 3], [3, -1]), "drags[1].target", "y from 0 to 47"),
    "huge point": (dragging([1e308, 1e308]), "drags[1].handle", "lies outside"),
    "infinite by exponent": (dragging([3, 4], b""), "drags[1].target[0]", "finite"),
    "no drags": (edit("bad", drags=[]), "drags", "drags is empty"),
    "drags missing": (without("drags"), "drags", "drags is missing"),
    "too many drags": (edit("bad", drags=[DRAG] * 101), "drags", "at most 100"),
    "point of three": (dragging([1, 2, 3]), "drags[1].handle", "at most 2 items"),
    "point of text": (dragging(["1", 2]), "drags[1].handle[0]", "'1' cannot be used"),
    "point of truth values": (dragging([True, 2]), "drags[1].handle[0]", "True cannot be used"),
    "id missing": (without("id"), "id", "id is missing"),
    "id leaves the folder": (edit("../bad"), "id", "'../bad' cannot be used"),
    "id with a slash": (edit("a/b"), "id", "an id names files"),
    "hidden id": (edit(".bad"), "id", "no leading '.'"),
    "empty id": (edit(""), "id", "1 to 128"),
    "long id": (edit("x" * 129), "id", "1 to 128"),
    "id is a number": (edit(7), "id", "7 cannot be used"),  # type: ignore[arg-type]
    "id with a line break": (edit("bad\n"), "id", "cannot be used"),
    "duplicate id": (edit("cat"), "id", "already used in line 1"),
    "id differs by case": (edit("CAT"), "id", "case alone"),
    "broken JSON": (b'{"id": "bad", ', "", "broken JSON at column"),
    "not an object": (b"[1, 2]", "", "is not an edit"),
    "not UTF-8": (b'{"id": "b\xff"}', "", "not UTF-8 at byte 9"),
    "nested deeply": (b"[" * 200_000, "", "nested too deeply"),
    "giant line": (b'{"id": "' + b"x" * 3_000_000 + b'"}', "", "longer than 1 MiB"),
    "giant number": (b'{"id": ' + b"9" * 10_000 + b"}", "", "broken JSON"),
    "NaN": (b'{"id": "bad", "drags": [{"handle": [NaN, 1]}]}', "", "NaN is not JSON"),
    "infinity": (b'{"id": "bad", "x": -Infinity}', "", "-Infinity is not JSON"),
    "key twice": (b'{"id": "bad", "id": "worse"}', "id", "there twice"),
    "unknown key": (edit("bad", promt="x"), "promt", "did you mean 'prompt'"),
    "unknown key of a drag": (
        edit("bad", drags=[{**DRAG, "end": [1, 2]}]),
        "drags[0].end",
        "there are handle, target",
    ),
    "prompt is no text": (edit("bad", prompt=5), "prompt", "5 cannot be used"),
    "prompt with an escape": (edit("bad", prompt="\x1b[31m"), "prompt", "control character"),
    "half a character": (
        b'{"id": "bad", "image": "cat.png", "prompt": "\\ud800", "drags": [{"handle":'
        b' [1, 2], "target": [3, 4]}]}',
        "prompt",
        "cannot be used",
    ),
    "unknown setting": (
        edit("bad", settings={"build_mask": {"content_marginal": 1}}),
        "settings.build_mask.content_marginal",
        "did you mean 'content_margin'",
    ),
    "unknown stage": (edit("bad", settings={"drag": {}}), "settings.drag", "unknown key"),
    "setting out of range": (
        edit("bad", settings={"train_lora": {"steps": -1}}),
        "settings.train_lora.steps",
        "greater than or equal to 0",
    ),
    "settings that contradict": (
        edit("bad", settings={"invert_image": {"inverted_steps": 60}}),
        "settings.invert_image",
        "more than num_steps",
    ),
    "mask of another size": (
        edit("bad", mask="other_mask.png"),
        "mask",
        "64x40 and the image 64x48",
    ),
    "mask missing": (edit("bad", mask="none.png"), "mask", "does not exist"),
    "mask outside": (edit("bad", mask="../outside.png"), "mask", "lies outside"),
    "scene without a drag": (edit("bad", scene={"number": 3}), "scene.drag", "is missing"),
    "scene of no number": (
        edit("bad", image="square.png", scene={"number": -1, "drag": 0}),
        "scene.number",
        "greater than or equal to 0",
    ),
    "scene number is text": (
        edit("bad", image="square.png", scene={"number": "3", "drag": 0}),
        "scene.number",
        "'3' cannot be used",
    ),
    "scene without such a drag": (
        edit("bad", image="square.png", scene={"number": 0, "drag": 99}),
        "scene.drag",
        "scene 0 has at most",
    ),
    "scene that is not square": (
        edit("bad", scene={"number": 0, "drag": 0}),
        "scene",
        "'cat.png' is 64x48",
    ),
    "unknown key of a scene": (
        edit("bad", image="square.png", scene={"number": 0, "drags": 0}),
        "scene.drag",
        "scene.drag is missing: add it (and 1 more)",
    ),
    "user mask not given": (
        edit("bad", settings={"build_mask": {"mode": "user"}}),
        "mask",
        'build_mask.mode is "user"',
    ),
}


@pytest.mark.parametrize(("line", "field", "reason"), BAD_EDITS.values(), ids=BAD_EDITS)
def test_a_bad_edit_gets_one_line_and_the_others_go_on(folder, line, field, reason):
    if isinstance(line, dict) and field == "drags[1].target[0]":
        line = json.dumps(dragging([3, 4], [0, 5])).replace("[0, 5]", "[1e400, 5]").encode()
    job = load_job(write(folder, edit(), line, edit("dog")))
    assert [good.id for good in job.edits] == ["cat", "dog"]
    (bad,) = job.bad
    assert bad.line == 2
    assert bad.field == field
    assert reason in bad.reason
    assert "\n" not in str(bad)
    assert len(str(bad)) < 500
    assert str(bad).isprintable()
    assert job.order == ("cat", bad.id, "dog")


BAD_JOBS = {
    "unknown key": ('modle = "pocket"', "did you mean 'model'"),
    "unknown preset": ('preset = "papr"', "unknown preset 'papr'"),
    "not TOML": ("model =", "not valid TOML"),
    "unknown setting": ("[sample_image]\nradius = 3", "unknown key 'sample_image.radius'"),
    "setting is NaN": ("[optimize_latent]\nlearning_rate = nan", "optimize_latent.learning_rate"),
    "bad dtype": ('dtype = "int8"', "dtype = 'int8'"),
    "bad seed": ("seed = -1", "seed = -1"),
    "edits missing": ('edits = "none.jsonl"', "none.jsonl does not exist"),
    "image_root missing": ('image_root = "none"', "is not a folder"),
    "lora missing": ('lora = "none.safetensors"', "is not"),
    "lora is no safetensors": ('lora = "cat.png"', "is not"),
}


@pytest.mark.parametrize(("toml", "reason"), BAD_JOBS.values(), ids=BAD_JOBS)
def test_a_bad_job_file_starts_nothing(folder, toml, reason):
    with pytest.raises(InvalidEdit) as refusal:
        load_job(write(folder, edit(), toml=toml))
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_job_file_is_named(tmp_path):
    with pytest.raises(InvalidEdit, match=r"none\.toml does not exist"):
        load_job(tmp_path / "none.toml")


def test_a_job_without_edits_starts_nothing(folder):
    with pytest.raises(InvalidEdit, match="has no edits"):
        load_job(write(folder, b"", b"   "))


def test_an_edit_is_read_with_all_that_it_says(folder):
    line = edit(prompt="a cat – sitting", mask="mask.png", tags=["animals"])
    (found,) = load_job(write(folder, line)).edits
    assert found.image_path == (folder / "cat.png").resolve()
    assert (found.image.width, found.image.height) == (64, 48)
    assert found.drags == (Drag(ImagePoint(10, 12), ImagePoint(30, 12)),)
    assert found.prompt == "a cat – sitting"
    assert found.tags == ("animals",)
    assert found.mask_digest is not None
    assert (found.model, found.segmenter, found.lora) == ("pocket", "pocket", "auto")
    assert found.config.optimize_latent == PRESETS[DEFAULT_PRESET].optimize_latent


def test_an_edit_of_a_scene_names_its_number_and_drag(folder):
    line = edit(image="square.png", scene={"number": 7, "drag": 2})
    (found,) = load_job(write(folder, line)).edits
    assert (found.scene.number, found.scene.drag) == (7, 2)
    (plain,) = load_job(write(folder, edit())).edits
    assert plain.scene is None


def test_settings_of_an_edit_lie_over_those_of_the_job_over_the_preset(folder):
    toml = 'preset = "paper"\nseed = 3\n[optimize_latent]\nlearning_rate = 0.02\npatience = 7\n'
    own = {"optimize_latent": {"patience": 9}}
    plain, special = load_job(write(folder, edit("a"), edit("b", settings=own), toml=toml)).edits
    assert plain.config.seed == special.config.seed == 3
    assert plain.config.optimize_latent.learning_rate == 0.02
    assert (plain.config.optimize_latent.patience, special.config.optimize_latent.patience) == (
        7,
        9,
    )
    assert special.config.train_lora.steps == 80


def test_points_may_lie_on_the_border_pixels_but_not_beyond(folder):
    corner = {"handle": [-0.5, -0.5], "target": [63.5, 47.5]}
    beyond = {"handle": [0, 0], "target": [63.6, 47]}
    job = load_job(write(folder, edit("in", drags=[corner]), edit("out", drags=[beyond])))
    assert [found.id for found in job.edits] == ["in"]


def test_a_drag_of_no_length_is_not_an_error(folder):
    job = load_job(write(folder, edit(drags=[{"handle": [5, 5], "target": [5, 5]}])))
    assert not job.bad


def test_files_from_windows_are_read(folder):
    path = write(folder, b"\xef\xbb\xbf" + json.dumps(edit()).encode() + b"\r", b"\r")
    assert load_job(path).order == ("cat",)


def test_lines_are_counted_past_blank_and_giant_ones(folder):
    path = write(folder, edit("a"), b"", b"y" * 2_500_000, b"{", edit("b"))
    job = load_job(path)
    assert [bad.line for bad in job.bad] == [3, 4]
    assert job.order == ("a", "line 3", "line 4", "b")


def test_a_job_is_named_by_its_folder_or_its_file(folder):
    path = write(folder, edit())
    assert load_job(path).name == "job"
    (folder / "night.toml").write_text("", "utf-8")
    assert load_job(folder / "night.toml").name == "night"


def test_images_and_masks_may_lie_elsewhere(folder, tmp_path):
    (tmp_path / "masks").mkdir()
    (folder / "mask.png").rename(tmp_path / "masks" / "m.png")
    job_folder = tmp_path / "elsewhere"
    job_folder.mkdir()
    toml = 'image_root = "../job"\nmask_root = "../masks"\n'
    assert len(load_job(write(job_folder, edit(mask="m.png"), toml=toml)).edits) == 1


def test_a_model_beside_the_job_is_found_and_a_hub_id_is_kept(folder):
    (folder / "sd15").mkdir()
    toml = 'model = "sd15"\nsegmenter = "facebook/sam2.1-hiera-tiny"\n'
    (found,) = load_job(write(folder, edit(), toml=toml)).edits
    assert found.model == str((folder / "sd15").resolve())
    assert found.segmenter == "facebook/sam2.1-hiera-tiny"
    assert found.config.dtype == "bfloat16"


def test_colors_count_as_they_are_shown_and_their_conversion_is_noted(folder):
    pixels = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)
    wide = matrix_profile(((0.52, 0.24, 0), (0.29, 0.69, 0.04), (0.16, 0.07, 0.78)), 2.2, "Wide")
    Image.fromarray(pixels).save(folder / "bare.png")
    Image.fromarray(pixels).save(folder / "wide.png", icc_profile=wide)
    job = load_job(write(folder, *(edit(name, image=f"{name}.png") for name in ("bare", "wide"))))
    bare, tagged = job.edits
    assert bare.image.digest != tagged.image.digest
    assert bare.notes == ()
    assert tagged.notes == ('color profile "Wide": converted to sRGB',)


def test_the_pixel_limit_of_a_job_holds_for_images_and_masks(folder):
    lines = edit(), edit("masked", mask="mask.png")
    few = load_job(write(folder, *lines, toml=f"pixel_limit = {64 * 48 - 1}"))
    assert [bad.id for bad in few.bad] == ["cat", "masked"]
    assert "set pixel_limit = 3072, or shrink it" in few.bad[0].reason
    enough = load_job(write(folder, *lines, toml=f"pixel_limit = {64 * 48}"))
    assert not enough.bad
    for limit in ("0", "2_000_000_000", "64.0"):
        with pytest.raises(InvalidEdit, match="pixel_limit"):
            load_job(write(folder, *lines, toml=f"pixel_limit = {limit}"))


def test_one_image_makes_a_job_of_one_edit(folder, tmp_path):
    job = single_edit(
        folder / "cat.png",
        [Drag(ImagePoint(10, 12), ImagePoint(30, 12))],
        prompt="a cat",
        mask=folder / "mask.png",
        spec=JobSpec(lora="off", image_root="unused"),
    )
    (found,) = job.edits
    assert (found.id, found.prompt, found.lora) == ("cat", "a cat", "off")
    assert found.mask_path == (folder / "mask.png").resolve()
    with pytest.raises(InvalidEdit, match=r"lies outside the 64x48 image"):
        single_edit(folder / "cat.png", [Drag(ImagePoint(10, 12), ImagePoint(300, 12))])


def test_settings_of_sampling_that_nothing_reads_are_noted(folder):
    toml = 'preset = "paste"\n[sample_image]\nhole_rounds = 5\nhold_background = true\n'
    own = {"sample_image": {"holes": "paint", "composite": True}}
    smooth, painted = load_job(write(folder, edit("a"), edit("b", settings=own), toml=toml)).edits
    held = 'sample_image.hold_background is not used, because the method is "warp"'
    rounds = 'sample_image.hole_rounds is not used, because sample_image.holes is "smooth"'
    assert smooth.notes == (held, rounds)
    assert painted.notes == (held,)
    (dragged,) = load_job(write(folder, edit("c", settings=own), toml='preset = "paper"\n')).edits
    why = 'is not used, because the method is "optimization"'
    assert dragged.notes == (f"sample_image.holes {why}",)


def test_settings_of_another_drag_method_are_noted_and_those_of_none_refused(folder):
    toml = 'preset = "plus"\n[optimize_latent]\nsteps = 5\n'
    own = {"optimize_latent": {"patience": 3}}
    plain, more = load_job(write(folder, edit("a"), edit("b", settings=own), toml=toml)).edits
    assert plain.config == PRESETS["plus"]
    why = 'is not used, because the method is "warp"'
    assert plain.notes == (f"optimize_latent.steps {why}",)
    assert more.notes == (f"optimize_latent.steps {why}", f"optimize_latent.patience {why}")
    named = (
        'preset = "plus"\n[optimize_latent]\nmethod = "optimization"\nsteps = 5\nmax_steps = 9\n'
    )
    (chosen,) = load_job(write(folder, edit("a"), toml=named)).edits
    assert (chosen.config.optimize_latent.steps, chosen.notes) == (5, ())
    with pytest.raises(InvalidEdit, match="the method 'warp' has no such setting"):
        load_job(write(folder, edit("a"), toml=toml.replace("steps", "stops")))


def test_a_large_job_decodes_each_image_once_and_loads_neither_torch_nor_prefect(folder):
    path = write(folder, *(edit(f"edit-{number}") for number in range(1000)))
    check = (
        "import sys\nfrom pathlib import Path\nfrom PIL import Image\n"
        "from stages.jobs import reader\n"
        "decoded = []\noriginal = Image.open\n"
        "Image.open = lambda *a, **o: (decoded.append(a), original(*a, **o))[1]\n"
        f"found = reader.load_job(Path({str(path)!r}))\n"
        "print(len(found.edits), len(decoded), 'torch' in sys.modules, 'prefect' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1000", "1", "False", "False"]
