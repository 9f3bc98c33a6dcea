"""What a command's process needs before anything else: a home, and output that holds any text."""

import codecs
import io
import os
import sys
from contextlib import suppress

PLAIN = {
    "→": "->",
    "×": "x",
    "·": "-",
    "–": "-",
    "−": "-",
    "…": "...",
    "²": "^2",
    "±": "+-",
    "°": " degrees",
}
"""Our signs in letters that every terminal has."""
_IN_PLAIN = "adaptivedrag-plain"


def prepare() -> None:
    """Give libraries a home where the user has none, and let output hold any text."""
    if os.path.expanduser("~") == "~":
        _make_home()
    codecs.register_error(_IN_PLAIN, _in_plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_IN_PLAIN)


def _make_home() -> None:
    from artifacts.lookup.cache_file import cache_path

    home = cache_path("home")
    with suppress(OSError):  # then what needs a home says so
        home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks in plain letters, and names that are not valid text as codes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign) or _code(sign) for sign in lacking), error.end


def _code(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode()
