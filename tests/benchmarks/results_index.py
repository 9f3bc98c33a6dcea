"""What the index page costs: in Chromium with 13,000 made-up rows, and to write for made-up jobs.

    PYTHONPATH=.:tests python tests/benchmarks/results_index.py FOLDER [EDITS]

prints a table. Rows differ as those of real edits do; small pictures are photographs of that size.
"""

import io
import sys
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page
from skimage.data import astronaut
from support.browser import chromium, wait_until, watched_page

from stages.jobs.edit import Job
from stages.pipeline import STAGE_NAMES
from stages.reports import page
from stages.reports.pictures import THUMB
from stages.reports.place import Place
from stages.reports.rows import ResultRow
from stages.reports.verdicts import with_outliers

EDITS = 13_000
PICTURES = 400
OVERLAYS = ("superpixels", "mask", "paths")
VERDICTS = ("reached", "reached", "reached", "partial", "stalled", "lost")
SEEN = "document.querySelectorAll('#grid li').length && [...document.images].filter("
SEEN += "i => i.getBoundingClientRect().top < innerHeight).every(i => i.complete)"
ANSWERED = """(address) => new Promise((done) => {
  const start = performance.now();
  const end = () => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
  window.addEventListener('hashchange', end, {once: true});
  location.hash = address;
})"""
VIEWS = {
    "filter by verdict": "verdict=stalled",
    "filter by tag": "tag=animal",
    "filter by text": "text=river%20of%20scene%2012",
    "sort by distance": "sort=distance",
    "sort by name": "sort=name",
    "worst first": "sort=worst",
    "everything again": "",
}


def rows(number: int) -> Iterator[ResultRow]:
    """Yield made-up rows: one in fifty failed, some are not done, the others differ in measures."""
    draw = np.random.default_rng(0)
    for index in range(number):
        verdict = VERDICTS[index % len(VERDICTS)]
        relative = float(draw.random() * (0.2 if verdict == "reached" else 1))
        small = {
            name: f"thumbs/{(2 * index + turn) % PICTURES}.jpg"
            for turn, name in enumerate(("before", "after"))
        }
        point = {
            "verdict": verdict,
            "handle": [100.0, 90.5],
            "target": [180.0, 120.25],
            "end": [170.1, 121.7],
            "distance": 85 * relative,
        }
        row = {
            "id": f"scene-{index:05}-move",
            "status": "done",
            "prompt": f"a snowy peak and a river of scene {index % 997} under the midday sun",
            "tags": [("animal", "vehicle", "face")[index % 3], "move"],
            "verdict": verdict,
            "points": [point],
            "distance": 85 * relative,
            "relative": relative,
            "outside": float(draw.exponential(0.5)),
            "mask_share": float(draw.random() / 4),
            "seconds": float(draw.gamma(4, 6)),
            "stage_seconds": dict.fromkeys(STAGE_NAMES, 3.0),
            "devices": dict.fromkeys(STAGE_NAMES, "NVIDIA H200"),
            "keys": {name: f"{name}{index}" for name in STAGE_NAMES},
            "drags": [[point["handle"], point["target"]]],
            "tracker": {"verdict": "reached"},
            "steps": 40,
            "budget": 80,
            "width": 512,
            "height": 512,
            "image": small["after"],
            "source": small["before"],
            "overlays": dict.fromkeys(OVERLAYS, small["after"]),
            "thumbs": small,
            "truth": None,
        }
        if index % 50 == 7:
            failure = {
                "stage": "optimize_latent",
                "kind": "NotFinite",
                "message": f"the loss is not finite at step {index % 80}",
            }
            row |= {"status": "failed", "reason": str(failure), "failure": failure}
        yield row


def write(folder: Path, number: int) -> float:
    """Write a page of made-up rows; return the CPU time that it took, without that for the rows."""
    found = [*with_outliers(rows(number))]
    job = Job("thirteen thousand", folder / "job.toml", (), (), tuple(row["id"] for row in found))
    start = time.process_time()
    page.Page(job, found).write(Place(folder))
    return time.process_time() - start


def write_thumbs(folder: Path) -> None:
    """Write the small pictures that made-up rows name."""
    (folder / "thumbs").mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(_thumbs()):
        (folder / "thumbs" / f"{index}.jpg").write_bytes(data)


def _thumbs() -> Iterator[bytes]:
    picture = astronaut()
    for index in range(PICTURES):
        encoded = io.BytesIO()
        turned = np.roll(picture, 7 * index, axis=1)
        Image.fromarray(turned).resize((THUMB, THUMB)).save(encoded, "JPEG", quality=75)
        yield encoded.getvalue()


def measure(browser: Browser, folder: Path) -> dict[str, str]:
    """Open a page in a new tab, and use it."""
    with watched_page(browser, viewport={"width": 1400, "height": 1000}) as tab:
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        start = time.perf_counter()
        tab.goto((folder / "index.html").as_uri())
        wait_until(tab, SEEN)
        first = time.perf_counter() - start
        wait_until(tab, "!document.getElementById('said').textContent.includes('are read')")
        whole = time.perf_counter() - start
        # The second file of rows is asked for when the first view is there.
        read = sum(map(_size, takewhile(lambda url: "/data/0002.js" not in url, asked)))
        found = {
            "first view": f"{first:.2f} s, {read / 1e6:.2f} MB read",
            "all rows are read": f"{whole:.2f} s",
        }
        found |= {
            name: f"{tab.evaluate(ANSWERED, '#' + view):.0f} ms" for name, view in VIEWS.items()
        }
        tab.evaluate(ANSWERED, "#edit=scene-00003-move")
        tab.keyboard.press("j")
        return {**found, **_memory(browser, tab)}


def _size(address: str) -> int:
    path = Path(unquote(urlsplit(address).path))
    return path.stat().st_size if path.is_file() else 0


def _memory(browser: Browser, tab: Page) -> dict[str, str]:
    """Return what the tab's scripts hold, and the largest process of a tab."""
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable")
    metrics = {
        each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]
    }
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    tabs = [each["id"] for each in processes if each["type"] == "renderer"]
    pages = max(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in tabs)
    return {
        "memory of scripts": f"{metrics['JSHeapUsedSize'] / 1e6:.0f} MB",
        "memory of the tab's process": f"{pages * 4096 / 1e6:.0f} MB",
    }


def main(folder: Path, edits: int = EDITS) -> Iterator[str]:
    """Write the page, open it, and yield the lines of the table."""
    seconds = write(folder, edits)
    write_thumbs(folder)
    yield f"| {edits} edits | |"
    yield "| --- | --- |"
    yield f"| writing rows and index | {seconds:.2f} s |"
    with chromium() as browser:
        for name, value in measure(browser, folder).items():
            yield f"| {name} | {value} |"


if __name__ == "__main__":
    for line in main(Path(sys.argv[1]), *map(int, sys.argv[2:])):
        sys.stdout.write(line + "\n")
