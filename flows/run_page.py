"""What the page of a flow run in Prefect shows: progress, outcomes, and the link to the results."""

import base64
import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path
from textwrap import wrap
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from adaptivedrag.errors import AdaptiveDragError
from flows.outcomes import RunSummary
from flows.run import Run
from stages.jobs.edit import Edit
from stages.reports.causes import causes

logger = logging.getLogger(__name__)

PAGE_SECONDS = 2.0
RETRY_SECONDS = 30.0
ANSWER_SECONDS = 5.0
ROWS_SHOWN = 200
CAUSES_SHOWN = 20
LINE = 96
PREVIEWS, PREVIEWS_OF_CAUSE, PREVIEW_SIDE = 12, 3, 192
"""Pictures of failed edits in all, for each cause, and their longest side in pixels."""


class RunPage:
    """The page of the flow run at hand.

    Prefect's client is called from a thread of its own, since it waits for more than a minute where
    nobody answers. A server that is gone costs the page, not the run; one that comes back shows
    progress again.
    """

    def __init__(self, run: Run) -> None:
        """Open the page."""
        self._run = run
        self._due = 0.0
        self._is_silent = False
        self._artifact: UUID | None = None
        self._caller = ThreadPoolExecutor(1, "page")
        self._call = self._submit(self._show_progress)

    def update(self) -> None:
        """Move the progress bar, at most every `PAGE_SECONDS`, unless the last call still waits."""
        if self._call.done() and time.monotonic() >= self._due:
            self._due = time.monotonic() + (RETRY_SECONDS if self._is_silent else PAGE_SECONDS)
            self._call = self._submit(self._show_progress)

    def conclude(self, summary: RunSummary) -> None:
        """Show the outcomes: failures first, then as many others as fit."""
        last = self._submit(lambda: self._show_outcomes(summary))
        wait([last], ANSWER_SECONDS)
        if not last.done():
            self._note_silence("it does not answer")
        self._caller.shutdown(wait=False, cancel_futures=True)

    def _show_progress(self) -> None:
        share, standing = 100 * self._run.progress.share, str(self._run.progress.standing)
        if self._artifact is None:
            self._artifact = create_progress_artifact(  # type: ignore[assignment]
                progress=share, key="progress", description=standing
            )
        else:
            update_progress_artifact(self._artifact, share, standing)

    def _show_outcomes(self, summary: RunSummary) -> None:
        self._show_progress()
        rows = _rows(summary)
        cut = f"; the first {ROWS_SHOWN} of {len(rows)}" if len(rows) > ROWS_SHOWN else ""
        create_table_artifact(
            table=rows[:ROWS_SHOWN], key="outcomes", description=f"{summary}{cut}"
        )
        if self._run.results:
            page = self._run.results.page
            link = page if "://" in page else Path(page).absolute().as_uri()
            # A browser may not follow a link to a file from a page of a server: it can be copied.
            create_link_artifact(
                link=link, key="results", link_text="page of results", description=link
            )
        if summary.failed:
            create_markdown_artifact(
                markdown="\n".join(_previews(self._run, summary)),
                key="failed-edits",
                description="why edits failed, and what was asked of them",
            )

    def _submit(self, call: Callable[[], None]) -> Future[None]:
        return self._caller.submit(copy_context().run, self._unless_gone, call)

    def _unless_gone(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._note_silence(str(error))
        else:
            self._is_silent = False

    def _note_silence(self, reason: str) -> None:
        if not self._is_silent:
            logger.warning("The run goes on without its page at the Prefect server: %s.", reason)
        self._is_silent = True


def _rows(summary: RunSummary) -> list[dict[str, Any]]:
    failed = [
        {"edit": each.id, "outcome": f"failed in {each.stage}", "reason": str(each)}
        for each in summary.failed
    ]
    others = [{"edit": name, "outcome": "done", "reason": ""} for name in summary.done]
    others += [{"edit": name, "outcome": "unfinished", "reason": ""} for name in summary.unfinished]
    bad = [{"edit": each.id, "outcome": "bad", "reason": str(each)} for each in summary.bad]
    return failed + bad + others


def _previews(run: Run, summary: RunSummary) -> Iterator[str]:
    """Yield Markdown: each cause, with the images of the first of its edits and their drags.

    What comes from elsewhere stands in code, where it is no Markdown.
    """
    left = PREVIEWS
    for cause in causes(summary.failed)[:CAUSES_SHOWN]:
        yield "".join(f"    {line}\n" for line in wrap(str(cause), LINE) + wrap(cause.remedy, LINE))
        names = cause.ids[: min(PREVIEWS_OF_CAUSE, left)]
        left -= len(names)
        if names:
            yield _row(f"`{name}`" for name in names)
            yield _row("---" for _ in names)
            yield _row(_preview(run.plans[name].edit) for name in names)
            yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _preview(edit: Edit) -> str:
    """Return an image with its drags as Markdown that holds a small picture."""
    from stages.images import read_image
    from stages.reports.tiles import drag_tile

    encoded = io.BytesIO()
    try:
        pixels = read_image(edit.image_path, edit.image.pixels)
        drag_tile(pixels, edit.drags, PREVIEW_SIDE).save(encoded, "JPEG", quality=80)
    except (AdaptiveDragError, OSError):
        return "its image cannot be read any more"
    data = base64.b64encode(encoded.getvalue()).decode()
    return f"![{edit.id} with its drags](data:image/jpeg;base64,{data})"
