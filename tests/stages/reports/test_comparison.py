"""Edits in several ways, side by side: pairs, differences, what is otherwise, and their page."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect
from support.browser import watched_page
from support.compared import PROMPT, finish_compared, write_compared
from support.finished_job import CIRCUMSTANCES, finish

from artifacts import Action, ArtifactStore, Document, digest_bytes, digest_json
from stages.evaluate import STAGE_VERSION
from stages.jobs.reader import load_job
from stages.pipeline import RESULT
from stages.planning.earlier import earlier_plans
from stages.planning.plan import plan_edits
from stages.reports.comparison import (
    ANOTHER,
    Change,
    Comparison,
    aligned,
    changes,
    joined,
    judged_of,
    side_of,
    sides_of_variants,
)
from stages.reports.comparison_page import alone_lines, nearer_line, write_page
from stages.reports.place import Place
from stages.reports.results import Results


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """The job with its variants, their results and the page of their comparison."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compared")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        path, store = write_compared(folder / "job"), ArtifactStore.open(folder / "store")
        finish_compared(path, store)
        job = load_job(path)
        plans = plan_edits(job.edits, store)
        judge(plans[0], store, 18.5)
        judge(plans[1], store, 18.5, version=STAGE_VERSION - 1)
        judge(plans[4], store, 18.5, prompt="another")
        results = Results.open(job, store, folder / "out")
        results.finish(plans, [plan.last_failure for plan in plans if plan.last_failure])
        sides = tuple(sides_of_variants(job, plans))
        comparison = Comparison("Variants of job", sides, results.rows, judged_of(store, sides))
        write_page(comparison, results.place)
        yield SimpleNamespace(
            job=job,
            store=store,
            plans=plans,
            results=results,
            comparison=comparison,
            out=folder / "out",
        )


def judge(
    plan, store: ArtifactStore, distance: float, version: int = STAGE_VERSION, prompt: str = PROMPT
) -> None:
    """Keep a judgment of a result, as `eval` does."""
    edit = plan.edit
    inputs = {
        RESULT.name: plan.stages[RESULT.name].found.logical,
        "image": edit.image.digest,
        "prompt": digest_bytes("prompt", prompt.encode()),
        "drags": digest_json("drags", edit.points),
    }
    summary = {"kind": "", "measures": {"true_distance": [distance], "clip": [None]}}
    action = Action("evaluate", version, {}, inputs, {})
    store.publish(action, {"found": Document(summary)}, CIRCUMSTANCES, summary)


def test_differences_are_of_the_edits_that_both_sides_have(made):
    cooler, slower = made.comparison.lines(1), made.comparison.lines(2)
    left = cooler[0]
    assert (left.metric.name, left.edits) == ("distance", 3)
    assert (left.first, left.second) == pytest.approx((12.0, 8.4))
    found = left.difference
    assert found.mean == pytest.approx(-3.6)
    assert found.low < found.mean < 0 < found.high
    assert (found.images, left.favors) == (3, "")
    assert slower[0].difference.mean == pytest.approx(-1.0)
    assert (slower[0].edits, slower[0].favors) == (2, "second")
    # Only one side was judged: the other judgments are of an older version, and of another prompt.
    assert {line.metric.name for line in cooler} == {"distance", "outside", "seconds"}
    assert "true_distance" in {metric.name for metric in made.comparison.metrics}


def test_who_is_nearer_is_counted_with_the_ends_that_are_equally_near(made):
    assert made.comparison.nearer(1) == {"first": 1, "second": 1, "equal": 1}
    assert made.comparison.nearer(2) == {"second": 2}


def test_edits_that_one_side_lacks_are_counted_with_the_reason(made):
    assert made.comparison.alone(1) == []
    lacking = ("slower", "failed in sample_image: ArithmeticError", ("edit-2",))
    assert made.comparison.alone(2) == [lacking]
    first, _, failed = made.comparison.sides
    plans = {"edit-2": failed.plans["edit-2"]}
    neither = replace(
        made.comparison, sides=(replace(first, plans={}), replace(failed, plans=plans))
    )
    assert nearer_line(neither, 1) == "No edit has a result on both sides."
    assert alone_lines(neither, 1) == ["Both lack 1 edit: not selected (edit-2)"]


def test_sides_that_are_made_alike_are_said_to_be(made, tmp_path):
    first, *_ = made.comparison.sides
    alike = replace(made.comparison, sides=(first, replace(first, name="again")))
    write_page(alike, Place(tmp_path))
    page = (tmp_path / "compare.html").read_text("utf-8")
    assert "No setting is otherwise in any edit that both have." in page


def test_changes_are_named_from_and_to(made):
    changed = made.comparison.changes(1)["edit-0"]
    assert changed == (Change("sample_image.correspondence_temperature", "0.07", "0.5"),)
    others = made.comparison.changes(2)["edit-2"]
    assert [each.name for each in others] == ["sample_image.correspondence_rate"]


def test_stages_that_are_off_models_and_prompts_are_changes_too(made, tmp_path):
    plan = made.plans[0]
    edits = [
        replace(plan.edit, lora="off"),
        replace(plan.edit, prompt="a dog"),
        replace(plan.edit, model="pocket", vae=None),
    ]
    found = [changes(plan, other) for other in plan_edits(edits, made.store)]
    assert found[0] == (Change("train_lora", "on", "off"),)
    assert found[1] == (Change("prompt", PROMPT, "a dog"),)
    assert Change("diffusion", plan.edit.model, "pocket") in found[2]


