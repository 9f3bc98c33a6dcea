"""Jobs that are written on a page: where they are, what is written, and what is refused."""

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from stages.jobs.annotations import Annotations, Painted
from stages.jobs.edit import BadEdit
from stages.jobs.edits_file import Change
from stages.jobs.reader import load_job

DRAGS = [{"handle": [10, 10], "target": [20, 12]}]


def picture(path, size=(48, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one in a folder of its own, with masks and results that are none to edit."""
    for name in ("a.png", "more/b.jpg", "user_mask/a.png", "results/job/images/a.png"):
        picture(tmp_path / "photos" / name)
    (tmp_path / "photos" / "results" / "job" / "results.jsonl").write_text("")
    return tmp_path / "photos"


def new(image, **fields):
    edit = {"id": "one", "image": image, "prompt": "", "drags": DRAGS, **fields}
    return Change("one", None, edit)


def painted(size=(48, 40), seen=None):
    """Return a mask of which the left half is painted, the edge of it lightly."""
    alpha = np.zeros((size[1], size[0], 4), np.uint8)
    alpha[:, : size[0] // 2, 3] = 255
    alpha[:, size[0] // 2, 3] = 100
    encoded = io.BytesIO()
    Image.fromarray(alpha).save(encoded, "PNG")
    return Painted(encoded.getvalue(), seen)


def test_a_folder_becomes_a_job_with_the_first_edit_and_is_gone_on_with(folder):
    opened = Annotations.open(folder)
    assert opened.images() == ["a.png", "more/b.jpg"]
    assert not (folder / "job.toml").exists()
    assert not isinstance(opened.edit("", new("more/b.jpg").after), BadEdit)
    opened.save([new("more/b.jpg")], {})
    (edit,) = load_job(folder / "job.toml").edits
    assert (edit.id, edit.image_path) == ("one", folder / "more" / "b.jpg")
    again = Annotations.open(folder)
    assert again.images() == ["a.png", "more/b.jpg"]
    assert [line.name for line in again.lines()] == ["one"]
    assert Annotations.open(folder / "a.png").first == "a.png"


def test_a_job_has_only_the_pictures_of_its_edits(folder):
    Annotations.open(folder).save([new("a.png")], {})
    assert Annotations.open(folder / "job.toml").images() == ["a.png"]
    Annotations.open(folder, folder.parent / "mine").save([new("a.png")], {})
    assert Annotations.open(folder.parent / "mine").images() == ["a.png"]


def test_a_job_elsewhere_leaves_its_pictures_alone(folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    opened = Annotations.open(folder, tmp_path / "mine" / "job")
    assert not isinstance(opened.edit("", new("a.png").after), BadEdit)
    opened.save([new("a.png")], {"one": painted()})
    (edit,) = load_job(tmp_path / "mine" / "job" / "job.toml").edits
    assert edit.image_path == folder / "a.png"
    assert edit.mask_path == tmp_path / "mine" / "job" / "user_mask" / "one.png"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_copy_of_a_job_elsewhere_keeps_its_settings_and_paths(folder, tmp_path):
    Annotations.open(folder).save([new("a.png")], {})
    settings = 'seed = 7\nimage_root = "."\n[[variants]]\nname = "other"\nseed = 8\n'
    (folder / "job.toml").write_text(settings)
    copy = Annotations.open(folder / "job.toml", tmp_path / "copy")
    job = load_job(copy.path)
    assert copy.path.parent == tmp_path / "copy"
    assert [edit.config.seed for edit in job.edits] == [7, 8]
    assert job.edits[0].image_path == folder / "a.png"


def test_painted_masks_are_those_of_a_job_and_never_replace_another(folder):
    opened = Annotations.open(folder)
    merged = opened.save([new("a.png")], {"one": painted()})
    assert not merged.conflicts
    (edit,) = load_job(opened.path).edits
    assert edit.config.build_mask.mode == "user"
    mask = np.asarray(Image.open(edit.mask_path))
    assert (mask[:, :24] == 255).all()
    assert (mask[:, 24:] == 0).all()
    fields = opened.lines()[0].edit
    again = Change("one", fields, fields)
    stale = opened.save([again], {"one": painted(seen=None)})
    assert [conflict.key for conflict in stale.conflicts] == ["mask"]
    assert opened.save([again], {"one": painted(seen=edit.mask_digest)}).conflicts == []
    assert opened.lines()[0].edit["mask"] == fields["mask"]
    shared = {**fields, "id": "two"}
    opened.save([Change("two", None, shared)], {})
    opened.save([again], {"one": painted(seen=edit.mask_digest)})
    masks = [line.edit["mask"] for line in opened.lines()]
    assert masks == ["user_mask/one-2.png", "user_mask/one.png"]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (Painted(b"no picture", None), "is no PNG"),
        (painted(size=(20, 20)), r"is 20x20 and its image 48x40"),
    ],
    ids=["bytes", "size"],
)
def test_a_mask_that_does_not_fit_is_refused_and_nothing_is_written(folder, mask, reason):
    with pytest.raises(InvalidEdit, match=reason):
        Annotations.open(folder).save([new("a.png")], {"one": mask})
    assert not (folder / "edits.jsonl").exists()


def test_what_leads_out_of_the_dataset_is_refused(folder, tmp_path):
    secret = picture(tmp_path / "secret.png")
    opened = Annotations.open(folder)
    (folder / "link.png").symlink_to(secret)
    for name in ("../secret.png", str(secret), "link.png", "", "a.png/../../secret.png", "\0"):
        with pytest.raises(InvalidEdit):
            opened.image(name)
    for path in (folder / "user_mask").iterdir():
        path.unlink()
    (folder / "user_mask").rmdir()
    (folder / "user_mask").symlink_to(tmp_path)
    with pytest.raises(InvalidEdit, match="is a link out of"):
        opened.save([new("a.png", id="secret2")], {"one": painted()})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "secret.png"]
    (tmp_path / "edits.jsonl").write_text("")
    (folder / "edits.jsonl").symlink_to(tmp_path / "edits.jsonl")
    with pytest.raises(InvalidEdit, match=r"is a link out of .* --out"):
        Annotations.open(folder)


def test_a_dataset_that_is_read_only_is_said_to_be_at_once():
    # Nobody may write there, not even root.
    with pytest.raises(InvalidEdit, match=r"/sys.* cannot be written \(.+\): .* --out"):
        Annotations.open(Path("/sys/kernel"))


@pytest.mark.parametrize("name", ["none", "none.toml"])
def test_what_is_not_there_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(InvalidEdit, match="does not exist: name a"):
        Annotations.open(tmp_path / name)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InvalidEdit, match="has no picture to annotate"):
        Annotations.open(tmp_path)


def test_many_writers_lose_no_edit(folder):
    opened = Annotations.open(folder)
    changes = [new("a.png", id=f"edit{number}") for number in range(8)]
    threads = [threading.Thread(target=opened.save, args=([each], {})) for each in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line.name for line in opened.lines()} == {f"edit{number}" for number in range(8)}


def test_an_edits_file_is_whole_at_every_moment(folder):
    """A writer that is killed leaves the old file or the new one."""
    opened = Annotations.open(folder)
    opened.save([new("a.png", prompt="x" * 9000)], {})
    writer = (
        "import sys; from pathlib import Path\n"
        "from stages.jobs.annotations import Annotations\n"
        "from stages.jobs.edits_file import Change\n"
        "opened = Annotations.open(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True:\n"
        "    was = opened.lines()[0].edit\n"
        "    now = {**was, 'prompt': ('y' if was['prompt'][0] == 'x' else 'x') * 9000}\n"
        "    opened.save([Change('one', was, now)], {})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, folder], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    for _ in range(50):
        (line,) = (folder / "edits.jsonl").read_text().splitlines()
        assert len(set(json.loads(line)["prompt"])) == 1
    process.kill()
    process.wait()
    process.stdout.close()
    (line,) = (folder / "edits.jsonl").read_text().splitlines()
    assert len(json.loads(line)["prompt"]) == 9000
