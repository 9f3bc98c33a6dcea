import io
import json
import os
import pickle
import pickletools
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.presets import DEFAULT_PRESET, PRESETS
from adaptivedrag.scenes import benchmark_scene, drags, render
from stages.jobs.importers import import_drag100, import_dragbench, import_dragscenes
from stages.jobs.importers.dragbench import load_arrays
from stages.jobs.reader import load_job

PROJECT = Path(__file__).parents[3]
DATA = Path(os.environ.get("ADAPTIVEDRAG_DATA", PROJECT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def published(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is absent: set ADAPTIVEDRAG_DATA to the folder of the datasets")
    return DATA / name


def sample(folder: Path, meta: object, protocol: int = 4) -> Path:
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(folder / "original_image.png")
    data = meta if isinstance(meta, bytes) else pickle.dumps(meta, protocol=protocol)
    (folder / "meta_data.pkl").write_bytes(data)
    return folder


def good_meta() -> dict[str, object]:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:9, 20:30] = 1
    return {"prompt": "a cat", "points": [[3, 4], [30, 8]], "mask": mask}


class Calling:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("core", ["core", "_core"])
def test_arrays_are_read_under_the_names_of_numpy_1_and_2(tmp_path, protocol, core):
    arrays = {
        "flags": np.eye(3, dtype=bool),
        "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        "big_endian": np.arange(4, dtype=">i4"),
        "number": np.float64(2.5),
        "nested": [(1, None), {"a": "b"}],
    }
    data = pickle.dumps(arrays, protocol=protocol)
    if protocol == 3:  # protocol 4 writes the length of names
        data = data.replace(b"numpy._core", b"numpy." + core.encode())
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    found = load_arrays(path)
    for name in ("flags", "fortran", "big_endian"):
        assert np.array_equal(found[name].values, arrays[name])
    assert found["number"] == 2.5
    assert found["nested"] == arrays["nested"]


def by_numpy_1() -> bytes:
    """A pickle as numpy 1 writes it: the same but for a module's name."""
    return pickle.dumps(good_meta(), protocol=3).replace(b"numpy._core", b"numpy.core")


HOSTILE = {
    "os.system": (pickle.dumps(Calling(os.system, "touch hacked")), "posix.system"),
    "eval": (pickle.dumps(Calling(eval, "1")), "builtins.eval"),
    "old protocol": (pickle.dumps(Calling(os.system, "touch hacked"), 0), "posix.system"),
    "numpy's loader": (pickle.dumps(Calling(np.load, "x.npy")), "names numpy.load"),
    "attribute of numpy": (b"\x80\x04\x8c\x05numpy\x8c\x0ctesting.main\x93.", "numpy.testing.main"),
    "old-style class": (b"(S'ls'\nios\nsystem\n.", "names os.system"),
    "persistent id": (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent"),
    "a codec": (pickle.dumps(Calling(__import__("_codecs").encode, "x", "hex")), "_codecs.encode"),
    "objects": (pickle.dumps(np.array([{}, []], dtype=object)), "array of type"),
    "bytes of gigabytes": (b"\x80\x04\x8e\xff\xff\xff\xff\x0f\x00\x00\x00.", "skipped"),
    "truncated": (pickle.dumps(good_meta())[:100], "truncated"),
    "empty": (b"", "out of input"),
    "array of wrong size": (
        pickle.dumps(np.zeros(4, np.uint8)).replace(b"K\x04\x85", b"K\x09\x85"),
        "cannot reshape",
    ),
    "no dictionary": (pickle.dumps([1, 2]), "dictionary"),
    "no points": (pickle.dumps({"prompt": "a", "points": [], "mask": None}), "pairs"),
    "odd points": (pickle.dumps({"prompt": "a", "points": [[1, 2]], "mask": None}), "pairs"),
    "NaN point": (
        pickle.dumps({"prompt": "a", "points": [[1, float("nan")], [2, 3]]}),
        "not a coordinate",
    ),
    "mask of three axes": (
        pickle.dumps({"prompt": "a", "points": [[1, 2], [2, 3]], "mask": np.zeros((2, 2, 2))}),
        "rows and columns",
    ),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_bad_sample_is_skipped_with_one_line_and_does_nothing(
    tmp_path, monkeypatch, data, reason
):
    monkeypatch.chdir(tmp_path)
    sample(tmp_path / "bench" / "animals" / "bad", data)
    sample(tmp_path / "bench" / "animals" / "good", good_meta())
    done = import_dragbench(tmp_path / "bench")
    assert done.images == 1
    (line,) = done.skipped
    assert reason in line
    assert str(tmp_path / "bench" / "animals" / "bad") in line
    assert "\n" not in line
    assert not (tmp_path / "hacked").exists()


def test_the_hostile_pickles_are_what_they_claim_to_be():
    names = [op.name for op, _, _ in pickletools.genops(io.BytesIO(HOSTILE["os.system"][0]))]
    assert "REDUCE" in names


def test_an_imported_job_loads_with_its_masks(tmp_path):
    sample(tmp_path / "bench" / "animals" / "one", good_meta())
    sample(tmp_path / "bench" / "art" / "two", by_numpy_1())
    done = import_dragbench(tmp_path / "bench")
    assert (done.images, done.drags, done.skipped) == (2, 2, ())
    assert done.job == tmp_path / "bench" / "job.toml"
    job = load_job(done.job)
    assert [(edit.id, edit.tags) for edit in job.edits] == [
        ("animals.one", ("animals",)),
        ("art.two", ("art",)),
    ]
    mask = np.asarray(Image.open(tmp_path / "bench" / "user_mask" / "animals.one.png"))
    assert np.array_equal(mask > 0, good_meta()["mask"])
    assert job.edits[0].mask_digest == job.edits[1].mask_digest is not None
    assert job.edits[0].config.build_mask.mode == PRESETS[DEFAULT_PRESET].build_mask.mode
    assert job.edits[0].notes == ("its mask is left aside, because use_mask is false",)
    assert "\n# The benchmark's protocol has no masks" in done.job.read_text()


def test_the_job_can_be_written_beside_the_dataset(tmp_path):
    sample(tmp_path / "bench" / "animals" / "one", good_meta())
    done = import_dragbench(tmp_path / "bench", tmp_path / "out")
    assert {path.name for path in (tmp_path / "bench").iterdir()} == {"animals"}
    assert len(load_job(done.job).edits) == 1


@pytest.mark.parametrize("name", ["🌸", 'a "quoted" one', "a\x7fb"])
def test_a_dataset_in_a_folder_of_any_name_makes_a_job_that_loads(tmp_path, name):
    sample(tmp_path / name / "animals" / "one", good_meta())
    done = import_dragbench(tmp_path / name, tmp_path / "out")
    text = done.job.read_text("utf-8")
    assert tomllib.loads(text)["image_root"] == str(tmp_path / name)


def test_a_dataset_in_a_folder_whose_name_is_not_utf_8_is_refused_in_one_line(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    sample(folder / "animals" / "one", good_meta())
    with pytest.raises(InvalidEdit, match="is not UTF-8: rename it"):
        import_dragbench(folder, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    sample(tmp_path / "bench" / "animals" / "one", good_meta())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidEdit, match=r"cannot be written .* --out"):
        import_dragbench(tmp_path / "bench", tmp_path / "file" / "out")


def test_a_folder_without_samples_is_refused(tmp_path):
    with pytest.raises(InvalidEdit, match=r"no folder under it has a meta_data\.pkl"):
        import_dragbench(tmp_path)
    with pytest.raises(InvalidEdit, match="not a folder"):
        import_drag100(tmp_path / "none")


def test_a_broken_list_of_points_is_skipped(tmp_path):
    for name, text in {"bad_0": "{", "bad_1": '{"points": 3}', "good_2": "[]"}.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 48)).save(tmp_path / name / "original.jpg")
        (tmp_path / name / "points.json").write_text(text)
    (tmp_path / "good_2" / "points.json").write_text(json.dumps({"points": [[1, 2], [3, 4]]}))
    done = import_drag100(tmp_path)
    assert (done.images, len(done.skipped)) == (1, 2)
    assert load_job(done.job).edits[0].tags == ("good",)


def test_the_dragbench_subset_is_imported_whole(tmp_path):
    done = import_dragbench(published("dragbench-subset"), tmp_path / "out")
    assert (done.images, done.drags, done.skipped) == (40, 71, ())
    job = load_job(done.job)
    assert len(job.edits) == 40
    assert not job.bad
    assert all(edit.prompt and edit.mask_digest for edit in job.edits)


def test_the_drag100_subset_is_imported_in_place(tmp_path):
    shutil.copytree(published("drag100-subset"), tmp_path / "drag100", copy_function=shutil.copy)
    os.chmod(tmp_path / "drag100", 0o755)
    done = import_drag100(tmp_path / "drag100")
    assert (done.images, done.drags, done.skipped) == (5, 14, ())
    job = load_job(done.job)
    assert len(job.edits) == 5
    assert not job.bad
    assert all(edit.mask_digest for edit in job.edits)


def test_scenes_become_pictures_true_masks_and_a_job(tmp_path):
    done = import_dragscenes(tmp_path, [(0, 0), (3, 1), (0, 1)], size=96)
    assert (done.images, done.skipped) == (2, ())
    job = load_job(done.job)
    assert not job.bad
    assert done.drags == sum(len(edit.drags) for edit in job.edits)
    assert [(edit.scene.number, edit.scene.drag) for edit in job.edits] == [(0, 0), (0, 1), (3, 1)]
    first, second, _ = job.edits
    assert (first.image_path, first.prompt) == (second.image_path, second.prompt)
    scene = benchmark_scene(0)
    drag = drags(scene)[1]
    before, after = render(scene, 96), render(drag.after, 96)
    assert np.array_equal(np.asarray(Image.open(second.image_path)), before.image)
    assert second.prompt == scene.caption()
    assert second.tags == (scene.kind, drag.kind)
    mask = np.asarray(Image.open(second.mask_path)) > 0
    assert np.array_equal(mask, before.mask(drag.part) | after.mask(drag.part))
    written = [point for pair in second.drags for point in pair]
    true = [point for pair in drag.pixels(96) for point in pair]
    assert np.allclose(written, true, atol=0.005)


def test_an_import_of_scenes_again_leaves_the_files_as_they_are(tmp_path):
    import_dragscenes(tmp_path, [(0, 0)], size=96)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    import_dragscenes(tmp_path, [(0, 0)], size=96)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before


def test_scenes_that_cannot_be_are_refused_in_one_line(tmp_path):
    with pytest.raises(InvalidEdit, match=r"scene 0 has .* drags, and none is 50"):
        import_dragscenes(tmp_path, [(0, 50)], size=96)
    with pytest.raises(InvalidEdit, match="size 10 is out of range"):
        import_dragscenes(tmp_path, [(0, 0)], size=10)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidEdit, match="file cannot be written"):
        import_dragscenes(tmp_path / "file", [(0, 0)], size=96)
