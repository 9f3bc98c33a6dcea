"""The machine's own Chromium for the tests of pages; it may ask nothing of any network."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 30_000
"""Milliseconds for what a page is expected to show, on a machine that does much else."""
LOOPBACK = {"127.0.0.1", "localhost"}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium without a window, or skip the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Browser, **options: object) -> Iterator[Page]:
    """Open a tab; fail at its end for an error on the page, or a request beyond this machine.

    Args:
        options: of Playwright's `new_context`, such as viewport and color_scheme.
    """
    context = browser.new_context(**options)
    page, troubles = context.new_page(), []
    page.on("pageerror", lambda error: troubles.append(f"error on the page: {error}"))
    page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
    page.on("request", lambda request: _is_local(request.url) or troubles.append(request.url))
    yield page
    context.close()
    assert troubles == []


def wait_until(page: Page, expression: str, seconds: float = 20.0) -> None:
    """Wait until an expression is true on a page, whose policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not _is_true(page, expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(20)


def _is_true(page: Page, expression: str) -> bool:
    try:
        return bool(page.evaluate(expression))
    except Error:  # the page is loaded again just now
        return False


def _is_local(url: str) -> bool:
    address = urlsplit(url)
    return address.scheme in ("file", "data", "blob") or address.hostname in LOOPBACK
