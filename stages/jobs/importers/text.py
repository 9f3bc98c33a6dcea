"""Text files in the encodings that people's tools write."""

import json
from pathlib import Path
from typing import Any

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.prompts import LONGEST_PROMPT
from stages.jobs.forms import HEAD, other_form
from stages.jobs.lines import refuse_special

LARGEST_FILE = 1 << 28


def read_text(path: Path, form: str | None = None) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
        form: "CSV" or "JSON"; None for a text of any form.

    Raises:
        InvalidEdit: if it cannot be read, or is in another encoding or form.
    """
    try:
        refuse_special(path)
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidEdit(f"{path} has more than {LARGEST_FILE >> 20} MiB: split it")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidEdit(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        _refuse_other(path, data[:HEAD], form)
        raise InvalidEdit(
            f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8"
            + " (in Excel, CSV UTF-8)" * (form == "CSV")
        ) from None
    _refuse_other(path, text[:HEAD].encode("utf-8", "replace"), form)
    return text


def prompt_of(value: Any) -> str:
    """Return a prompt in one line.

    Raises:
        InvalidEdit: if it is no text, or too long.
    """
    if not isinstance(value, str):
        raise InvalidEdit(f"prompt is {type(value).__name__}, not a text")
    prompt = " ".join(value.split())
    if len(prompt) > LONGEST_PROMPT:
        raise InvalidEdit(
            f"prompt has {len(prompt)} characters, and {LONGEST_PROMPT} are taken: shorten it"
        )
    return prompt


def _refuse_other(path: Path, head: bytes, form: str | None) -> None:
    if form and (other := other_form(path, head, form)):
        raise InvalidEdit(f"{path} is {other}")
