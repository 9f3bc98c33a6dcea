"""Failures that are the same but for names and numbers are one cause with one remedy."""

import pytest

from stages.failures import Failure
from stages.reports.causes import causes


def failure(name: str, message: str, kind: str = "NotFinite", stage: str = "optimize_latent"):
    return Failure(name, stage, kind, message)


def test_the_most_frequent_cause_is_first_and_names_its_edits():
    found = causes(
        [
            failure("odd", "config has no field", "KeyError", "train_lora"),
            failure("cat-1", "latents are not finite after 12 drag steps: use float32"),
            failure("cat-2", "latents are not finite after 7.5e+3 drag steps: use float32"),
            failure("cat-3", "latents are not finite after 7 drag steps: use float16"),
        ]
    )
    assert [cause.ids for cause in found] == [("cat-1", "cat-2"), ("odd",), ("cat-3",)]
    assert str(found[0]).startswith(
        "2 edits (cat-1, cat-2): optimize_latent: NotFinite: latents are not finite after 12 drag"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("edit a: /data/my cat.png changed: run", "edit b: s3://x/y/dog.png changed: run"),
        ("edit of-another-shard: no mask", "edit b: no mask"),
        ("nothing is known of 'a'", "nothing is known of 'b'"),
        ("cat_red is odd", "dog_blue is odd"),
        ("no key 0123456789abcdef", "no key fedcba987654"),
        ("a point (3, -2.5) lies outside", "a point (inf, 1e9) lies outside"),
    ],
)
def test_ids_paths_and_numbers_make_no_difference(one, other):
    names = ("cat_red", "dog_blue") if "cat_red" in one else ("a", "b")
    assert len(causes(map(failure, names, (one, other)))) == 1


def test_the_message_of_a_cause_names_no_edit_at_its_beginning():
    (cause,) = causes([failure("a", "edit a: no mask")])
    assert str(cause) == "a: optimize_latent: NotFinite: no mask"


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("NotFinite", "--retry-failed"),
        ("InvalidEdit", "--retry-failed"),
        ("StoreUnavailable", "the store answers"),
        ("InputChanged", ""),  # "… changed after it was planned: run again"
        ("InputMissing", ""),
        ("DeviceMemoryExhausted", ""),
        ("ModelUnavailable", ""),
        ("StageTimedOut", ""),
        ("ArtifactCorrupt", ""),
        ("RuntimeError", "shows the traceback"),
        ("unknown error", "shows the traceback"),
    ],
)
def test_each_kind_of_error_has_its_remedy_unless_its_message_says_it(kind, remedy):
    (cause,) = causes([failure("a", "so it is", kind)])
    assert remedy in cause.remedy
    assert bool(remedy) == bool(cause.remedy)
