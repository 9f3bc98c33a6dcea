"""What is wrong with a job or an edit, in one line: the field, the value, and what to do."""

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

_LONGEST = 60
_MOST_BITS = 1000


class Refused(Exception):
    """One thing that is wrong with one edit."""

    def __init__(self, field: str, reason: str) -> None:
        """Name the field, such as "drags[0].target", and say what is wrong in one line."""
        super().__init__(reason)
        self.field = field


def first_complaint(
    error: ValidationError, model: type[BaseModel], root: str = ""
) -> tuple[str, str]:
    """Return the field that pydantic complains of first, and one line that says it.

    Args:
        root: path of what was validated, such as "settings".
    """
    details = error.errors(include_url=False, include_context=False)
    first = details[0]
    path = _path((root, *first["loc"]) if root else first["loc"])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return path, _complaint(first["type"], path, first, model) + more


def key_name(name: str) -> str:
    """Return a key, safe to print: a hostile one is long, or holds control characters."""
    return _shortened(repr(name)[1:-1])


def printable(value: object) -> str:
    """Return a value, safe to print in one line."""
    if isinstance(value, dict | list):
        return type(value).__name__
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"  # Python refuses to write it out
    return _shortened(repr(value))


def one_line(error: object) -> str:
    """Return a message without its line breaks."""
    return " ".join(str(error).split())


def _complaint(kind: str, path: str, detail: Mapping[str, Any], model: type[BaseModel]) -> str:
    match kind:
        case "extra_forbidden":
            return f"unknown key '{path}': {_known_keys(detail['loc'], model)}"
        case "missing":
            return f"{path} is missing: add it"
        case "too_short" if path == "drags":
            return "drags is empty: give at least one handle and target"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            remedy = message[:1].lower() + message[1:]
            return f"{path or 'a key'} = {printable(detail['input'])} cannot be used: {remedy}"


def _known_keys(location: Sequence[int | str], model: type[BaseModel]) -> str:
    for name in location[:-1]:
        if isinstance(name, str):  # an index into a list leads to its items
            model = next(_models_in(model.model_fields[name].annotation), model)
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, such as those of `tuple[DragSpec, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _path(location: Sequence[int | str]) -> str:
    text = "".join(
        f"[{name}]" if isinstance(name, int) else f".{key_name(name)}" for name in location
    )
    return text.removeprefix(".")


def _shortened(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
