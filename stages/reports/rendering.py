"""Pages as HTML: the templates that they are rendered from, and the assets that lie beside them.

Pages open from disk, so that scripts are classic ones: a browser refuses modules, and `fetch`, for
addresses file://. Text of users goes through Jinja's escaping, or `textContent`; nothing of theirs
is ever HTML.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = "assets"
"""The folder of the assets beside the index page."""
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
