"""The progress of a run: a bar per stage on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from flows.terminal.console import NARROW, can_show_bars
from stages.failures import Failure
from stages.pipeline import BY_NAME

LINE_SECONDS = 2.0
"""Seconds between plain lines, except for failures and the end of a stage."""


class Progress:
    """Counts edits per stage. Safe to call from any thread; silent without a console."""

    def __init__(
        self,
        waiting: Mapping[str, Iterable[str]],
        seconds: Mapping[str, float],
        shares: Mapping[str, float],
        console: Console | None = None,
    ) -> None:
        """Show a run.

        Args:
            waiting: ids of the edits that still need each stage; stages without any are not shown.
            seconds: how long an artifact of each stage takes, until something better is known.
            shares: the part of its image's artifacts that an edit has to wait for, by id.
        """
        self._waiting = {stage: set(ids) for stage, ids in waiting.items()}
        self._totals = {stage: len(ids) for stage, ids in self._waiting.items() if ids}
        self._seconds = dict(seconds)
        self._shares = shares
        self._console = console
        self._bars = _bars(console) if console and can_show_bars(console) else None
        self._tasks: dict[str, TaskID] = {}
        self._line_due = 0.0
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        if self._bars:
            for stage, total in self._totals.items():
                self._tasks[stage] = self._bars.add_task(
                    stage, total=total, left=self._time_left(stage), note=""
                )
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    @property
    def share(self) -> float:
        """How much of all stages of all edits is over, from 0 to 1."""
        total = sum(self._totals.values())
        left = sum(len(ids) for ids in self._waiting.values())
        return (total - left) / total if total else 1.0

    def stepped(self, stage: str, edit_id: str, step: int, steps: int) -> None:
        """Show how far the item at hand is."""
        if self._bars and stage in self._tasks:
            done = self._totals[stage] - len(self._waiting[stage])
            note = escape(f"{edit_id} {step}/{steps}")
            self._bars.update(
                self._tasks[stage], completed=done + min(step / max(steps, 1), 1.0), note=note
            )

    def reached(self, stage: str, ids: Iterable[str], seconds: float | None = None) -> None:
        """Count edits that are past a stage, and learn how long an artifact takes in it."""
        with self._lock:
            waiting = self._waiting.get(stage, set())
            came = waiting.intersection(ids)
            waiting -= came
            if seconds is not None:
                self._seconds[stage] = seconds
            if came:
                self._show(stage, ", ".join(sorted(came)[:3]))

    def say(self, text: str) -> None:
        """Print a line."""
        if self._console:
            self._console.print(text, markup=False, soft_wrap=True)

    def failed(self, failure: Failure) -> None:
        """Say that an edit failed; its later stages count as over."""
        with self._lock:
            for waiting in self._waiting.values():
                waiting.discard(failure.id)
            if self._console:
                self._console.print(f"[red]failed[/] {escape(str(failure))}", soft_wrap=True)

    def _show(self, stage: str, note: str) -> None:
        total, left = self._totals[stage], len(self._waiting[stage])
        if self._bars:
            self._bars.update(
                self._tasks[stage], completed=total - left, left=self._time_left(stage), note=""
            )
        elif self._console and (not left or time.monotonic() >= self._line_due):
            self._line_due = time.monotonic() + LINE_SECONDS
            self._console.print(
                f"{stage} {total - left}/{total} {escape(note)}", soft_wrap=True, highlight=False
            )

    def _time_left(self, stage: str) -> str:
        waiting = self._waiting[stage]
        shared = BY_NAME[stage].per_image
        artifacts = sum(self._shares.get(name, 1.0) for name in waiting) if shared else len(waiting)
        return _clock(artifacts * self._seconds.get(stage, 0.0)) if waiting else ""


def _bars(console: Console) -> Bars:
    count, left = TextColumn("{task.completed:.0f}/{task.total}"), TextColumn("{task.fields[left]}")
    if console.width < NARROW:
        return Bars(TextColumn("{task.description}"), count, left, console=console)
    name, bar = TextColumn("{task.description:<20}"), BarColumn(bar_width=30)
    note = TextColumn("[dim]{task.fields[note]}")
    return Bars(name, bar, count, left, note, console=console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"
