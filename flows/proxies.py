"""Proxies that the environment names: none of them reaches this machine's own loopback."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXY = re.compile(r"(http|https|all)_proxy", re.IGNORECASE)
_EXCEPTIONS = {"NO_PROXY": "no_proxy", "no_proxy": "NO_PROXY"}


def is_loopback(host: str | None) -> bool:
    """Return whether a host is this machine, by its usual names."""
    return host in _LOOPBACK


@contextlib.contextmanager
def proxies_for(host: str | None) -> Iterator[None]:
    """Let what is asked for in this block, also by child processes, reach loopback directly.

    What the user has named stays. Only where the block's server is on loopback, SOCKS proxies are
    left out that httpx cannot use here: with them no client can be made, whatever it connects to.
    """
    before, proxies = dict(os.environ), proxies_of(os.environ)
    if proxies:
        os.environ.update({name: _with_loopback(name, before) for name in _EXCEPTIONS})
    for name in unusable(proxies) if is_loopback(host) else ():
        del os.environ[name]
    try:
        yield
    finally:
        for name in {*proxies, *_EXCEPTIONS} if proxies else ():
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def proxies_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name proxies."""
    return {name: url for name, url in environment.items() if url and _PROXY.fullmatch(name)}


def unusable(proxies: Mapping[str, str]) -> list[str]:
    """Return the variables whose proxy httpx cannot use here."""
    has_socks = importlib.util.find_spec("socksio") is not None
    return [name for name, url in proxies.items() if url.startswith("socks") and not has_socks]


def _with_loopback(name: str, environment: Mapping[str, str]) -> str:
    named = environment.get(name, environment.get(_EXCEPTIONS[name], ""))
    listed = [host for each in named.split(",") if (host := each.strip())]
    return named if "*" in listed else ",".join(dict.fromkeys([*listed, *_LOOPBACK]))
