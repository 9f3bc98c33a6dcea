"""The page of results in a real browser: filters, orders, the viewer, votes, and text of users."""

import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import wait_until, watched_page
from support.finished_job import finish, write_job
from typer.main import get_command

from artifacts import ArtifactStore
from cli import app
from stages.failures import Failure
from stages.jobs.reader import load_job
from stages.jobs.selection import select_edits
from stages.planning.plan import plan_edits
from stages.reports.page import Page
from stages.reports.place import Place
from stages.reports.results import Results
from stages.reports.verdicts import with_outliers

GUIDE = (Path(__file__).parents[3] / "docs" / "page.md").read_text("utf-8")
EDITS, SHOWN = 7, 100
MARKUP = "</script><script>hacked=1</script>\u2028\"'<img src=x onerror=hacked=1> 🐈"
LONG = MARKUP + "long " * 2000
FAILURE = Failure("edit-5", "optimize_latent", "NotFinite", f"the loss {LONG}")
LAYERS = ("before", "superpixels", "mask", "paths", "after", "difference")

OPENED = "[...document.querySelectorAll('#viewer[open] h2')].map(title => title.textContent)[0]"
ALTS = "boxes => boxes.map(box => box.firstChild.alt)"
COMPLETE = "[...document.querySelectorAll('.viewer-layer img')].every(image => image.complete)"


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The results of a job: five edits are done, one failed, one is left, one is bad."""
    folder = tmp_path_factory.mktemp("page")
    path = write_job(folder / "job", edits=EDITS)
    lines = [json.loads(line) for line in path.with_name("edits.jsonl").read_text().splitlines()]
    lines[2] |= {"prompt": MARKUP + "long " * 150, "tags": [MARKUP]}
    lines.append({"id": "bad", "image": MARKUP, "drags": []})
    path.with_name("edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    store, job = ArtifactStore.open(folder / "store"), load_job(path)
    for number, edit in enumerate(job.edits[:5]):
        finish(edit, store, shade=100 + 20 * number)
    Results.open(job, store, folder / "out").finish(plan_edits(job.edits, store), [FAILURE])
    return folder / "out"


@pytest.fixture
def tab(browser, out):
    with watched_page(browser, viewport={"width": 1000, "height": 800}) as page:
        page.goto((out / "index.html").as_uri())
        read(page)
        yield page


def read(page) -> None:
    wait_until(page, "!document.getElementById('said').textContent.includes('are read')")


def ids(page) -> list[str]:
    return page.eval_on_selector_all("#grid a", "links => links.map(link => link.dataset.id)")


def choose(page, name: str, value: str) -> list[str]:
    page.select_option(f"#filters [name={name}]", value)
    wait_until(page, f"location.hash.includes('{name}={value}')")
    return ids(page)


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def opened(page) -> str | None:
    return page.evaluate(OPENED)


def test_the_summary_and_the_failures_are_there_without_scripts(browser, out):
    with watched_page(browser, java_script_enabled=False) as page:
        page.goto((out / "index.html").as_uri())
        text = page.inner_text("main")
    assert "8 edits" in text
    assert "5\tdrop\tless than half of the way" in text
    assert "5\tstalled" in text
    assert "1 in optimize_latent: NotFinite:" in text
    assert "the loss </script>" in text
    assert "bad (line 8): " in text
    assert "needs JavaScript" in text


def test_edits_are_filtered_and_sorted_and_the_address_says_so(tab):
    assert ids(tab) == [f"edit-{number}" for number in range(EDITS)] + ["bad"]
    assert choose(tab, "tag", "odd") == ["edit-1", "edit-3", "edit-5"]
    assert choose(tab, "status", "failed") == ["edit-5"]
    address = tab.url
    tab.click("text=clear")
    assert choose(tab, "failed", "optimize_latent") == ["edit-5"]
    tab.goto(address)
    tab.reload()
    read(tab)
    assert ids(tab) == ["edit-5"]
    tab.click("text=clear")
    tab.click("text=worst first")
    assert ids(tab)[:2] == ["bad", "edit-5"]
    assert choose(tab, "sort", "relative")[0] == "edit-0"  # the shortest drag, and as much left
    tab.click("text=reverse")
    assert ids(tab)[0] == "edit-4"
    tab.click("text=clear")
    tab.fill("#filters [name=text]", "HACKED=1")
    assert ids(tab) == ["edit-2", "edit-5"]


def test_an_edit_is_looked_at_by_keys_alone(tab):
    press(tab, *["Tab"] * 40)
    tab.focus("#grid a")
    press(tab, "j", "Enter")
    tab.wait_for_selector("#viewer[open]")
    assert opened(tab) == "edit-1"
    press(tab, "j", "j", "k")
    assert opened(tab) == "edit-2"
    for number, title in enumerate(LAYERS, 1):
        press(tab, str(number))
        (image,) = tab.eval_on_selector_all(".viewer-layer", ALTS)
        assert image.startswith(f"{title} of edit-2")
    press(tab, "7")
    assert tab.inner_text(".viewer-hole") == "truth: not known"
    press(tab, "s", "?")
    assert "the next edit" in tab.inner_text("#help")
    press(tab, "Escape", "Escape")
    wait_until(tab, "!location.hash.includes('edit=')")
    assert opened(tab) is None
    assert tab.evaluate("document.activeElement.dataset.id") == "edit-2"


def test_the_viewer_shows_the_pixels_of_both_pictures(tab, out):
    tab.goto(f"{tab.url.split('#')[0]}#edit=edit-1")
    tab.wait_for_selector("#viewer[open]")
    press(tab, "z", "a")
    box = tab.locator(".viewer-sheet").bounding_box()
    assert (box["width"], box["height"]) == (96, 64)
    after = np.asarray(Image.open(out / "images" / "edit-1.png"))
    before = np.asarray(Image.open(next((out / "sources").iterdir())))
    press(tab, "5")
    assert np.array_equal(pixels(tab), after)
    press(tab, "s")
    tab.mouse.click(box["x"] + 24, box["y"] + 30)
    seen = pixels(tab)
    assert np.array_equal(seen[:, :20], before[:, :20])
    assert np.array_equal(seen[:, 28:], after[:, 28:])
    tab.focus(".viewer-slider")
    press(tab, "End")
    assert np.array_equal(pixels(tab)[:, :90], before[:, :90])


def pixels(page) -> np.ndarray:
    """Return what the viewer shows, uint8 RGB, at the screen's own pixels."""
    wait_until(page, COMPLETE)
    box = page.locator(".viewer-sheet").bounding_box()
    shot = page.screenshot(clip={name: round(value) for name, value in box.items()})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def test_votes_are_kept_downloaded_and_selected(tab, out, tmp_path):
    tab.focus("#grid a")
    press(tab, "u", "Enter")
    tab.wait_for_selector("#viewer[open]")
    press(tab, "j", "d", "n")
    tab.keyboard.type("its ear 🐈 </script> u d j")
    press(tab, "Escape", "j")
    assert opened(tab) == "edit-2"
    press(tab, "d", "d", "Escape")
    wait_until(tab, "!location.hash.includes('edit=')")
    tab.reload()
    read(tab)
    assert choose(tab, "vote", "down") == ["edit-1"]
    with tab.expect_download() as downloading:
        tab.click("text=download votes")
    votes = tmp_path / "votes.jsonl"
    downloading.value.save_as(votes)
    assert downloading.value.suggested_filename == "job-votes.jsonl"
    lines = [json.loads(line) for line in votes.read_text("utf-8").splitlines()]
    assert [(line["id"], line["vote"], line["note"]) for line in lines] == [
        ("edit-0", "up", ""),
        ("edit-1", "down", "its ear 🐈 </script> u d j"),
    ]
    job = load_job(out.parent / "job" / "job.toml")
    chosen = [select_edits(job, (f"@{votes}{end}",)).edits for end in ("", ":up", ":down")]
    found = [[edit.id for edit in edits] for edits in chosen]
    assert found == [["edit-0", "edit-1"], ["edit-0"], ["edit-1"]]
    tab.evaluate("localStorage.clear()")
    tab.reload()
    read(tab)
    with votes.open("a") as file:
        file.write('{"id": "nobody", "vote": "up"}\n{"id": "edit-3", "vote": "sideways"}\n')
        file.write('{"id": "edit-2", "vote": "down", "note": null}\n')
    tab.set_input_files("#filters input[type=file]", votes)
    wait_until(tab, "document.getElementById('said').textContent.includes('not taken')")
    refused = "2 votes were not taken: line 3: this job has no edit nobody; line 4 is no vote"
    assert refused in tab.inner_text("#said")
    assert choose(tab, "vote", "up") == ["edit-0"]
    assert choose(tab, "vote", "down") == ["edit-1", "edit-2"]


