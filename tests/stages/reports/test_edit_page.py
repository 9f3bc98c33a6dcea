"""The page of one edit: all that its stages made and said, holes where something is missing."""

import json
import re
import shlex
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import typer
from playwright.sync_api import expect
from support.browser import watched_page
from support.finished_job import CIRCUMSTANCES, finish, write_job
from typer.testing import CliRunner

from artifacts import ArtifactStore, TensorFile
from cli import app
from flows.terminal.run import write_job_report
from stages.failures import Attempt
from stages.jobs.reader import load_job
from stages.pipeline import BY_NAME, STAGE_NAMES
from stages.planning.plan import plan_edits
from stages.reports.curves import Curve
from stages.reports.edit_page import write_edit_pages
from stages.reports.edit_view import drag_views, paths
from stages.reports.results import Results

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> 🙂 ' \" </script>" + "x" * 1000
SETTINGS = "[optimize_latent]\nsteps = 40\nmax_steps = 90\n"
LOSSES = [0.5, 0.25, None, 0.125, 0.75]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A job of four edits and its pages: done, done but damaged, failed, and not begun."""
    folder = tmp_path_factory.mktemp("pages")
    path = write_job(folder, 4, SETTINGS)
    lines = [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line |= {"prompt": f"{number}{HOSTILE}", "tags": ["t" * 300]}
    (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job, store = load_job(path), ArtifactStore.open(folder / "store")
    assert not job.bad
    for edit in job.edits[:2]:
        finish(edit, store)
    finish(job.edits[2], store, until="build_mask")
    plans = plan_edits(job.edits, store)
    lora = {"lora": TensorFile({"weight": np.ones(3, np.float32)})}
    action = plans[0].action(BY_NAME["train_lora"])
    summary = {"steps": 5, "losses": LOSSES, "resumed_after": 3}
    store.publish(action, lora, CIRCUMSTANCES, summary, replace=True)
    plans = plan_edits(job.edits, store)  # as they are while a run goes on
    for run in ("20231231T235959000000Z-abcd", "20240101T000001000000Z-bcde"):
        store.put_run(run, "summary.json", b"{}")
    damage(folder / "store" / "objects", plans[1].stages["optimize_latent"].found.object)
    try:
        raise ValueError("too <dark>")
    except ValueError as error:
        attempt = Attempt.of("edit-2", error)
    key = plans[2].stages["optimize_latent"].key
    store.add_attempt("optimize_latent", key, attempt.document())
    results = Results.open(job, store, folder / "out")
    now = plan_edits(job.edits, store)
    results.finish(now, [plan.last_failure for plan in now if plan.last_failure])
    assert write_edit_pages(results, plans) == [edit.id for edit in job.edits]
    return folder


def damage(objects: Path, name: str) -> None:
    """Change a byte of the tracks of an object, which no look-up sees."""
    (stored,) = (objects / name[:2] / name).glob("tracks.zarr/c*")
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")


def html(folder: Path, number: int) -> str:
    return (folder / "out" / "edits" / f"edit-{number}.html").read_text("utf-8")


def text(folder: Path, number: int) -> str:
    """What a reader sees of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html(folder, number))).split())


def commands(folder: Path, number: int) -> list[str]:
    return [
        unescape(each) for each in re.findall(r"<code>(.*?)</code>", html(folder, number), re.S)
    ]


def test_every_stage_is_told_with_its_picture_its_work_and_its_settings(folder):
    page, seen = html(folder, 0), text(folder, 0)
    assert re.findall(r'<section class="box stage" id="(\w+)"', page) == [*STAGE_NAMES]
    assert "time 1.5 s" in seen
    made = "made 2024-01-01 00:00:00 UTC by run 20231231T235959000000Z-abcd"
    assert f"{made}; record 2, it was made again" in seen
    assert "resumed after a checkpoint of step 3" in seen
    assert "steps = 40 (preset: 80)" in seen
    assert "max_steps = 90 (preset: 300)" in seen
    assert "stalled" in seen
    assert "at (50, 30): stalled, 19.0 px from its target" in seen, "the witness"
    assert "at (50, 30): reached, 0.4 px from its target" in seen, "the tracker"
    pictures = [unquote(each) for each in re.findall(r'<img src="([^"]+)"', page)]
    assert len(pictures) == 2 + 1 + 4, "before and after, under the paths, of the stages"
    assert all((folder / "out" / "edits" / each).is_file() for each in pictures)


