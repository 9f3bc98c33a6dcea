"""Shards and chunks: pieces of a sensible size that lose nothing."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.shards import SHARD_SECONDS, StageSeconds, cut_chunks, cut_parts, cut_shards

STAGES = ("train_lora", "optimize_latent")


def edits_of(pictures: list[int]) -> list:
    return [
        SimpleNamespace(id=str(place), image=SimpleNamespace(digest=str(picture)))
        for place, picture in enumerate(pictures)
    ]


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 12), st.floats(0.01, 400))
def test_shards_cover_all_edits_and_never_split_an_image(pictures, at_least, seconds):
    edits = edits_of(pictures)
    shards = cut_shards(edits, lambda _stage: seconds, STAGES, at_least)
    assert sorted(edit.id for shard in shards for edit in shard) == sorted(e.id for e in edits)
    homes = [{edit.image.digest for edit in shard} for shard in shards]
    assert sum(map(len, homes)) == len(set(pictures))
    assert len(shards) >= min(at_least, len(set(pictures)))
    assert all(shards)


@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_parts_are_as_many_as_asked_alike_and_the_last_are_empty(pictures, number):
    edits = edits_of(pictures)
    parts = cut_parts(edits, number, lambda _stage: 1.0, STAGES)
    assert len(parts) == number
    assert sorted(edit.id for part in parts for edit in part) == sorted(e.id for e in edits)
    homes = [{edit.image.digest for edit in part} for part in parts]
    assert sum(map(len, homes)) == len(set(pictures))
    assert [bool(part) for part in parts] == sorted(map(bool, parts), reverse=True)
    loads = [len(part) + len(home) for part, home in zip(parts, homes, strict=True)]
    assert max(loads) - min(loads) <= 1 + max(map(pictures.count, pictures), default=0)


def test_a_shard_is_about_ten_minutes_of_work_or_more():
    shards = cut_shards(edits_of(list(range(90))), lambda _stage: 30.0, STAGES)
    assert len(shards) == 90 * 60 / SHARD_SECONDS
    assert {len(shard) for shard in shards} == {10}


def test_the_cut_is_the_same_each_time_and_keeps_the_order_of_the_job():
    edits = edits_of([0, 1, 2, 0, 1, 2, 3, 3, 3])
    cuts = [cut_shards(edits, lambda _stage: 5.0, STAGES, 3) for _ in range(2)]
    assert cuts[0] == cuts[1]
    for shard in cuts[0]:
        assert [int(edit.id) for edit in shard] == sorted(int(edit.id) for edit in shard)


@pytest.mark.parametrize(("seconds", "length"), [(0.2, 300), (21.0, 3), (90.0, 1)])
def test_a_chunk_is_a_minute_of_work_or_one_item(seconds, length):
    chunks = list(cut_chunks([[item] for item in range(400)], seconds))
    assert [item for chunk in chunks for item in chunk] == list(range(400))
    assert len(chunks[0]) == length


def test_a_chunk_has_whole_batches():
    assert list(cut_chunks([[1, 2], [3, 4], [5], [6]], 21.0)) == [[1, 2, 3, 4], [5, 6]]


def test_seconds_are_guessed_then_recalled_then_seen():
    assert StageSeconds().of("train_lora") == 40.0
    seconds = StageSeconds({"train_lora": 8.0})
    assert seconds.of("train_lora") == 8.0
    for seen in (1.0, 2.0, 30.0):
        seconds.saw("train_lora", seen)
    assert seconds.of("train_lora") == 2.0
    assert seconds.seen() == {"train_lora": 2.0}
