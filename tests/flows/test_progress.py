"""What a run shows: bars and a line about all of it on a terminal, few plain lines elsewhere."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from support.finished_job import finish, write_job

import flows.progress
from artifacts import ArtifactStore
from flows.progress import Progress, Standing
from stages.failures import Failure
from stages.jobs.reader import load_job
from stages.planning.forecast import forecast
from stages.planning.plan import plan_job

WAITING = {"train_lora": ["a", "b", "c"], "optimize_latent": ["a", "b", "c"], "sample_image": []}
FAILURE = Failure("c", "train_lora", "NotFinite", "step 3 [bold]")


def shown(terminal: bool, act, width: int = 120) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=width, color_system=None)
    with Progress(WAITING, 3, console=console) as progress:
        act(progress)
    return output.getvalue()


def test_a_terminal_shows_a_bar_for_each_stage_with_work_and_a_line_about_all():
    def act(progress: Progress) -> None:
        progress.reached("optimize_latent", ["a"])
        progress.finished(["a"])
        progress.failed(FAILURE)

    text = shown(True, act)
    assert "train_lora" in text
    assert "2/3" in text
    assert "1 of 3 done, 1 failed" in text
    assert "sample_image" not in text


@pytest.mark.parametrize("width", [40, 60, 79])
def test_a_narrow_terminal_shows_names_and_counts_whole(width):
    text = shown(True, lambda progress: progress.reached("optimize_latent", ["a"]), width)
    assert "optimize_latent 1/3" in " ".join(text.split(" "))
    assert "…" not in text


def without_times(text: str) -> list[str]:
    stamp = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
    assert all(stamp.match(line) for line in text.splitlines())
    return [stamp.sub("", line) for line in text.splitlines()]


@pytest.mark.parametrize(("width", "term"), [(20, "xterm"), (120, "dumb")])
def test_a_terminal_without_room_or_cursor_gets_lines(monkeypatch, width, term):
    monkeypatch.setenv("TERM", term)
    text = shown(True, lambda progress: progress.reached("train_lora", ["a"]), width)
    assert without_times(text) == ["0 of 3 done, 0 failed, 0:00 elapsed; train_lora 1/3 a"]


def test_steps_move_the_bar_of_the_item_at_hand():
    text = shown(True, lambda progress: progress.stepped("train_lora", "a", 40, 80))
    assert "a 40/80" in text


def test_elsewhere_there_are_few_lines_with_times_and_failures_are_never_left_out(monkeypatch):
    def act(progress: Progress) -> None:
        for edit in ("a", "b"):
            progress.reached("train_lora", [edit])
            progress.stepped("optimize_latent", edit, 3, 80)
        progress.failed(FAILURE)
        monkeypatch.setattr(flows.progress, "LINE_SECONDS", 0.0)
        progress._line_due = 0.0
        progress.stepped("optimize_latent", "a", 3, 80)

    assert without_times(shown(False, act)) == [
        "0 of 3 done, 0 failed, 0:00 elapsed; train_lora 1/3 a",
        "failed c: train_lora: NotFinite: step 3 [bold]",
        "0 of 3 done, 1 failed, 0:00 elapsed; optimize_latent 1/3 a 3/80",
    ]


def test_the_share_of_a_run_counts_all_stages_and_failures_as_over():
    progress = Progress(WAITING, 3)
    assert progress.share == 0
    progress.reached("train_lora", ["a", "b", "stranger"])
    assert progress.share == 2 / 6
    progress.failed(FAILURE)
    assert progress.share == 4 / 6
    progress.reached("optimize_latent", ["a", "b"])
    assert progress.share == 1


def test_what_was_done_or_failed_before_counts_but_not_as_speed():
    progress = Progress(WAITING, 6, done=["x"], failed=["y"])
    assert progress.standing.per_hour is None
    progress.finished(["a"])
    standing = progress.standing
    assert (standing.done, standing.total, standing.failed) == (2, 6, 1)
    assert standing.per_hour == pytest.approx(3600 / standing.elapsed, rel=0.5)


def test_a_line_has_room_on_80_columns_and_a_page_gets_times_of_day():
    standing = Standing(12345, 13000, 1234, 1180.3, 48_000.0, 66_600.0)
    line = "12345 of 13000 done, 1234 failed, 1180/h, 13:20:00 left, 18:30:00 elapsed"
    assert str(standing) == line
    assert re.fullmatch(
        r"12345 of 13000 edits done, 1234 failed, 1180/h, ends about \d\d:\d\d, as of [-0-9: ]{19}",
        standing.told,
    )
    week = replace(standing, seconds_left=700_000.0)
    assert re.search(r"ends about \d{4}-\d\d-\d\d \d\d:\d\d,", week.told)


@pytest.fixture
def unequal(tmp_path):
    """A job of which one edit is done, with two on an image of twice the height; and its store."""
    path = write_job(tmp_path / "job", edits=3)
    store = ArtifactStore.open(tmp_path / "store")
    (first, *others) = load_job(path).edits
    finish(first, store)
    image = replace(first.image, height=2 * first.image.height, digest="0" * 64)
    return replace(
        load_job(path), edits=(first, *(replace(edit, image=image) for edit in others))
    ), store


def test_the_time_left_grows_with_pixels_and_what_edits_share_counts_once(unequal):
    job, store = unequal
    expected = forecast(plan_job(job, store), store)
    # Each stage of the small edit took 1.5 s; of seven stages, the first three are shared.
    seconds = 2 * 1.5 * (3 + 2 * 4)
    assert expected.total.seconds == pytest.approx(seconds)
    progress = Progress({stage: ["edit-1", "edit-2"] for stage in expected.stages}, 3)
    assert progress.standing.seconds_left is None
    progress.expect(expected)
    assert progress.standing.seconds_left == pytest.approx(seconds, abs=0.2)
    progress.reached("train_lora", ["edit-1"])
    assert progress.standing.seconds_left == pytest.approx(seconds, abs=0.2)
    progress.reached("train_lora", ["edit-2"])
    assert progress.standing.seconds_left == pytest.approx(seconds - 3, abs=0.2)
    progress.failed(replace(FAILURE, id="edit-2"))  # its own four stages are not made
    assert progress.standing.seconds_left == pytest.approx(seconds - 3 - 4 * 3, abs=0.2)


def test_the_time_left_follows_what_the_run_sees(unequal):
    job, store = unequal
    plan = plan_job(job, store)
    expected = forecast(plan, store)
    progress = Progress({stage: ["edit-1", "edit-2"] for stage in expected.stages}, 3)
    progress.expect(expected)
    before = progress.standing.seconds_left
    record = plan.edits[0].stages["optimize_latent"].record
    for _ in range(3):
        progress.learn(record, 11.5)  # ten seconds more for one, thus forty more for both
    progress.reached("build_mask", ["edit-1"])
    assert progress.standing.seconds_left == pytest.approx(before - 3 + 40, abs=0.2)


def test_nothing_is_said_of_the_time_left_where_nothing_is_known(unequal):
    job, _ = unequal
    empty = ArtifactStore.open(job.path.parent / "empty")
    progress = Progress(WAITING, 3)
    progress.expect(forecast(plan_job(job, empty), empty))
    assert progress.standing.seconds_left is None
    assert "left" not in str(progress.standing)
