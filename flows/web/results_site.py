"""The folder of a job's results as a site, to be read only."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from flows.outcomes import InvalidRequest
from stages.reports.place import Place

if TYPE_CHECKING:
    from starlette.types import ASGIApp


FIRST_PORT, PORTS = 20_000, 10_000
"""Below those that systems give to whoever asks for any."""


def usual_port(place: Place) -> int:
    """Return the port at which a place is served: votes on its page are kept by it."""
    digest = hashlib.sha256(str(Path(place.out).absolute()).encode()).digest()
    return FIRST_PORT + int.from_bytes(digest[:4]) % PORTS


def results_site(place: Place) -> "ASGIApp":
    """Return an app that answers with the files of a folder, and with none that a link leads to.

    Raises:
        InvalidRequest: if the results lie in object storage.
    """
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    if place.root is None:
        raise InvalidRequest(f"--serve serves a folder, and the results are in {place.out}")
    return Starlette(routes=[Mount("/", StaticFiles(directory=place.root, html=True))])
