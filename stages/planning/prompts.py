"""Prompts of which a model's text encoders read only the beginning."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from adaptivedrag.model.parts import CLIP_TOKENIZER
from adaptivedrag.model.prompts import ENDS, cut_note
from artifacts import Digest, StatCache, digest_json
from stages.jobs.edit import Edit
from stages.planning.models import DiffusionFiles, diffusion_files


def with_prompt_notes(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Note on the edits whose prompts are too long for their model where it stops reading.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    prompts: dict[tuple[str, str | None], set[str]] = {}
    for edit in edits:
        prompts.setdefault((edit.model, edit.vae), set()).add(edit.prompt)
    cut = {model: _cut(diffusion_files(*model), named) for model, named in prompts.items()}
    return tuple(
        replace(edit, prompt_notes=(note,))
        if (note := cut[edit.model, edit.vae].get(edit.prompt))
        else edit
        for edit in edits
    )


def _cut(model: DiffusionFiles, prompts: Collection[str]) -> dict[str, str]:
    """Return a note for each prompt that is too long for one of the tokenizers, by prompt."""
    found: dict[str, str] = {}
    for name, part in model.architecture.parts.items():
        if name.startswith("tokenizer"):
            folder = model.source.part(name, part).folder
            found = _cut_by(folder, model.digest, prompts) | found
    return found


def _cut_by(folder: Path, model: Digest, prompts: Collection[str]) -> dict[str, str]:
    """Count with the tokenizer of a model, and remember it: to load one takes a second.

    Prompts that cannot be too long are not counted.
    """
    config = folder / "tokenizer_config.json"
    length = _length(config)
    long = sorted(prompt for prompt in prompts if _tokens_at_most(prompt) > length)
    if not long:
        return {}
    what = digest_json("prompts", [model, version("transformers"), *long])
    return StatCache().value(config, f"cut {what}", lambda _: _count(folder, long))


def _length(config: Path) -> float:
    """Return how many tokens of a prompt are read, without its ends."""
    try:
        length = json.loads(config.read_text("utf-8"))["model_max_length"] - ENDS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # which is refused when the model is loaded
    return float(length)


def _tokens_at_most(prompt: str) -> int:
    # A token has at least a byte; other forms of a letter may have more bytes than it.
    return len(prompt) if prompt.isascii() else 3 * len(prompt.encode())


def _count(folder: Path, prompts: Sequence[str]) -> dict[str, str]:
    tokenizer = CLIP_TOKENIZER.build(folder)
    return {prompt: note for prompt in prompts if (note := cut_note(tokenizer, prompt))}
