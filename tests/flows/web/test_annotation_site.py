"""What the page's server answers, and what it refuses in one line."""

import io
import json
import time
from functools import partial

import httpx
import pytest
from PIL import Image
from support.served import served
from support.tiny_job import write_job
from support.tiny_models import shared_model

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from flows.web import serving
from flows.web.annotating import annotation_site
from stages.jobs.annotations import Annotations
from stages.workbench import Workbench

DIVERGING = {"train_lora": {"learning_rate": 1e30}}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "job"
    return write_job(folder, shared_model(), **{"edit-0-0": DIVERGING})


@pytest.fixture(scope="module")
def client(job):
    tmp_path = job.parent.parent
    (tmp_path / "secret.png").write_bytes((job.parent / "0.png").read_bytes())
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    Image.new("RGB", (64, 40), "red").save(job.parent / "turned.tif", exif=turned)
    with (job.parent / "edits.jsonl").open("a") as file:
        twice = {"id": "twice", "image": "turned.tif", "drags": []}
        file.write(f"{json.dumps(twice)}\n{json.dumps({**twice, 'prompt': 'p'})}\nno JSON\n")
    bench = partial(Workbench, ArtifactStore.open(tmp_path / "store"), Runtime(threads=1))
    with (
        served(annotation_site(Annotations.open(job), bench)) as site,
        httpx.Client(base_url=site.address) as client,
    ):
        yield client


def test_a_picture_is_served_as_edits_see_it(client):
    info = client.get("image?name=turned.tif").json()
    assert (info["width"], info["height"]) == (40, 64)
    png = client.get("picture.png?name=turned.tif")
    with Image.open(io.BytesIO(png.content)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (40, 64), "RGB")
        assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_what_is_wrong_with_an_edit_stands_at_it(client):
    *_, first, second, broken = client.get("job").json()["edits"]
    assert "broken JSON" in broken["problem"]
    said = client.get("image?name=turned.tif").json()["edits"]
    assert {*said} == {first["name"], second["name"]}
    assert all("drags is empty" in each["problem"] for each in said.values())
    drags = [{"handle": [1, 1], "target": [9, 9]}]
    change = {"before": first["fields"], "after": {**first["fields"], "drags": drags}}
    client.post("save", json={"changes": [{"name": first["name"], **change}]})
    said = client.get("image?name=turned.tif").json()["edits"]
    assert "id twice is used in more than one line: rename it" in str(said)


@pytest.mark.parametrize("image", ["", ".", "/", "a/..", "x" * 10_000, "\0.png"])
def test_no_name_of_a_picture_keeps_the_page_from_its_edits(client, job, image):
    before = (job.parent / "edits.jsonl").read_bytes()
    with (job.parent / "edits.jsonl").open("a") as file:
        file.write(json.dumps({"id": "odd", "image": image, "drags": []}) + "\n")
    named = {each["name"] for each in client.get("job").json()["images"]}
    assert named >= {"0.png", image}
    assert client.get("image", params={"name": image}).status_code == 422
    (job.parent / "edits.jsonl").write_bytes(before)


def test_a_number_that_no_page_can_read_is_told(client, job):
    before = (job.parent / "edits.jsonl").read_bytes()
    with (job.parent / "edits.jsonl").open("a") as file:
        drags = '[{"handle": [1e400, 1], "target": [1, 1]}]'
        file.write(f'{{"id": "far", "image": "0.png", "drags": {drags}}}\n')
    answer = client.get("job")
    assert "Infinity" not in answer.text
    assert answer.json()["edits"][-1] == {
        "name": "far",
        "problem": "far: a number is too large: correct it",
    }
    (job.parent / "edits.jsonl").write_bytes(before)


def test_a_body_that_is_too_large_is_refused(client, monkeypatch):
    monkeypatch.setattr(serving, "LARGEST_BODY", 1000)
    answer = client.post("save", content=b"x" * 1001)
    assert (answer.status_code, answer.text) == (413, "the request is too large")


@pytest.mark.parametrize(
    "path",
    [
        "picture.png?name=../secret.png",
        "picture.png?name=%2Fetc%2Fpasswd",
        "picture.png?name=edits.jsonl",
        "mask.png?name=../secret.png",
        "mask.png?name=job.toml",
        "image?name=",
        "tried.png",
        "trial",
    ],
)
def test_what_is_not_there_to_be_seen_is_refused_in_one_line(client, path):
    answer = client.get(path)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cannot be used"),
        (b"\xff", "cannot be used"),
        (b"[" * 100_000, "cannot be used"),
        (b"[]", "cannot be used"),
        (b'{"changes": 7}', "changes = 7 cannot be used"),
        (b'{"changes": [], "path": "/etc"}', "unknown key 'path'"),
        (b'{"changes": [{"name": "x", "before": null, "after": {}, "mask": "?"}]}', "mask"),
        (b'{"changes": [{"name": "x", "before": null, "after": {}, "mask": "A"}]}', "mask"),
        (b'{"changes": [{"name": "x", "before": null, "after": null}]}', "'x' is of nothing"),
        (b'{"changes": [{"name": "x", "before": null, "after": {"lora": "/x"}}]}', "may change id"),
    ],
)
def test_a_body_of_another_form_is_refused_in_one_line(client, body, reason):
    answer = client.post("save", content=body)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]


def test_an_edit_that_cannot_be_done_is_neither_previewed_nor_tried(client):
    fields = {"id": "x", "image": "0.png", "drags": [{"handle": [900, 1], "target": [1, 1]}]}
    asked = {"name": "x", "fields": fields}
    assert "lies outside the 128x128 image" in client.post("preview", json=asked).json()["problem"]
    refused = client.post("try", json=asked)
    assert refused.status_code == 422
    assert "lies outside" in refused.json()["error"]


def test_an_edit_that_fails_says_where_and_why(client):
    edit, *_ = client.get("job").json()["edits"]
    assert client.post("try", json=edit).json()["id"] == "edit-0-0"
    again = client.post("try", json=edit)
    assert "edit-0-0 is being made: wait, or stop it" in again.json()["error"]
    assert client.get("job").json()["trying"] == "edit-0-0"
    while not (trial := client.get("trial").json()).get("is_over"):
        time.sleep(0.05)
    assert trial["reason"].startswith("train_lora: ")
    assert client.get("job").json()["trying"] is None
    assert "verdict" not in trial
    assert "no edit was made" in client.get("tried.png").json()["error"]
