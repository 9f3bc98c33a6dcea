"""The README's picture of a page of results: the grid, with the worst edits first, and one edit.

    PYTHONPATH=.:tests python tests/benchmarks/page_picture.py results/hundred docs/images/page.png

takes the folder that a run has filled, and Chromium. Nothing is chosen: the edit that is opened is
the middle one in that order.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser
from support.browser import chromium, watched_page

VIEW = {"width": 1280, "height": 800}
COLORS = 256


def draw(browser: Browser, page_file: Path) -> Image.Image:
    """Return the grid of a page, and beside it one of its edits, opened."""
    with watched_page(browser, viewport=VIEW) as page:
        page.goto(page_file.absolute().as_uri())
        page.get_by_role("button", name="worst first").click()
        page.wait_for_function("document.querySelectorAll('#grid img').length > 0")
        page.wait_for_load_state("networkidle")
        grid = _shot(page.screenshot())
        cards = page.locator("#grid > li")
        cards.nth(cards.count() // 2).locator("a, button").first.click()
        page.wait_for_load_state("networkidle")
        opened = _shot(page.screenshot())
    both = Image.new("RGB", (grid.width + opened.width, grid.height))
    both.paste(grid, (0, 0))
    both.paste(opened, (grid.width, 0))
    return both.quantize(COLORS)


def _shot(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


if __name__ == "__main__":
    with chromium() as opened_browser:
        draw(opened_browser, Path(sys.argv[1]) / "index.html").save(sys.argv[2], optimize=True)
