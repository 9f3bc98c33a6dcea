"""Option values as they are typed: drags, settings, sizes."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from adaptivedrag.config import overlaid
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Drag, ImagePoint
from flows.outcomes import InvalidRequest
from stages.jobs.toml import toml_value

_DRAG = re.compile(r"\s*{n}\s*,\s*{n}\s*(?:->|→)\s*{n}\s*,\s*{n}\s*".format(n=r"(-?\d+(?:\.\d+)?)"))
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(?:([kMGT])(i?))?B", re.IGNORECASE)


def parse_drag(text: str) -> Drag:
    """Read a drag such as "120,80->180,80".

    Raises:
        InvalidEdit: if it cannot be read.
    """
    match = _DRAG.fullmatch(text)
    if not match:
        raise InvalidEdit(f'--drag {text!r} cannot be read: write it as "120,80->180,80"')
    x, y, target_x, target_y = map(float, match.groups())
    return Drag(ImagePoint(x, y), ImagePoint(target_x, target_y))


def parse_settings(named: Mapping[str, str], settings: Sequence[str]) -> dict[str, Any]:
    """Return the keys of a job file: the named ones, and those of each KEY=VALUE.

    Raises:
        InvalidEdit: if one cannot be read.
    """
    keys: dict[str, Any] = dict(named)
    for setting in settings:
        keys = overlaid(keys, _parse_setting(setting))
    return keys


def _parse_setting(setting: str) -> dict[str, Any]:
    """Read KEY=VALUE as TOML; a word without quotes is text."""
    key, equals, value = setting.partition("=")
    for write in (str, toml_value):
        with suppress(ValueError):
            return tomllib.loads(f"{key}{equals}{write(value)}")
    raise InvalidEdit(f"--set {setting!r} cannot be read: write it as train_lora.steps=40")


def parse_size(option: str, text: str) -> int:
    """Read a size in bytes; kB, MB and GB count thousands, KiB, MiB and GiB 1024s.

    Raises:
        InvalidRequest: if it cannot be read; naming the option.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise InvalidRequest(f"{option} {text!r} cannot be read: write it as 500MB, 50GB or 64GiB")
    number, prefix, binary = match.groups(default="")
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))
