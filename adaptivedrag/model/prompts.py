"""Prompts of which a text encoder reads only the beginning."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

ENDS = 2
"""Tokens that begin and end every prompt."""
_SHOWN = 30


def cut_note(tokenizer: "CLIPTokenizer", prompt: str) -> str | None:
    """Say where a prompt is cut that has more tokens than are read; None for others."""
    counted = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
    ends = [end for _, end in counted.offset_mapping]
    tokens, length = len(ends) - ENDS, tokenizer.model_max_length - ENDS
    if tokens <= length:
        return None
    return (
        f"the prompt has {tokens} tokens, and the text encoder reads {length}: nothing after "
        f'"…{prompt[: ends[length]][-_SHOWN:]}" counts'
    )