def test_losses_are_drawn_and_their_absence_is_told(folder):
    seen = text(folder, 0)
    assert "loss over 5 updates: 0.125 to 0.75, 0.75 at last; 1 are not known" in seen
    assert seen.count("No loss curve: the version that made this kept no losses") == 1
    first, second = Curve.of(LOSSES).lines
    assert first == "0.0,48.0 150.0,96.0"
    assert second == "450.0,120.0 600.0,0.0"
    assert Curve.of([]) is Curve.of([None]) is None


def test_a_handle_that_is_lost_is_said_and_drawn_to_be_nowhere(tmp_path):
    (edit,) = load_job(write_job(tmp_path, 1)).edits
    store = ArtifactStore.open(tmp_path / "store")
    finish(edit, store, verdict="lost")
    (plan,) = plan_edits([edit], store)
    (drag,), tracks = drag_views(plan), store.read(plan.stages["optimize_latent"].record)
    assert drag.witness == "lost: nothing like the handle is found"
    assert drag.tracker.startswith("at (50, 30): reached")
    assert [each["seen"] for each in paths(plan, tracks)] == [None]


def test_what_is_damaged_is_a_hole_and_all_else_stands(folder):
    seen = text(folder, 1)
    assert re.search(r"optimize_latent is damaged \(.*?\): run `adaptivedrag run .*--select", seen)
    assert html(folder, 1).count('class="hole"') == 2, "of the stage, and in place of the paths"
    assert "result" in seen
    assert 'id="tracks"' not in html(folder, 1)


def test_a_failure_has_its_traceback_and_what_follows_says_what_makes_it(folder):
    seen = text(folder, 2)
    assert "again: failed optimize_latent: ValueError: too <dark>" in seen
    assert 'raise ValueError("too <dark>")' in seen
    assert "run `adaptivedrag run" in seen
    assert "--retry-failed`" in seen
    assert commands(folder, 2)[-1].endswith(" --retry-failed")


def test_the_code_of_a_page_opens_what_the_stage_made(folder, monkeypatch):
    monkeypatch.chdir("/")
    code = [each for each in commands(folder, 0) if "import Job" in each]
    assert len(code) == len(STAGE_NAMES)
    for each in code:
        found: dict[str, dict[str, object]] = {}
        exec(compile(each, "page", "exec"), found)
        for part, shape in re.findall(r"found\['(\w+)'\]  # \w+ (\(.*\))", each):
            assert str(found["found"][part].shape) == shape


def test_the_commands_of_a_page_are_commands_of_the_program(folder):
    run = typer.main.get_command(app).commands["run"]
    lines = [each for each in commands(folder, 1) if each.startswith("adaptivedrag run")]
    assert len(lines) == len(STAGE_NAMES) + 1
    again = {}
    for line in lines:
        given = run.make_context("run", shlex.split(line)[2:]).params
        assert Path(given["job"]).is_file()
        assert given["select"] == ["edit-1"]
        again[given["from_stage"]] = given["force"]
    assert again == {None: False, **dict.fromkeys(STAGE_NAMES, True)}


def test_pages_lead_to_their_neighbors_and_are_written_again_where_something_changed(folder):
    job, store = load_job(folder / "job.toml"), ArtifactStore.open(folder / "store")
    results = Results.open(job, store, folder / "out")
    plans = plan_edits(job.edits, store)
    write_edit_pages(results, plans, renew=False)
    assert write_edit_pages(results, plans, renew=False) == []
    assert 'rel="next" href="edit-2.html"' in html(folder, 1)
    assert 'rel="prev" href="edit-0.html"' in html(folder, 1)
    assert 'rel="prev"' not in html(folder, 0)
    store.add_attempt(
        "optimize_latent",
        plans[2].stages["optimize_latent"].key,
        Attempt.of("edit-2", MemoryError("all of it")).document(),
    )
    assert write_edit_pages(results, plan_edits(job.edits, store), renew=False) == ["edit-2"]
    assert text(folder, 2).count("What is done about it") == 2


def test_the_index_leads_to_pages_that_say_what_is_so_now(tmp_path):
    path, store = write_job(tmp_path, 1), ArtifactStore.open(tmp_path / "store")

    def write_results() -> Results:
        job = load_job(path)
        finish(job.edits[0], store)
        results = Results.open(job, store, tmp_path / "out")
        results.finish(plan_edits(job.edits, store))
        return results

    def has_link() -> bool:
        return '"page"' in (tmp_path / "out" / "data" / "0001.js").read_text("utf-8")

    results = write_results()
    write_edit_pages(results, plan_edits(results.job.edits, store))
    assert has_link()
    write_results()
    assert has_link()
    path.write_text(path.read_text("utf-8") + "[sample_image]\ncorrespondence_rate = 0.5\n")
    results = write_results()
    assert not has_link()
    write_edit_pages(results, plan_edits(results.job.edits, store), renew=False)
    assert has_link()


