"""A served page answers who knows its address, and nobody else."""

from contextlib import closing
from http.client import HTTPConnection

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from support.served import served

from flows.outcomes import InvalidRequest
from flows.web import serving
from flows.web.results_site import results_site, usual_port
from flows.web.serving import Site
from stages.reports.place import Place


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Results, with a link that leads out of them and a secret beside them."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "out" / "data").mkdir(parents=True)
    (folder / "out" / "index.html").write_text("<p>the page</p>")
    (folder / "out" / "data" / "0001.js").write_text("rows")
    (folder / "secret.txt").write_text("secret")
    (folder / "out" / "link.txt").symlink_to(folder / "secret.txt")
    return folder / "out"


@pytest.fixture(scope="module")
def site(out):
    with served(results_site(Place(out))) as site:
        yield site


@pytest.fixture(scope="module")
def client(site):
    with httpx.Client(base_url=site.address) as client:
        yield client


def test_the_files_of_a_folder_are_served_and_may_not_be_kept_or_framed(client):
    page = client.get("")
    assert (page.status_code, page.text) == (200, "<p>the page</p>")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-frame-options"] == "DENY"
    assert client.get("data/0001.js").text == "rows"


@pytest.mark.parametrize(
    "path", ["link.txt", "../secret.txt", "%2e%2e/secret.txt", "data/..%2f..%2fsecret.txt", "data"]
)
def test_nothing_outside_the_folder_is_served(site, path):
    wire = HTTPConnection("127.0.0.1", site.port)  # httpx would shorten paths with dots
    wire.request("GET", f"/{site.token}/{path}")
    answer = wire.getresponse()
    assert answer.status in (307, 404)
    assert b"secret" not in answer.read()
    wire.close()


def test_the_folder_is_read_only(client):
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "index.html").status_code == 405


def test_who_lacks_the_token_or_comes_from_another_site_is_refused(client, site):
    root = f"http://127.0.0.1:{site.port}"
    for path in ("/", "/index.html", f"/{site.token}", f"/{site.token[:-1]}/", "/ü/"):
        answer = client.get(root + path)
        assert (answer.status_code, answer.text.partition(":")[0]) == (
            403,
            "the address lacks its token",
        )
    for headers, reason in (
        ({"host": f"evil.example:{site.port}"}, "for this machine only"),
        ({"host": "127.0.0.1"}, "for this machine only"),
        ({"origin": "https://evil.example"}, "another site"),
        ({"origin": "null"}, "another site"),
    ):
        answer = client.get("", headers=headers)
        assert answer.status_code == 403
        assert reason in answer.text
    for name in ("127.0.0.1", "localhost"):
        own = {"host": f"{name}:{site.port}", "origin": f"http://{name}:{site.port}"}
        assert client.get("", headers=own).status_code == 200


def test_a_body_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(serving, "LARGEST_BODY", 1000)

    async def length(request: Request) -> Response:
        return Response(str(len(await request.body())))

    app = Starlette(routes=[Route("/", length, methods=["POST"])])
    with served(app) as site:
        assert httpx.post(site.address, content=b"x" * 1000).text == "1000"
        assert httpx.post(site.address, content=b"x" * 1001).status_code == 413


def test_a_port_in_use_is_refused_in_one_line(site):
    with pytest.raises(InvalidRequest, match=rf"^--port {site.port} cannot be had \(.+\): name"):
        Site.bind(site.app, site.port)


def test_a_folder_has_the_same_port_again_unless_that_is_taken(site, tmp_path):
    place = Place(tmp_path)
    port = usual_port(place)
    assert port == usual_port(Place(tmp_path)) != usual_port(Place(tmp_path / "other"))
    assert Site.bind(site.app, usual=site.port).port != site.port
    with closing(Site.bind(site.app, usual=port).socket) as bound:
        assert bound.getsockname()[1] == port


def test_results_in_object_storage_are_not_served():
    with pytest.raises(InvalidRequest, match="serves a folder"):
        results_site(Place("memory://"))
