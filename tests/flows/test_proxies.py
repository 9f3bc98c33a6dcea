"""Proxies of the environment, and this machine's own loopback."""

import importlib.util
import os
from urllib.request import getproxies, proxy_bypass

import httpx
import pytest

from flows.prefect_server import PrefectServer
from flows.prefect_settings import PrefectUnavailable
from flows.proxies import proxies_for

PROXY = "http://127.0.0.1:9"
LOOPBACK = "127.0.0.1,localhost,::1"
NAMES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("no_proxy", "expected"),
    [
        ({}, LOOPBACK),
        ({"NO_PROXY": "a.example"}, f"a.example,{LOOPBACK}"),
        ({"no_proxy": " .b.example , "}, f".b.example,{LOOPBACK}"),
        ({"NO_PROXY": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_loopback_is_reached_directly_and_what_the_user_names_stays(
    monkeypatch, name, no_proxy, expected
):
    for variable, value in {name: PROXY, **no_proxy}.items():
        monkeypatch.setenv(variable, value)
    before = dict(os.environ)
    with proxies_for("127.0.0.1"):
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected
        assert proxy_bypass("127.0.0.1:4200")
        assert bool(proxy_bypass("prefect.example")) == (expected == "*")
        assert os.environ[name] == PROXY
    assert dict(os.environ) == before


def test_without_proxies_nothing_is_changed():
    before = dict(os.environ)
    with proxies_for("127.0.0.1"):
        assert dict(os.environ) == before


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="socksio is there")
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "http_proxy"])
def test_a_socks_proxy_that_no_client_can_use_keeps_none_from_loopback(monkeypatch, name):
    monkeypatch.setenv(name, "socks5h://127.0.0.1:9")
    with pytest.raises(PrefectUnavailable, match=f"{name}.*socksio"):
        PrefectServer("http://prefect.example/api").wait_until_ready()
    with proxies_for("localhost"), httpx.Client():
        assert set(getproxies()) == {"no"}
    assert os.environ[name] == "socks5h://127.0.0.1:9"
