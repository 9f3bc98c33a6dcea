"""Variants of a job: ids, tags and settings of their edits, and what is refused."""

import json
from pathlib import Path

import pytest
from support.finished_job import write_job

from adaptivedrag.errors import InvalidEdit
from stages.jobs.edit import BadEdit, Job, by_variant
from stages.jobs.reader import load_job
from stages.jobs.selection import select_edits

TWO = """
[[variants]]
name = "short"
optimize_latent = { max_steps = 90 }

[[variants]]
name = "plus"
preset = "plus"
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def job_of(folder: Path, toml: str = TWO, **change: object) -> Path:
    """Write a job of two edits; `change` is of the first."""
    path = write_job(folder, toml=toml)
    first, *others = (folder / "edits.jsonl").read_text().splitlines()
    lines = [json.dumps(json.loads(first) | change), *others]
    (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
    return path


def ids(job: Job) -> list[str]:
    return [edit.id for edit in job.edits]


def test_every_edit_is_made_as_the_job_is_and_once_for_each_variant(tmp_path):
    job = load_job(job_of(tmp_path))
    names = ["edit-0", "edit-0.short", "edit-0.plus", "edit-1", "edit-1.short", "edit-1.plus"]
    assert [*job.order] == ids(job) == names
    as_it_is, short, plus = (edit.config for edit in job.edits[:3])
    assert as_it_is != short == as_it_is.merged({"optimize_latent": {"max_steps": 90}})
    assert plus.optimize_latent.method == "warp"
    parts = by_variant(job)
    assert [*parts] == ["baseline", "short", "plus"]
    assert all(ids(part) == ["edit-0", "edit-1"] == [*part.order] for part in parts.values())


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("short", ["edit-0.short", "edit-1.short"]),
        ("*.plus", ["edit-0.plus", "edit-1.plus"]),
        ("baseline", ["edit-0", "edit-1"]),
        ("edit-1", ["edit-1", "edit-1.short", "edit-1.plus"]),
        ("edit-1.plus", ["edit-1.plus"]),
    ],
)
def test_a_selection_takes_a_variant_or_an_edit_with_its_variants(tmp_path, pattern, wanted):
    assert ids(select_edits(load_job(job_of(tmp_path)), [pattern])) == wanted


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[[variants]]\npreset = "plus"', "variants[0].name is missing: add it"),
        ('[[variants]]\nname = "a b"', "name = 'a b' cannot be used: a name is a part of ids"),
        ('[[variants]]\nname = "a.b"', "name = 'a.b' cannot be used"),
        (f'[[variants]]\nname = "{"a" * 41}"', "1 to 40 letters"),
        ('[[variants]]\nname = "Baseline"', "what the job as it is is called"),
        ('[[variants]]\nname = "a"\nprest = "plus"', "unknown key 'variants[0].prest'"),
        ('[[variants]]\nname = "a"\nedits = "b.jsonl"', "unknown key 'variants[0].edits'"),
        ('[[variants]]\nname = "a"\nseed = -1', "variant 'a': seed = -1 cannot be used"),
        (
            '[[variants]]\nname = "a"\n[variants.train_lora]\nstep = 1',
            "variant 'a': unknown key 'train_lora.step': did you mean 'steps'?",
        ),
        (
            '[[variants]]\nname = "a"\nseed = 1\n[[variants]]\nname = "A"\nseed = 2',
            "'A' is there twice: rename one",
        ),
        ('[variants]\nname = "a"', "write a table [[variants]], in two brackets, for each"),
        ("variants = 3", "write a table [[variants]], in two brackets, for each"),
        (
            '[[variants]]\nname = "a"\npreset = "paper"',
            "variant 'a' makes every edit as the job as it is does",
        ),
        (
            '[[variants]]\nname = "a"\nseed = 1\n[[variants]]\nname = "b"\nseed = 1',
            "variant 'b' makes every edit as variant 'a' does",
        ),
    ],
)
def test_a_variant_that_cannot_be_used_is_refused_in_one_line(tmp_path, toml, said):
    with pytest.raises(InvalidEdit) as refused:
        load_job(job_of(tmp_path, toml))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said", "others"),
    [
        ({"tags": ["plus"]}, "tag 'plus' is the name of a variant, too", []),
        ({"id": "a" * 125}, "of the variant is too long", ["a" * 125]),
        ({"image": "none.png"}, "none.png", []),
    ],
)
def test_an_edit_that_a_variant_spoils_is_bad_alone(tmp_path, change, said, others):
    job = load_job(job_of(tmp_path, '[[variants]]\nname = "plus"\npreset = "plus"', **change))
    assert ids(job) == [*others, "edit-1", "edit-1.plus"]
    (bad,) = job.bad
    assert isinstance(bad, BadEdit)
    assert said in str(bad)


def test_variants_that_spoil_every_edit_are_not_called_equal(tmp_path):
    table = '[[variants]]\nname = "{}"\nbuild_mask = {{ mode = "user" }}\nseed = {}\n'
    job = load_job(job_of(tmp_path, table.format("a", 1) + table.format("b", 2)))
    assert ids(job) == ["edit-0", "edit-1"]
    assert [bad.id for bad in job.bad] == ["edit-0.a", "edit-0.b", "edit-1.a", "edit-1.b"]


def test_an_id_that_a_variant_has_taken_is_named(tmp_path):
    path = job_of(tmp_path, '[[variants]]\nname = "plus"\npreset = "plus"', id="edit-1.plus")
    (bad,) = load_job(path).bad
    assert "'edit-1.plus' (line 2) is already used in line 1" in str(bad)


def test_what_a_variant_sets_goes_on_top_of_an_edit_and_is_noted_there(tmp_path):
    path = job_of(tmp_path, settings={"optimize_latent": {"max_steps": 80}})
    as_it_is, short, *_ = load_job(path).edits
    steps = [edit.config.optimize_latent.max_steps for edit in (as_it_is, short)]
    assert steps == [80, 90]
    said = "settings.optimize_latent.max_steps is not used, because variant 'short' sets it"
    assert said in short.notes
    assert said not in as_it_is.notes


def test_settings_beside_a_job_are_a_variant_with_a_name_made_of_them(tmp_path):
    path = job_of(tmp_path, "")
    beside = {"preset": "plus", "sample_image": {"hole_rounds": 1}}
    job = load_job(path, beside=beside)
    assert job.variants == ("preset-plus-hole_rounds-1",)
    assert load_job(path, beside={"name": "mine", **beside}).variants == ("mine",)
    assert ids(job)[:2] == ["edit-0", "edit-0.preset-plus-hole_rounds-1"]
    (long,) = load_job(path, beside={"model": f"{tmp_path}/{'m' * 60}"}).variants
    assert len(long) == 40
    for wrong in ({"prest": "plus"}, {"seed": -1}, {"edits": "b.jsonl"}, {"preset": "paper"}):
        with pytest.raises(InvalidEdit, match=r"^--set: |makes every edit as"):
            load_job(path, beside=wrong)
    with pytest.raises(InvalidEdit, match="the variant 'short' is there twice"):
        load_job(job_of(tmp_path), beside={"name": "short", "seed": 1})


@pytest.mark.parametrize("wanted", [["edit-1"], ["edit-1.plus"], ["edit-1", "edit-1.short"], []])
def test_of_edits_that_are_not_asked_for_no_file_is_read_and_the_order_is_the_jobs(
    wanted, tmp_path
):
    path = job_of(tmp_path, image="is not there.png")
    whole = load_job(path)
    assert [bad.id for bad in whole.bad] == ["edit-0"]
    job = load_job(path, only=wanted)
    assert (ids(job), job.bad) == (wanted, ())
    assert {edit.id: edit for edit in whole.edits}.items() >= {e.id: e for e in job.edits}.items()
    assert {*job.order} >= {*whole.order}
    assert [name for name in job.order if name in whole.order] == [*whole.order]
