"""What the page of a flow run in Prefect shows: progress, outcomes, and the link to the results."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.outcomes import RunSummary
from flows.run import Run

logger = logging.getLogger(__name__)

PAGE_SECONDS = 2.0
RETRY_SECONDS = 30.0
ANSWER_SECONDS = 5.0
ROWS_SHOWN = 200


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
        share = 100 * self._run.progress.share
        if self._artifact is None:
            self._artifact = create_progress_artifact(  # type: ignore[assignment]
                progress=share, key="progress", description="stages of all edits"
            )
        else:
            update_progress_artifact(self._artifact, share)

    def _show_outcomes(self, summary: RunSummary) -> None:
        self._show_progress()
        create_table_artifact(table=_rows(summary), key="outcomes", description=str(summary))
        if self._run.results:
            page = self._run.results.page
            link = page if "://" in page else Path(page).absolute().parent.as_uri()
            create_link_artifact(link=link, key="results", link_text="results")

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
    return (failed + others)[:ROWS_SHOWN]
