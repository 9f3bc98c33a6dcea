"""Option values as people type them."""

import pytest

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Drag, ImagePoint
from flows.outcomes import InvalidRequest
from flows.request import RunRequest
from flows.terminal.arguments import parse_drag, parse_settings, parse_size


@pytest.mark.parametrize("text", ["1,2->3.5,-4", " 1 , 2 -> 3.5 , -4 ", "1,2→3.5,-4"])
def test_a_drag_is_read(text):
    assert parse_drag(text) == Drag(ImagePoint(1, 2), ImagePoint(3.5, -4))


@pytest.mark.parametrize("text", ["", "1,2", "1,2->3", "1,2->3,4,5", "nan,2->3,4", "1e3,2->3,4"])
def test_other_drags_are_refused(text):
    with pytest.raises(InvalidEdit, match=r"--drag .* cannot be read: write it as"):
        parse_drag(text)


def test_settings_are_laid_over_the_named_keys():
    given = parse_settings(
        {"lora": "train"},
        ["train_lora.steps=3", "train_lora.rank=4", "lora=off", "seed=7", 'dtype="float32"'],
    )
    assert given == {
        "lora": "off",
        "train_lora": {"steps": 3, "rank": 4},
        "seed": 7,
        "dtype": "float32",
    }


def test_a_setting_may_hold_any_character():
    assert parse_settings({}, ["lora=😀/é.safetensors"]) == {"lora": "😀/é.safetensors"}


@pytest.mark.parametrize("text", ["steps", "=3", "a b=3", "x.=1"])
def test_other_settings_are_refused(text):
    with pytest.raises(InvalidEdit, match=r"--set .* cannot be read"):
        parse_settings({}, [text])


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("500MB", 500_000_000), ("1.5 kB", 1500), ("64GiB", 64 << 30), ("2tib", 2 << 40)],
)
def test_a_size_is_read(text, size):
    assert parse_size("--at-most", text) == size


@pytest.mark.parametrize("text", ["", "50", "30x", "5,000GB", "-1B"])
def test_other_sizes_are_refused(text):
    with pytest.raises(InvalidRequest, match=r"--at-most .* cannot be read"):
        parse_size("--at-most", text)


def test_a_batch_is_a_count_or_left_to_the_memory_of_a_gpu():
    assert RunRequest.of(batch="8").most_together == 8
    assert RunRequest.of().most_together == 1
    assert RunRequest.of(device="cuda:1").most_together > 1
    for text in ("0", "-1", "8.0", "many", ""):
        with pytest.raises(InvalidRequest, match=r"--batch .*: give a count, such as 8, or"):
            RunRequest.of(batch=text)