def test_two_jobs_become_one_whose_ids_are_told_apart(made, tmp_path):
    other = load_job(write_compared(tmp_path / "other", ""))
    moved = other.edits[1]
    moved = replace(moved, drags=tuple(replace_target(drag) for drag in moved.drags))
    theirs = plan_edits([other.edits[0], moved], made.store)
    ours = [plan for plan in made.plans if not plan.edit.variant]
    one, two = aligned(
        [side_of("job", "", made.job, ours), side_of("other", ".other", other, theirs)]
    )
    assert two.lacking == {"edit-1": ANOTHER}
    whole, plans = joined([one, two], made.job, "both")
    assert [plan.edit.id for plan in plans] == ["edit-0", "edit-0.other", "edit-1", "edit-2"]
    assert plans[1].edit.tags == ("even", "other")
    assert whole.order == tuple(edit.id for edit in whole.edits)
    comparison = Comparison("both", (one, two), {}, judged_of(made.store, ()))
    assert comparison.lacks(two, "edit-2") == f"not in {other.path}"


def replace_target(drag):
    return drag._replace(target=drag.target._replace(x=drag.target.x + 1))


def test_what_a_job_had_before_is_the_latest_other_result_of_each_edit(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, store = write_compared(tmp_path / "job", ""), ArtifactStore.open(tmp_path / "store")
    first, second, _ = load_job(path).edits
    for edit in (first, second):
        finish(edit, store, shade=50, distance=30.0)
    with path.open("a") as file:
        file.write("[sample_image]\ncorrespondence_temperature = 0.5\n")
    now = load_job(path).edits
    finish(now[0], store, shade=60, distance=3.0)
    plans = plan_edits(now, store)
    before = earlier_plans(plans, store)
    assert [*before] == ["edit-0", "edit-1"]
    assert before["edit-0"].done
    assert before["edit-0"].witness["points"][0]["distance"] == 30.0
    changed = Change("sample_image.correspondence_temperature", "0.07", "0.5")
    assert changes(before["edit-0"], plans[0]) == (changed,)
    assert changes(before["edit-1"], plans[1]) == (changed,)  # which is not made now


def test_the_page_of_results_leads_to_the_comparison(made):
    made.results.link_pages()
    assert 'href="compare.html"' in (made.out / "index.html").read_text("utf-8")


def test_the_page_needs_no_script_for_what_is_on_top(made):
    page = (made.out / "compare.html").read_text("utf-8")
    assert "cooler against baseline" in page
    assert "Of 3 edits that both have: cooler is nearer in 1, baseline is nearer in 1" in page
    assert "slower lacks 1 edit: failed in sample_image: ArithmeticError (edit-2)" in page
    assert PROMPT not in page


def test_the_list_is_sorted_by_difference_and_by_one_click_the_other_way(made, browser):
    with watched_page(browser, viewport={"width": 1200, "height": 900}) as page:
        page.goto((made.out / "compare.html").as_uri())
        names = page.locator("#list .name")
        expect(names).to_have_text(["edit-0", "edit-1", "edit-2"])
        assert "−15.0 left to the target" in page.locator("#list .pair").first.text_content()
        page.click("text=the other way")  # worst first
        expect(names).to_have_text(["edit-1", "edit-2", "edit-0"])
        page.click("text=the other way")
        expect(names).to_have_text(["edit-0", "edit-2", "edit-1"])
        page.select_option("[name=nearer]", "cooler")
        expect(names).to_have_text(["edit-0"])
        assert "nearer=cooler" in page.url
        page.click("text=clear")
        page.select_option("[name=side]", "2")
        expect(names).to_have_text(["edit-0", "edit-1", "edit-2"])
        expect(page.locator("#list .pair").last).to_contain_text("slower: sample_image")
        page.keyboard.press("Escape")  # leaves the control
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        shown = page.locator("#viewer")
        expect(shown.locator("h2")).to_have_text("edit-0")
        assert PROMPT in shown.locator("aside").text_content()
        assert "+" not in shown.locator("aside td.good").first.text_content()
        layer = shown.locator(".viewer-layer").first.element_handle()
        page.evaluate("dispatchEvent(new Event('hashchange'))")
        assert layer.evaluate("layer => layer.isConnected"), "what is shown is not drawn again"
        sources = shown.locator(".viewer-layer img").evaluate_all("all => all.map((i) => i.src)")
        assert [Path(each).name for each in sources] == ["edit-0.png", "edit-0.slower.png"]
        shown.locator("input[type=range]").fill("20")
        assert (
            shown.locator(".viewer-sheet").evaluate("e => e.style.getPropertyValue('--cut')")
            == "20%"
        )
        page.keyboard.press("5")
        assert shown.locator(".viewer-difference img").count() == 2
        page.keyboard.press("j")
        expect(shown.locator("h2")).to_have_text("edit-1")
        page.go_back()
        expect(shown).to_be_hidden()


def test_numbers_of_the_page_are_data_that_a_file_brings(made):
    (script,) = (made.out / "comparison").iterdir()
    rows = json.loads(script.read_text()[len("rows(1, ") : -3])
    first = rows[0]
    assert (first["id"], first["prompt"]) == ("edit-0", PROMPT)
    assert [side.get("image") for side in first["sides"]] == [
        "images/edit-0.png",
        "images/edit-0.cooler.png",
        "images/edit-0.slower.png",
    ]
    assert first["sides"][0]["values"][0] == 20.0