def test_a_vote_on_a_picture_is_none_on_the_one_that_is_made_after_it(tab, tmp_path):
    tab.focus("#grid a")
    press(tab, "d", "j", "u")
    tab.evaluate(
        "Object.keys(localStorage).filter(key => key.endsWith('edit-0')).forEach(key =>"
        " localStorage[key] = JSON.stringify({...JSON.parse(localStorage[key]), result: 'other'}))"
    )
    tab.reload()
    read(tab)
    tab.select_option("#filters [name=vote]", "on an earlier picture")
    assert ids(tab) == ["edit-0"]
    assert tab.locator("#grid .marks").inner_text() == ""
    with tab.expect_download() as downloading:
        tab.click("text=download votes")
    votes = Path(downloading.value.path()).read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in votes] == ["edit-1"]
    assert "edits that are not here: 1" in tab.inner_text("#said")
    tab.focus("#grid a")
    press(tab, "Enter")
    tab.wait_for_selector("#viewer[open]")
    assert "Of an earlier picture you said: down." in tab.inner_text("#viewer")
    press(tab, "d")
    assert "Of an earlier picture" not in tab.inner_text("#viewer")


def test_text_of_users_is_text(tab):
    tab.goto(f"{tab.url.split('#')[0]}#edit=edit-2")
    tab.wait_for_selector("#viewer[open]")
    shown = tab.inner_text("#viewer")
    assert "</script><script>hacked=1</script>" in shown
    assert "🐈long long" in shown
    tab.goto(f"{tab.url.split('#')[0]}#edit=edit-5")
    assert "hacked=1" in tab.inner_text("#viewer")
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_many_rows_are_read_file_by_file_and_a_lost_file_is_named(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.reports.rendering.MOST_BYTES", 5_000)
    job = load_job(write_job(tmp_path / "job", edits=1))
    rows = [row(number) for number in range(2 * SHOWN + 1)]
    Page(replace(job, order=tuple(each["id"] for each in rows)), rows).write(Place(tmp_path))
    files = sorted((tmp_path / "data").iterdir())
    assert len(files) > 3
    assert all(path.stat().st_size < 5_100 for path in files)
    with watched_page(browser) as page:
        page.goto((tmp_path / "index.html").as_uri())
        read(page)
        assert len(ids(page)) == SHOWN
        page.click("text=last")
        assert ids(page) == ["edit-200"]
        page.click("text=previous")
        assert ids(page)[0] == "edit-100"
    files[1].unlink()
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    wait_until(page, "document.getElementById('said').textContent.includes('missing')")
    assert "data/0002.js is missing: write the report again" in page.inner_text("#said")
    assert ids(page)[0] == "edit-0"
    page.close()


def test_while_a_run_goes_on_the_page_loads_itself_again(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.reports.page.REFRESH_SECONDS", 0.2)
    job = load_job(write_job(tmp_path / "job", edits=1))
    rows = [row(number) for number in range(3)]
    Page(job, rows[:2], "This run goes on: 1 done, an hour left.").write(Place(tmp_path))
    with watched_page(browser) as page:
        page.goto((tmp_path / "index.html").as_uri() + "#sort=name")
        read(page)
        assert "an hour left" in page.inner_text("[role=status]")
        page.focus("[data-id=edit-1]")
        Page(job, rows).write(Place(tmp_path))
        there = "document.querySelectorAll('#grid li').length === 3"
        wait_until(page, f"!document.querySelector('.banner') && {there}")
        assert page.url.endswith("#sort=name")
        wait_until(page, "document.activeElement.dataset.id === 'edit-1'")
        assert ids(page) == ["edit-0", "edit-1", "edit-2"]


def row(number: int) -> dict:
    made = {"form": 4, "id": f"edit-{number}", "status": "unfinished", "overlays": {}, "thumbs": {}}
    (found,) = with_outliers([made])
    return found


@pytest.mark.parametrize("line", re.findall(r"^adaptivedrag (.+)$", GUIDE, re.MULTILINE))
def test_every_command_of_the_guide_has_these_options(line):
    name, *words = shlex.split(line)
    assert get_command(app).commands[name].make_context(name, words).params


def test_the_guide_has_every_key_that_the_page_listens_to(tab):
    tab.keyboard.press("?")
    keys = tab.eval_on_selector_all("#help th", "heads => heads.map(head => head.textContent)")
    table = GUIDE.partition("| key | |")[2].partition("\n\n")[0]
    told = {
        key
        for cells in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
        for key in cells.split(", ")
    }
    assert told - {"---", "1 to 7"} == {*keys} - {"1 … 7", "Enter"}
