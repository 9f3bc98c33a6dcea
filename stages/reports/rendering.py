"""Pages as HTML: the templates that they are rendered from, and the assets that lie beside them.

Pages open from disk, so that scripts are classic ones: a browser refuses modules, and `fetch`, for
addresses file://. Text of users goes through Jinja's escaping, or `textContent`; nothing of theirs
is ever HTML.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = "assets"
"""The folder of the assets beside the index page."""
MOST_BYTES = 500_000
"""Of a script of rows, unless one row alone is larger."""
POLICY = (
    "default-src 'none'; img-src 'self' file: blob: data:; script-src 'self' file:; "
    "style-src 'self' file: 'unsafe-inline'"
)
"""What a page may load: what lies beside it, and nothing from any network."""


def render(
    template: str, *, title: str, assets: str = ASSETS, policy: str = POLICY, **context: Any
) -> str:
    """Return a page as HTML.

    Args:
        template: a file of `stages/reports/templates`, which extends `layout.html`.
        assets: the address of the assets as the page sees it.
        policy: what it may load; a page that is served may ask its server for more.
    """
    page = _environment().get_template(template)
    return page.render(title=title, assets=assets, policy=policy, **context)


def asset(name: str) -> bytes:
    """Return the bytes of a style sheet or a script."""
    return (files("stages.reports") / ASSETS / name).read_bytes()


def script_files(folder: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Return scripts that call `rows` with a few rows each, by path: `folder/0001.js`.

    Rows are scripts since a browser refuses `fetch` for addresses file://.
    """
    files, lines, size = dict[str, bytes](), list[str](), 0
    for row in rows:
        line = json.dumps(row, separators=(",", ":"))
        if lines and size + len(line) > MOST_BYTES:
            files |= _script(folder, len(files) + 1, lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 2
    return files | (_script(folder, len(files) + 1, lines) if lines else {})


def _script(folder: str, number: int, lines: Sequence[str]) -> dict[str, bytes]:
    text = ",\n".join(lines)
    return {f"{folder}/{number:04}.js": f"rows({number}, [\n{text}\n]);\n".encode()}


def addresses(files: Mapping[str, bytes]) -> list[str]:
    """Return the addresses of files, other ones for other bytes: no browser shows an old file."""
    return [f"{path}?{mark(data)}" for path, data in files.items()]


def mark(data: bytes) -> str:
    """Return a short text that is another for other bytes."""
    return hashlib.sha256(data).hexdigest()[:12]


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("stages.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
