"""The page on which points are placed, in a real browser: what is drawn is what is in the file."""

import json
from functools import partial

import pytest
from PIL import Image
from playwright.sync_api import expect
from support.browser import watched_page
from support.served import served
from support.tiny_job import write_job
from support.tiny_models import shared_model

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from flows.terminal.run import write_job_report
from flows.web.annotating import annotation_site
from stages.jobs.annotations import Annotations
from stages.jobs.reader import load_job
from stages.workbench import Workbench

HOSTILE = '<img src=x onerror="alert(1)"> "🙂" ' + "x" * 300


@pytest.fixture
def job(tmp_path):
    """Two pictures of 128x128 pixels, each with an edit."""
    return write_job(tmp_path / "job", shared_model(), images=2)


@pytest.fixture
def site(job, tmp_path):
    store = ArtifactStore.open(tmp_path / "store")
    bench = partial(Workbench, store, Runtime(threads=1))
    with served(annotation_site(Annotations.open(job), bench)) as site:
        yield site


def opened(page, site):
    page.goto(site.address)
    expect(page.locator("#status")).to_have_text("")
    expect(page.locator("#mask")).to_contain_text("Automatic mask")
    return page


def draw(page, handle, target):
    """Press at a pixel of the picture, and release at another."""
    box = page.locator(".sheet").bounding_box()
    scale = box["width"] / 128
    for point, act in ((handle, page.mouse.down), (target, page.mouse.up)):
        x, y = point
        page.mouse.move(box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale)
        act()


def save(page, said="Saved"):
    page.keyboard.press("Control+s")
    expect(page.locator("#status")).to_have_text(said)


def edits(job):
    return [json.loads(line) for line in (job.parent / "edits.jsonl").read_text().splitlines()]


def test_an_arrow_is_drawn_saved_tried_and_on_the_page_of_results(browser, site, job, tmp_path):
    before = edits(job)
    with watched_page(browser, viewport={"width": 1400, "height": 900}) as page:
        opened(page, site)
        page.get_by_role("button", name="New edit").click()
        draw(page, (90, 30), (70, 50))
        draw(page, (20, 100), (40, 101))
        page.locator("#prompt").fill(HOSTILE)
        page.locator("#tags").fill("new, <b>odd</b>")
        expect(page.locator("#mask")).to_contain_text("Automatic mask")
        draw(page, (40, 101), (50, 105))  # the second arrow's target
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+y")
        save(page)
        page.keyboard.press("t")
        expect(page.locator("#verdict")).to_contain_text("The witness finds", timeout=60_000)
        assert page.locator("#viewer img").count() >= 2
        expect(page.locator("#edits")).to_contain_text("0, 2 →")
    *others, new = edits(job)
    assert others == before
    assert new == {
        "id": "0",
        "image": "0.png",
        "prompt": HOSTILE,
        "drags": [
            {"handle": [90, 30], "target": [70, 50]},
            {"handle": [20, 100], "target": [50, 105]},
        ],
        "tags": ["new", "<b>odd</b>"],
    }
    write_job_report(job, str(tmp_path / "out"), str(tmp_path / "store"))
    rows = [
        json.loads(row) for row in (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    ]
    assert {row["id"]: row["status"] for row in rows}["0"] == "done"
    assert (tmp_path / "out" / "images" / "0.png").is_file()


def test_everything_is_done_by_keyboard(browser, site, job):
    with watched_page(browser, viewport={"width": 400, "height": 800}) as page:
        opened(page, site)
        press = page.keyboard.press
        coming = []
        page.route("**/picture.png?name=1.png", lambda route: coming.append(route))
        with page.expect_request("**/picture.png?name=1.png"):
            press("n")
        expect(page.locator("#name")).to_have_text("1.png")
        draw(page, (10, 10), (20, 20))  # the picture is not there yet: neither is the arrow
        coming[0].continue_()
        expect(page.get_by_alt_text("1.png")).to_be_visible()
        expect(page.locator("#drags li")).to_have_count(1)
        expect(page.locator("#mask")).to_contain_text("Automatic mask")
        press("m")
        page.locator(".sheet svg").focus()
        for keys in (["Shift+ArrowLeft", "ArrowUp", "Enter"], ["Shift+ArrowDown", "Enter"]):
            for key in keys:
                press(key)
        press("Tab")  # the target
        press("ArrowRight")
        press("Tab")  # the handle
        press("Shift+ArrowUp")
        press("Escape")
        press("b")
        press("Enter")
        save(page)
        assert page.locator("#form").is_visible()
        expect(page.locator("#mask")).to_contain_text("Only what is painted may change")
        press("a")
        press("Tab")
        press("Delete")
        expect(page.locator("#drags li")).to_have_count(0)
        expect(page.locator("#problem")).to_contain_text("drags is empty")
        press("Control+z")
        expect(page.locator("#drags li")).to_have_count(1)
        page.locator("#list").get_by_role("button", name="0.png").click()
        expect(page.locator("#name")).to_have_text("0.png")
        assert page.evaluate("scrollY") == 0
    new = edits(job)[-1]
    assert new["drags"] == [{"handle": [54, 53], "target": [55, 73]}]
    mask = Image.open(job.parent / new["mask"])
    assert (mask.mode, mask.size, mask.getpixel((54, 73)), mask.getpixel((2, 2))) == (
        "L",
        (128, 128),
        255,
        0,
    )
    assert len(load_job(job).edits) == 3


def test_two_pages_change_one_job_and_nothing_is_lost(browser, site, job):
    with watched_page(browser) as ours, watched_page(browser) as theirs:
        for page in (ours, theirs):
            opened(page, site)
        theirs.locator("#prompt").fill("theirs")
        save(theirs)
        ours.locator("#prompt").fill("ours")
        ours.locator("#tags").fill("kept")
        save(ours, "Not all is saved: see below")
        expect(ours.locator("#conflicts")).to_contain_text(
            "prompt of edit-0-0 was changed elsewhere"
        )
        assert (edits(job)[0]["prompt"], edits(job)[0]["tags"]) == ("theirs", ["kept"])
        ours.get_by_role("button", name="Keep mine").click()
        save(ours)
        assert edits(job)[0]["prompt"] == "ours"
        theirs.locator("#remove").click()
        save(theirs, "Not all is saved: see below")
        theirs.get_by_role("button", name="Take theirs").first.click()
        expect(theirs.locator("#prompt")).to_have_value("ours")
    assert len(edits(job)) == 2