def test_a_page_without_its_image_stands(folder, tmp_path):
    job, store = load_job(folder / "job.toml"), ArtifactStore.open(folder / "store")
    plans, results = plan_edits(job.edits[:1], store), Results.open(job, store, tmp_path / "out")
    results.finish(plans)
    image = (folder / "cat.png").rename(folder / "away.png")
    try:
        write_edit_pages(results, plans)
    finally:
        image.rename(folder / "cat.png")
    page = (tmp_path / "out" / "edits" / "edit-0.html").read_text("utf-8")
    assert "cat.png" in re.findall(r'<p class="hole">(.*?)</p>', page, re.DOTALL)[0]
    assert len(re.findall("<img", page)) == 3, "those beside the results stay"
    assert "loss over 5 updates" in page


def test_report_writes_the_pages_of_those_selected(folder, tmp_path, capsys):
    out, store = tmp_path / "out", str(folder / "store")
    write_job_report(folder / "job.toml", str(out), store, ["edit-[12]"], edits=True)
    assert "Pages of edits written: 2" in capsys.readouterr().out
    assert {path.stem for path in (out / "edits").glob("*.html")} == {"edit-1", "edit-2"}
    with pytest.raises(ValueError, match=r"--select chooses .*: add --edits"):
        write_job_report(folder / "job.toml", str(out), store, ["edit-1"])


def test_the_page_in_a_browser(folder, browser):
    index = (folder / "out" / "index.html").as_uri()
    address = index.replace("index.html", "edits/edit-0.html")
    with watched_page(browser, viewport={"width": 400, "height": 800}) as page:
        page.goto(f"{index}#edit=edit-0")
        page.get_by_role("link", name="all about this edit").press("Enter")
        page.wait_for_url("**/edits/edit-0.html")
        assert page.locator(".prompt").inner_text().startswith(f"“0{HOSTILE[:60]}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.keyboard.press("3")
        expect(page.get_by_role("button", name="3 mask")).to_have_attribute("aria-pressed", "true")
        width = "async (each) => (await each.decode(), each.naturalWidth)"
        shown = page.locator("#viewer img").evaluate_all(f"all => Promise.all(all.map({width}))")
        assert shown == [96, 96], "the image, and the mask over it"
        step = page.get_by_label("step of the drag")
        told = page.locator(".scrubber output")
        assert told.inner_text().startswith("step 11 of 11: 1 at (50, 30)")
        step.press("ArrowLeft")
        assert told.inner_text().startswith("step 10 of 11: 1 at (48, 30), 1.8 px from its target")
        assert len(page.locator(".tracks .path").get_attribute("points").split()) == 11
        page.get_by_role("button", name="play").press("Enter")
        expect(told).to_contain_text("step 11 of 11")
        expect(page.get_by_role("button", name="play")).to_be_visible()
        page.get_by_role("button", name="play").press("Enter")
        page.get_by_role("button", name="pause").press("Enter")
        expect(told).to_contain_text("step 0 of 11")
        page.locator("#train_lora summary", has_text="do it again").press("Enter")
        page.get_by_role("button", name="copy the command from train_lora").press("Enter")
        expect(page.locator("#train_lora [data-copy]").last).to_have_text(
            re.compile("copied|selected")
        )
        page.keyboard.press("j")
        page.wait_for_url("**/edit-1.html")
        page.keyboard.press("k")
        page.wait_for_url("**/edit-0.html")
    with watched_page(browser, java_script_enabled=False) as page:
        page.goto(address)
        assert page.get_by_label("step of the drag").is_hidden()
        assert page.get_by_label("paths of 1 handles").is_visible()
        assert page.get_by_alt_text("after of edit-0").is_visible()


def test_the_commands_of_its_docs_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    docs = (Path(__file__).parents[3] / "docs" / "edit-page.md").read_text("utf-8")
    lines = "".join(re.findall(r"```sh\n(.*?)```", docs, re.DOTALL)).splitlines()
    for line in lines:
        words = shlex.split(line.replace("peak*", "edit-[01]").replace(" peak ", " edit-0 "))[1:]
        ended = CliRunner().invoke(app, [*words, "--store", "store"], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
    assert len(lines) == 4
    made = {path.name for path in folder.glob("peak*")}
    assert made == {"peak-mask", "peaks", "peak.webp"}
