"""Files that a dataset names and that are not there, or only stand for others."""

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Drag, ImagePoint
from stages.jobs.image_folder import locate
from stages.jobs.reader import load_job, single_edit

DRAG = {"handle": [4, 5], "target": [6, 7]}
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "job"
    (root / "in").mkdir(parents=True)
    picture(root / "in" / "cat.png")
    return root


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(path, "PNG")


def job_of(folder: Path, image: str, toml: str = "") -> Path:
    line = {"id": "a", "image": image, "drags": [DRAG]}
    (folder / "edits.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    (folder / "job.toml").write_text(toml)
    return folder / "job.toml"


NAMES = {
    # name: (as it is written, what the line says)
    "other case": ("in/CAT.PNG", "did you mean 'in/cat.png'?"),
    "other case of a folder": ("In/cat.png", "did you mean 'in/cat.png'?"),
    "backslashes": ("in\\cat.png", "did you mean 'in/cat.png'?"),
    "backslashes to nothing": ("in\\dog.png", "with /"),
    "a drive": ("C:\\Users\\me\\in\\cat.png", "did you mean 'in/cat.png'?"),
    "another machine's folder": ("/home/me/set/in/cat.png", "lies outside"),
    "a home": ("~/in/cat.png", "did you mean 'in/cat.png'?"),
    "a home without it": ("~/dog.png", "~ is not expanded here"),
    "a URL": ("https://example.org/cat.png", "it is a URL, and only files are read"),
    "a bucket": ("s3://pictures/cat.png", "it is a URL, and only files are read"),
    "nothing": ("in/dog.png", "correct the path"),
    "the longest name": ("x" * 252, "correct the path"),
}


@pytest.mark.parametrize(("name", "said"), NAMES.values(), ids=NAMES)
def test_a_file_that_is_not_there_is_said_to_be_with_what_helps(folder, name, said):
    (bad,) = load_job(job_of(folder, name)).bad
    assert said in bad.reason
    assert bad.reason.isprintable()


@pytest.mark.parametrize(("there", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_found_however_a_system_writes_them(folder, there, named):
    name = "Café/naïve Übung.png"
    picture(folder / unicodedata.normalize(there, name))
    assert not load_job(job_of(folder, unicodedata.normalize(named, name))).bad


LINKS = {
    # name: (what the link names, what the line says)
    "git-annex": ("../../.git/annex/objects/x1/Zq/SHA256E-s9--0.png", "`git annex get pic.png`"),
    "a hub snapshot": ("../../blobs/0123abcd", "`hf download`"),
    "DVC": ("/cache/files/md5/ab/cdef", "`dvc pull`"),
    "anything": ("../elsewhere.png", "it is a link to ../elsewhere.png, which is not there"),
}


@pytest.mark.parametrize(("target", "said"), LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("follow", [False, True])
def test_a_link_to_nothing_is_named_with_what_fetches_it(folder, target, said, follow):
    (folder / "pic.png").symlink_to(target)
    (bad,) = load_job(job_of(folder, "pic.png", f"follow_links = {str(follow).lower()}")).bad
    assert said in bad.reason


def test_a_file_that_dvc_keeps_is_named_with_what_fetches_it(folder):
    (folder / "pic.png.dvc").write_text("outs:\n- path: pic.png\n")
    (folder / "photos.dvc").write_text("outs:\n- path: photos\n")
    for name in ("pic.png", "photos/dog.png"):
        (bad,) = load_job(job_of(folder, name)).bad
        assert "`dvc pull`" in bad.reason


STAND_INS = {
    "Git LFS": (LFS, "`git lfs pull`"),
    "git-annex": ("/annex/objects/SHA256E-s9--0.png\n", "`git annex get pic.png`"),
    "a web page": ("<!doctype html><html>404</html>", "is a web page"),
}


@pytest.mark.parametrize(("text", "said"), STAND_INS.values(), ids=STAND_INS)
def test_a_file_that_stands_for_another_is_named_with_what_fetches_that(folder, text, said):
    (folder / "pic.png").write_text(text)
    (bad,) = load_job(job_of(folder, "pic.png")).bad
    assert said in bad.reason


def test_links_out_of_the_folder_are_followed_where_the_job_says_so(folder, tmp_path):
    picture(tmp_path / "blobs" / "0123")
    picture(tmp_path / "photos" / "dog.png")
    (folder / "pic.png").symlink_to("../blobs/0123")
    (folder / "photos").symlink_to(tmp_path / "photos")
    for name in ("pic.png", "photos/dog.png"):
        (bad,) = load_job(job_of(folder, name)).bad
        assert "follow_links = true" in bad.reason
        assert "image_root" not in bad.reason
        (edit,) = load_job(job_of(folder, name, "follow_links = true")).edits
        assert edit.image_path == folder / name


def test_followed_links_lead_out_by_no_other_way(folder, tmp_path):
    picture(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path / "job")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "away/../../secret.png"):
        with pytest.raises(InvalidEdit, match="lies outside"):
            locate(folder, name, follow_links=True)


def test_the_image_of_a_single_edit_may_be_a_link(folder, tmp_path):
    picture(tmp_path / "blobs" / "0123")
    (folder / "pic.png").symlink_to("../blobs/0123")
    job = single_edit(folder / "pic.png", [Drag(ImagePoint(4, 5), ImagePoint(6, 7))])
    assert job.edits[0].image.width == 64
