"""Results as they come: pictures, lines and a page, whole or not at all, and never taken away."""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.finished_job import CIRCUMSTANCES, finish, write_job
from support.s3_server import BUCKET

from adaptivedrag.errors import InvalidEdit
from artifacts import Action, ArtifactStore, Document, digest_bytes, digest_json
from stages.evaluate import STAGE_VERSION
from stages.failures import Failure
from stages.jobs.edit import Job
from stages.jobs.reader import load_job
from stages.planning.plan import plan_edits
from stages.reports.panel import write_panel
from stages.reports.place import ReportUnwritable
from stages.reports.results import Results
from stages.reports.tiles import mask_tile

NOT_FINITE = Failure("edit-1", "optimize_latent", "NotFinite", "the loss is not finite at step 3")


def write_results(
    job: Job, store: ArtifactStore, out: Path, failures: Sequence[Failure] = ()
) -> dict[str, str]:
    return Results.open(job, store, out).finish(plan_edits(job.edits, store), failures)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path):
    return ArtifactStore.open(tmp_path / "store")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def s3_url(s3_port, monkeypatch):
    """An address of object storage, as users have it with their settings in the environment."""
    settings = {
        "AWS_ENDPOINT": f"http://127.0.0.1:{s3_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4()}"


def rows(out: Path) -> dict[str, dict]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def shown(out: Path) -> dict[str, dict]:
    """Read what the page gets of each edit, by id."""
    found = {}
    for path in sorted((out / "data").glob("*.js")):
        start, end = f"rows({int(path.stem)}, ", ");\n"
        text = path.read_text("ascii")
        assert text.startswith(start)
        assert text.endswith(end)
        rows = json.loads(text.removeprefix(start).removesuffix(end))
        found |= {row["id"]: row for row in rows}
    return found


def states(out: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix in (".png", ".jpg")]
    return {
        str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files
    }


def test_a_report_has_images_a_row_and_a_page_for_each_edit(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    for number, edit in enumerate(job.edits):
        finish(edit, store, shade=100 + number)
    write_results(job, store, out)
    assert (out / "index.html").is_file()
    for number, name in enumerate(("edit-0", "edit-1")):
        pixels = np.asarray(Image.open(out / "images" / f"{name}.png"))
        assert pixels.shape == (64, 96, 3)
        assert (pixels == 100 + number).all()
        row = rows(out)[name]
        assert (row["status"], row["verdict"], row["steps"]) == ("done", "stalled", 11)
        assert row["seconds"] == pytest.approx(10.5)
        assert set(row["keys"]) == set(row["stage_seconds"])
        assert len(row["keys"]) == 7


def test_the_page_refers_to_nothing_but_its_own_files(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    for edit in job.edits:
        finish(edit, store)
    write_results(job, store, out)
    text = (out / "index.html").read_text("utf-8")
    links = [link for link in re.findall(r'(?:src|href)="([^"#]+)"', text) if link != "data:,"]
    assert "assets/page.css" in links
    links += re.findall(r"data/[0-9]+\.js", text)
    for row in shown(out).values():
        pictures = [row["image"], row["source"], *row["overlays"].values(), *row["thumbs"].values()]
        assert len(pictures) == 1 + 1 + 3 + 2
        links += pictures
    assert all((out / link).is_file() for link in links)
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert shown(out)["edit-0"]["prompt"] == "a <b>cat</b>"


def test_the_page_says_which_stage_is_off_and_why(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job", edits=1, toml='lora = "auto"\n'))
    (edit,) = job.edits
    warp = replace(edit, config=edit.config.merged({"optimize_latent": {"method": "warp"}}))
    off = {
        "train_lora": "no model makes the picture",
        "invert_image": 'the method "warp" moves the picture',
    }
    for each, expected in ((warp, off), (edit, {})):
        finish(each, store)
        write_results(replace(job, edits=(each,)), store, out)
        (row,) = rows(out).values()
        assert row["off"] == expected
        assert shown(out)[edit.id].get("off", {}) == expected


def test_edits_that_failed_are_there_with_their_reason(tmp_path, store, out):
    path = write_job(tmp_path / "job", edits=3)
    with path.with_name("edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "<script>.png", "drags": []}\n')
    job = load_job(path)
    finish(job.edits[0], store)
    finish(job.edits[1], store, until="build_mask")
    write_results(job, store, out, [NOT_FINITE])
    text = unescape((out / "index.html").read_text("utf-8"))
    found = rows(out)
    statuses = [found[name]["status"] for name in job.order]
    assert statuses == ["done", "failed", "unfinished", "bad"]
    assert found["edit-1"]["reason"].startswith("optimize_latent: NotFinite: the loss")
    assert "drags is empty" in found["worse"]["reason"]
    failure = {"stage": "optimize_latent", "kind": "NotFinite"}
    assert found["edit-1"]["failure"] == {**failure, "message": "the loss is not finite at step 3"}
    assert "<b>1</b> in optimize_latent: NotFinite:" in text
    assert "the loss is not finite at step 3</span>" in text
    assert "drags is empty" in text
    assert "<script>" not in text
    assert [each["advice"] for each in found.values()] == ["drop", "again", "wait", "fix"]
    overlays = found["edit-1"]["overlays"]
    assert (out / overlays["mask"]).is_file()
    assert overlays["paths"] is None
    assert [path.name for path in (out / "images").iterdir()] == ["edit-0.png"]


def test_a_result_without_a_witness_is_there_and_says_so(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job", edits=2))
    for edit in job.edits:
        finish(edit, store, until="sample_image")
    write_results(job, store, out, [Failure("edit-1", "locate_handles", "NotFinite", "too wide")])
    reasons = "not made", "locate_handles: NotFinite: too wide"
    for row, reason in zip(rows(out).values(), reasons, strict=True):
        assert (row["status"], row["verdict"], row["points"]) == ("done", None, [])
        assert row["not_witnessed"] == reason
        assert row["tracker"]["verdict"] == "reached"
        assert (out / row["image"]).is_file()
    assert {row["verdict"] for row in shown(out).values()} == {"not witnessed"}
    sentence = "No witness has seen where the handles are: locate_handles: NotFinite: too wide."
    assert shown(out)["edit-1"]["sentence"] == sentence
    assert '<a href="#verdict=not%20witnessed">' in (out / "index.html").read_text("utf-8")
    for edit in job.edits:
        finish(edit, store)
    write_results(job, store, out)
    assert [row["verdict"] for row in rows(out).values()] == ["stalled", "stalled"]
    assert {row["tracker"] for row in shown(out).values()} == {"reached"}


def test_a_second_report_of_the_same_results_writes_no_picture(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    for edit in job.edits:
        finish(edit, store)
    write_results(job, store, out)
    first, table = states(out), (out / "results.jsonl").read_bytes()
    write_results(job, store, out)
    assert states(out) == first
    shared = ("source", "before", "after", "superpixels", "mask")  # both results look the same
    assert len(first) == 2 + 2 + len(shared)
    assert (out / "results.jsonl").read_bytes() == table


def test_a_result_that_was_made_anew_is_written_anew(tmp_path, store, out):
    path = write_job(tmp_path / "job")
    toml = path.read_text()
    for temperature, shade in ((0.1, 10), (0.2, 20)):
        path.write_text(f"{toml}[sample_image]\ncorrespondence_temperature = {temperature}\n")
        job = load_job(path)
        for edit in job.edits:
            finish(edit, store, shade=shade)
        write_results(job, store, out)
        assert np.asarray(Image.open(out / "images" / "edit-1.png"))[0, 0, 0] == shade


def test_a_lost_picture_is_written_again_and_an_old_one_is_removed(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    finish(job.edits[0], store)
    write_results(job, store, out)
    before = states(out)
    for path in (out / name for name in before):
        path.unlink()
    (out / "thumbs" / f"{'0' * 32}.jpg").write_bytes(b"old")
    write_results(job, store, out)
    assert states(out).keys() == before.keys()


def test_pictures_that_are_not_ours_are_left_alone(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    finish(job.edits[0], store)
    write_results(job, store, out)
    (out / "thumbs" / "mine.jpg").write_bytes(b"mine")
    (out / "images" / "edit-1.png").write_bytes(b"mine, and edit-1 was never done")
    write_results(job, store, out)
    assert (out / "thumbs" / "mine.jpg").is_file()
    assert (out / "images" / "edit-1.png").is_file()


def test_results_never_take_the_place_of_inputs(tmp_path, store):
    job = load_job(write_job(tmp_path / "job"))
    same = replace(job.edits[0], id="same", image_path=tmp_path / "images" / "same.png")
    with pytest.raises(InvalidEdit, match=r"would replace .*same\.png: name another --out"):
        Results.open(replace(job, edits=(same,)), store, tmp_path)


def test_a_place_in_the_store_or_of_another_job_is_refused(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    with pytest.raises(InvalidEdit, match="lies in the store"):
        Results.open(job, store, tmp_path / "store" / "results")
    write_results(job, store, out)
    other = load_job(write_job(tmp_path / "elsewhere" / "job"))
    with pytest.raises(InvalidEdit, match=r"results of another job, .*job\.toml, which would be"):
        Results.open(other, store, out)
    with pytest.raises(InvalidEdit, match="lies in the results of another job"):
        Results.open(other, store, out / "images")


def test_a_job_that_was_moved_keeps_its_results(tmp_path, store, out):
    path = write_job(tmp_path / "job")
    write_results(load_job(path), store, out)
    path.parent.rename(tmp_path / "moved")
    write_results(load_job(tmp_path / "moved" / "job.toml"), store, out)
    owner = json.loads((out / "job.json").read_text())
    assert owner["path"] == str(tmp_path / "moved" / "job.toml")


def test_a_result_and_its_line_are_there_as_soon_as_its_edit_is_done(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    results = Results.open(job, store, out)
    results.begin(plan_edits(job.edits, store))
    assert [row["status"] for row in rows(out).values()] == ["unfinished", "unfinished"]
    finish(job.edits[0], store, shade=99)
    results.put(plan_edits(job.edits[:1], store)[0])
    results.renew_page("This run goes on.")
    assert (np.asarray(Image.open(out / "images" / "edit-0.png")) == 99).all()
    assert rows(out)["edit-0"]["status"] == "done"
    page = (out / "index.html").read_text("utf-8")
    assert "This run goes on." in page
    assert shown(out)["edit-0"]["image"] == "images/edit-0.png"
    results.finish(plan_edits(job.edits, store))
    assert "This run goes on." not in (out / "index.html").read_text("utf-8")


def test_two_processes_at_work_keep_each_others_lines(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    ours, theirs = Results.open(job, store, out), Results.open(job, store, out)
    for results, edit in ((ours, job.edits[0]), (theirs, job.edits[1])):
        results.begin(plan_edits([edit], store))
    for results, edit in ((ours, job.edits[0]), (theirs, job.edits[1])):
        finish(edit, store)
        results.put(plan_edits([edit], store)[0])
    ours.finish(plan_edits(job.edits[:1], store))
    assert {row["status"] for row in rows(out).values()} == {"done"}


def test_results_on_object_storage_are_those_of_a_folder(tmp_path, store, out, s3_url):
    job = load_job(write_job(tmp_path / "job"))
    for edit in job.edits:
        finish(edit, store)
    results = Results.open(job, store, f"{s3_url}/results")
    results.put(plan_edits(job.edits, store)[0])
    names = results.place.stamps("rows")
    assert list(names) == ["rows/edit-0.json"]
    results.finish(plan_edits(job.edits, store))
    write_results(job, store, out)
    for path in ("images/edit-0.png", "images/edit-1.png", "index.html", "data/0001.js"):
        assert results.place.get(path) == (out / path).read_bytes()
    lines = results.place.get("results.jsonl").decode().splitlines()
    assert {json.loads(line)["id"] for line in lines} == {"edit-0", "edit-1"}
    assert not results.place.stamps("rows")


def test_a_picture_stays_with_a_badge_until_its_successor_is_there(tmp_path, store, out):
    path = write_job(tmp_path / "job", edits=1)
    toml = path.read_text()
    finish(load_job(path).edits[0], store, shade=10)
    write_results(load_job(path), store, out)
    path.write_text(f"{toml}[sample_image]\ncorrespondence_temperature = 0.2\n")
    changed = load_job(path)
    write_results(changed, store, out)
    row = rows(out)["edit-0"]
    assert (row["status"], row["earlier"]) == ("unfinished", True)
    assert (np.asarray(Image.open(out / row["image"])) == 10).all()
    assert shown(out)["edit-0"]["earlier"] is True
    assert "made with earlier settings" in shown(out)["edit-0"]["sentence"]
    write_results(changed, store, out, [replace(NOT_FINITE, id="edit-0")])
    assert (out / "images" / "edit-0.png").is_file()
    finish(changed.edits[0], store, shade=20)
    write_results(changed, store, out)
    assert "earlier" not in rows(out)["edit-0"]
    assert (np.asarray(Image.open(out / "images" / "edit-0.png")) == 20).all()


def test_a_picture_that_something_else_has_changed_is_written_again(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    for edit in job.edits:
        finish(edit, store)
    write_results(job, store, out)
    path = out / "images" / "edit-0.png"
    kept = path.read_bytes()
    path.write_bytes(b"something else")
    write_results(job, store, out)
    assert path.read_bytes() == kept


def test_a_damaged_result_is_not_passed_off_as_done(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job", edits=1))
    record = finish(job.edits[0], store)["sample_image"]
    (picture,) = (tmp_path / "store").rglob(f"{record.object}/image.png")
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    write_results(job, store, out)
    row = rows(out)["edit-0"]
    assert row["status"] == "failed"
    assert "run again" in row["reason"]
    assert not (out / "images" / "edit-0.png").exists()


def test_a_run_of_some_edits_keeps_the_rows_of_the_others(tmp_path, store, out):
    path = write_job(tmp_path / "job", edits=3)
    job = load_job(path)
    for edit in job.edits:
        finish(edit, store)
    write_results(job, store, out, [replace(NOT_FINITE, id="edit-2")])
    write_results(load_job(path, select=["even"]), store, out)
    assert list(rows(out)) == ["edit-0", "edit-1", "edit-2"]
    assert {row["status"] for row in rows(out).values()} == {"done"}
    kept = states(out)
    write_results(replace(job, edits=job.edits[:1]), store, out)
    assert states(out) == kept


def test_a_report_has_the_scores_that_an_evaluation_has_kept(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job"))
    records = [finish(edit, store)["sample_image"] for edit in job.edits]
    edit = job.edits[0]
    inputs = {
        "image": edit.image.digest,
        "prompt": digest_bytes("prompt", edit.prompt.encode()),
        "drags": digest_json("drags", edit.points),
        "sample_image": records[0].logical,
    }
    action = Action("evaluate", STAGE_VERSION, {}, inputs, {})
    found = {"kind": "", "measures": {"preservation": [31.5], "arrival_recovery": [None, 0.25]}}
    store.publish(action, {"found": Document(found)}, CIRCUMSTANCES, found)
    results, plans = Results.open(job, store, out), plan_edits(job.edits, store)
    results.finish(plans)
    assert [row["score"] for row in rows(out).values()] == [None, None]
    results.finish(plans, scored=True)
    assert [row["score"] for row in rows(out).values()] == [0.25, None]
    assert shown(out)["edit-0"]["scored_by"] == "arrival_recovery"
    Results.open(job, store, out).finish(plans)
    assert rows(out)["edit-0"]["score"] == 0.25


def test_a_folder_that_cannot_be_written_is_named(tmp_path, store):
    job = load_job(write_job(tmp_path / "job"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReportUnwritable, match="another folder with --out"):
        write_results(job, store, tmp_path / "file" / "out")


def test_pictures_say_that_they_are_srgb_and_the_store_keeps_its_bytes(tmp_path, store, out):
    job = load_job(write_job(tmp_path / "job", 1))
    record = finish(job.edits[0], store)["sample_image"]
    write_results(job, store, out)
    panel = write_panel(job.edits[0], store, tmp_path / "panel.png")
    for path in (out / "images" / "edit-0.png", panel):
        assert Image.open(path).info["srgb"] == 0
    stored = next((tmp_path / "store" / "objects").rglob("image.png"))
    assert "srgb" not in Image.open(stored).info
    assert np.array_equal(
        np.asarray(Image.open(out / "images" / "edit-0.png")), store.read(record)["image"]
    )


def test_a_panel_shows_whatever_is_there(tmp_path, store):
    (edit,) = load_job(write_job(tmp_path / "job", edits=1)).edits
    sizes = set()
    for until in (None, "build_mask", "sample_image"):
        if until:
            finish(edit, store, until=until)
        picture = Image.open(write_panel(edit, store, tmp_path / "panel.png"))
        sizes.add(picture.size)
    truth = write_panel(edit, store, tmp_path / "truth.png", truth=edit.image_path)
    sizes.add(Image.open(truth).size)
    assert len(sizes) == 1
    assert np.asarray(picture).std() > 20


def test_a_panel_shows_long_warnings_to_their_end(tmp_path, store):
    (edit,) = load_job(write_job(tmp_path / "job", edits=1)).edits
    made = finish(edit, store, until="build_mask")["build_mask"]
    panels = set()
    for end in ("narrow", "wide"):
        said = {"warnings": [f"{'the mask cuts what moves, ' * 3}and is too {end}"]}
        payload = {"mask": store.read(made)["mask"]}
        store.publish(made.action, payload, CIRCUMSTANCES, said, replace=True)
        panels.add(write_panel(edit, store, tmp_path / "panel.png").read_bytes())
    assert len(panels) == 2


def test_the_panel_of_a_finished_edit_shows_its_result(tmp_path, store):
    (edit,) = load_job(write_job(tmp_path / "job", edits=1)).edits
    finish(edit, store, shade=77)
    picture = np.asarray(Image.open(write_panel(edit, store, tmp_path / "panel.png")))
    assert ((picture == 77).all(axis=2)).mean() > 0.08


def test_a_mask_is_shown_by_dimming_what_may_not_change():
    pixels = np.full((60, 60, 3), 200, np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[:, 30:] = True
    shown = np.asarray(mask_tile(pixels, mask, (), 120)).astype(int)
    assert shown[:, :50].max() < 130
    assert (shown[:, 70:] == 200).all()
