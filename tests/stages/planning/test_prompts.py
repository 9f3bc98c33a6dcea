"""Prompts of which a text encoder reads only the beginning."""

import re
import sys

import pytest
import torch
from support.finished_job import write_job

from adaptivedrag.model.architectures.sd1 import ClipPrompts
from adaptivedrag.model.architectures.sdxl import TwoClipPrompts
from adaptivedrag.model.weights import find_diffusion
from artifacts import ArtifactStore
from flows.terminal.jobs import note_inputs
from stages.jobs.reader import load_job
from stages.planning import prompts
from stages.planning.plan import plan_edits


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def of_prompt(path, prompt):
    line = path.with_name("edits.jsonl").read_text("utf-8").splitlines()[0]
    changed = re.sub(r'"prompt": "[^"]*"', f'"prompt": "{prompt}"', line)
    assert prompt in changed
    path.with_name("edits.jsonl").write_text(changed + "\n", "utf-8")
    path.write_text('model = "pocket"\nlora = "off"\n')
    return load_job(path)


RED = "a small red ball on a table, "
LONG = {"words": RED * 12 + "cat", "accents": "café " * 40, "signs": "猫" * 60, "one": "x" * 90}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(find_diffusion("pocket") / "tokenizer")


@pytest.mark.parametrize("prompt", LONG.values(), ids=LONG)
def test_a_prompt_that_is_too_long_has_one_note_that_says_where_it_is_cut(
    tmp_path, capsys, tokenizer, prompt
):
    job = of_prompt(write_job(tmp_path / "job", edits=1), prompt)
    (edit,) = prompts.with_prompt_notes(job.edits)
    (note,) = edit.prompt_notes
    assert note in edit.notes
    said = re.search(r'has (\d+) tokens, and .* reads 75: nothing after "…(.*)" counts', note)
    assert int(said[1]) == len(tokenizer(prompt).input_ids) - 2
    read = tokenizer(prompt, truncation=True, max_length=77).input_ids[:-1]
    ends = [found.end() for found in re.finditer(f"(?<={re.escape(said[2])})", prompt)]
    assert (
        any(ends_in_last_word(tokenizer, prompt[:end], read) for end in ends) or " " not in prompt
    )
    note_inputs(job)
    assert note in capsys.readouterr().out


def ends_in_last_word(tokenizer, beginning, tokens):
    """Say whether tokens are those of a text up to its last word, and some of that."""
    words = tokenizer(beginning.rpartition(" ")[0]).input_ids[:-1]
    return tokens[: len(words)] == words and len(tokens) - len(words) < 7


@pytest.mark.parametrize("prompt", ["a red ball", RED * 4, "x" * 75, "café " * 5])
def test_a_prompt_that_is_read_whole_has_none(tmp_path, prompt):
    job = of_prompt(write_job(tmp_path / "job", edits=1), prompt)
    (edit,) = prompts.with_prompt_notes(job.edits)
    assert edit.prompt_notes == ()


def test_what_was_counted_is_remembered_and_plans_have_the_notes(tmp_path, monkeypatch):
    job = of_prompt(write_job(tmp_path / "job", edits=1), LONG["words"])
    monkeypatch.setattr("artifacts.lookup.stat_cache._is_settled", lambda _: True)
    before = prompts.with_prompt_notes(job.edits)
    monkeypatch.setitem(sys.modules, "transformers", None)  # it would be imported to count again
    (plan,) = plan_edits(job.edits, ArtifactStore.open(tmp_path / "store"))
    assert plan.edit.prompt_notes == before[0].prompt_notes != ()


def test_the_models_own_encoder_says_the_same(tmp_path, tokenizer):
    job = of_prompt(write_job(tmp_path / "job", edits=1), LONG["words"])
    (edit,) = prompts.with_prompt_notes(job.edits)
    one = ClipPrompts(torch.nn.Identity(), tokenizer)
    assert one.notes(LONG["words"]) == TwoClipPrompts(one, one).notes(LONG["words"])
    assert one.notes(LONG["words"]) == edit.prompt_notes
    assert one.notes("a red ball") == ()
