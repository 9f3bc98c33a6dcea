"""What a run shows: bars with the time left on a terminal, few plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from flows.progress import Progress
from stages.failures import Failure

WAITING = {"train_lora": ["a", "b", "c"], "optimize_latent": ["a", "b", "c"], "sample_image": []}
SECONDS = {"train_lora": 40.0, "optimize_latent": 30.0}
SHARES = {"a": 0.5, "b": 0.5, "c": 1.0}


def shown(terminal: bool, act, width: int = 120) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=width, color_system=None)
    with Progress(WAITING, SECONDS, SHARES, console) as progress:
        act(progress)
    return output.getvalue()


def test_a_terminal_shows_a_bar_and_the_time_left_for_each_stage_with_work():
    text = shown(True, lambda progress: progress.reached("optimize_latent", ["a"], 20.0))
    assert "train_lora" in text
    assert "1:20 left" in text
    assert "1/3" in text
    assert "0:40 left" in text
    assert "sample_image" not in text


@pytest.mark.parametrize("width", [40, 60, 79])
def test_a_narrow_terminal_shows_names_counts_and_times_whole(width):
    text = shown(True, lambda progress: progress.reached("optimize_latent", ["a"], 20.0), width)
    assert "optimize_latent 1/3 0:40 left" in " ".join(text.split(" "))
    assert "…" not in text


@pytest.mark.parametrize(("width", "term"), [(20, "xterm"), (120, "dumb")])
def test_a_terminal_without_room_or_cursor_gets_lines(monkeypatch, width, term):
    monkeypatch.setenv("TERM", term)
    text = shown(True, lambda progress: progress.reached("train_lora", ["a"]), width)
    assert text == "train_lora 1/3 a\n"


def test_steps_move_the_bar_of_the_item_at_hand():
    text = shown(True, lambda progress: progress.stepped("train_lora", "a", 40, 80))
    assert "a 40/80" in text


def test_elsewhere_there_are_plain_lines_and_failures_are_never_left_out():
    def act(progress: Progress) -> None:
        for edit in ("a", "b"):
            progress.reached("train_lora", [edit])
        progress.failed(Failure("c", "train_lora", "NotFinite", "step 3 [bold]"))
        progress.reached("optimize_latent", ["a", "b"])

    lines = shown(False, act).splitlines()
    assert lines == [
        "train_lora 1/3 a",
        "failed c: train_lora: NotFinite: step 3 [bold]",
        "optimize_latent 3/3 a, b",
    ]


def test_the_share_of_a_run_counts_all_stages_and_failures_as_over():
    progress = Progress(WAITING, SECONDS, SHARES)
    assert progress.share == 0
    progress.reached("train_lora", ["a", "b", "stranger"])
    assert progress.share == 2 / 6
    progress.failed(Failure("c", "train_lora", "NotFinite", ""))
    assert progress.share == 4 / 6
    progress.reached("optimize_latent", ["a", "b"])
    assert progress.share == 1
