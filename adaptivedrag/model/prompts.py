"""Prompts: what they may hold, and of which a text encoder reads only the beginning."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

LONGEST_PROMPT = 2000
"""Characters of a prompt."""
ENDS = 2
"""Tokens that begin and end every prompt."""
_SHOWN = 30
_PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


def is_plain(text: str) -> bool:
    """Return whether text holds no control character and no half of a surrogate pair."""
    return _PLAIN_TEXT.fullmatch(text) is not None


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
