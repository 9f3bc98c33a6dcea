"""The folder of a job's results as a site, to be read only."""

from typing import TYPE_CHECKING

from flows.outcomes import InvalidRequest
from stages.reports.place import Place

if TYPE_CHECKING:
    from starlette.types import ASGIApp


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
