"""Prompts of which a model's text encoders read only the beginning."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from artifacts import StatCache
from stages.jobs.edit import Edit
from stages.planning.models import diffusion_files

_ENDS = 2
"""Tokens that begin and end every prompt."""
_SHOWN = 30


def with_prompt_notes(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Note on the edits whose prompts are too long for their model where it stops reading.

    Raises:
        ModelUnavailable: if the files of a model are not there.
    """
    prompts: dict[tuple[str, str | None], set[str]] = {}
    for edit in edits:
        prompts.setdefault((edit.model, edit.vae), set()).add(edit.prompt)
    cut = {model: _cut(_tokenizers(*model), named) for model, named in prompts.items()}
    return tuple(
        replace(edit, prompt_notes=(note,))
        if (note := cut[edit.model, edit.vae].get(edit.prompt))
        else edit
        for edit in edits
    )


def _cut(tokenizers: Sequence[Path], prompts: Collection[str]) -> dict[str, str]:
    """Return a note for each prompt that is too long for one of the tokenizers, by prompt."""
    found: dict[str, str] = {}
    for folder in tokenizers:
        found = _cut_by(folder, prompts) | found
    return found


def _cut_by(folder: Path, prompts: Collection[str]) -> dict[str, str]:
    """Count with a tokenizer, and remember it: to load one takes a second.

    Prompts that cannot be too long are not counted.
    """
    config = folder / "tokenizer_config.json"
    length = _length(config)
    long = sorted(prompt for prompt in prompts if _tokens_at_most(prompt) > length)
    if not long:
        return {}
    what = hashlib.sha256(json.dumps(long).encode()).hexdigest()
    kind = f"where prompts are cut {what} {version('transformers')}"
    return StatCache().value(config, kind, lambda _: _count(folder, int(length), long))


def _tokenizers(model: str, vae: str | None) -> list[Path]:
    files = diffusion_files(model, vae)
    parts = files.architecture.parts.items()
    named = {name: part for name, part in parts if name.startswith("tokenizer")}
    return [files.source.part(name, part).folder for name, part in named.items()]


def _length(config: Path) -> float:
    """Return how many tokens of a prompt are read, without its ends."""
    try:
        length = json.loads(config.read_text("utf-8"))["model_max_length"] - _ENDS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # which is refused when the model is loaded
    return float(length)


def _tokens_at_most(prompt: str) -> int:
    # A token has at least a byte; other forms of a letter may have more bytes than it.
    return len(prompt) if prompt.isascii() else 3 * len(prompt.encode())


def _count(folder: Path, length: int, prompts: Sequence[str]) -> dict[str, str]:
    from transformers import CLIPTokenizer

    tokenizer: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    found = {}
    for prompt in prompts:
        counted = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in counted.offset_mapping]
        if len(ends) - _ENDS > length:
            found[prompt] = _note(prompt[: ends[length]], len(ends) - _ENDS, length)
    return found


def _note(read: str, tokens: int, length: int) -> str:
    """Say where a prompt is cut, given what is read of it."""
    return (
        f"the prompt has {tokens} tokens, and the text encoder reads {length}: nothing after "
        f'"…{read[-_SHOWN:]}" counts'
    )
