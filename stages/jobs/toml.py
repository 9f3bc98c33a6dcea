"""Values and job files as TOML text, right for all strings; `tomllib` reads them back."""

import re
from collections.abc import Mapping
from typing import Any

_SPECIAL = {'"': '\\"', "\\": "\\\\", "\t": "\\t", "\n": "\\n"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')


def toml_value(value: object) -> str:
    """Return a text, number, truth value, list or table as TOML, in one line.

    Raises:
        ValueError: for anything else, and for half of a surrogate pair, which TOML cannot express.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case Mapping():
            pairs = (f"{_key(name)} = {toml_value(item)}" for name, item in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
    raise ValueError(f"TOML has no {type(value).__name__}")


def toml_document(settings: Mapping[str, Any]) -> str:
    """Return a job file: the plain keys first, then its tables.

    Raises:
        ValueError: as `toml_value`.
    """
    tables = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in settings.items() if key not in tables}
    parts = [_lines(plain), *(f"[{_key(key)}]\n{_lines(table)}" for key, table in tables.items())]
    return "\n".join(part for part in parts if part)


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{_key(name)} = {toml_value(value)}\n" for name, value in values.items())


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    text.encode()  # refuses half of a surrogate pair, with a ValueError
    return f'"{_ESCAPED.sub(lambda found: _escape(found[0]), text)}"'


def _escape(character: str) -> str:
    return _SPECIAL.get(character) or f"\\u{ord(character):04x}"
