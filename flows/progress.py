"""The progress of a run: a line about all of it, with a bar per stage on a terminal."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from artifacts import Record
from flows.terminal.console import NARROW, can_show_bars
from stages.failures import Failure
from stages.planning.forecast import Forecast
from stages.planning.time_left import TimeLeft
from stages.reports.wording import pace

LINE_SECONDS = 10.0
"""Seconds between plain lines, except for failures."""
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Standing:
    """How far a run is.

    Attributes:
        total: all its edits, also those that were done, failed or bad before.
        per_hour: edits done in this run, per hour of it; None before the first.
        seconds_left: None while that is unknown.
        elapsed: seconds.
    """

    done: int
    total: int
    failed: int
    per_hour: float | None
    seconds_left: float | None
    elapsed: float

    @property
    def ends(self) -> datetime | None:
        """When the run will be over, on the clock of this machine."""
        if self.seconds_left is None:
            return None
        return datetime.now().astimezone() + timedelta(seconds=self.seconds_left)

    @property
    def told(self) -> str:
        """In words that are read later: with times of day."""
        now, ends = datetime.now().astimezone(), self.ends
        parts = [f"{self.done} of {self.total} edits done, {self.failed} failed", *self._pace]
        if ends:
            is_soon = self.seconds_left is not None and self.seconds_left < DAY_SECONDS
            parts.append(f"ends about {ends:{'%H:%M' if is_soon else '%Y-%m-%d %H:%M'}}")
        return ", ".join([*parts, f"as of {now:%Y-%m-%d %H:%M:%S}"])

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} done, {self.failed} failed", *self._pace]
        if self.seconds_left is not None:
            parts.append(f"{_clock(self.seconds_left)} left")
        return ", ".join([*parts, f"{_clock(self.elapsed)} elapsed"])

    @property
    def _pace(self) -> Iterator[str]:
        if self.per_hour is not None:
            yield pace(self.per_hour)


class Progress:
    """Counts edits per stage. Safe to call from any thread; silent without a console."""

    def __init__(
        self,
        waiting: Mapping[str, Iterable[str]],
        total: int,
        *,
        done: Iterable[str] = (),
        failed: Iterable[str] = (),
        console: Console | None = None,
    ) -> None:
        """Show a run.

        Args:
            waiting: ids of the edits that still need each stage; stages without any are not shown.
            total: of all edits.
            done: ids of those that were done before.
            failed: ids of those that failed before, and are not tried again.
        """
        self._waiting = {stage: set(ids) for stage, ids in waiting.items()}
        self._totals = {stage: len(ids) for stage, ids in self._waiting.items() if ids}
        self._total, self._done, self._failed = total, set(done), set(failed)
        self._done_before, self._began = len(self._done), time.monotonic()
        self._left: TimeLeft | None = None
        self._ends: float | None = None
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._line_due = 0.0
        self._lock = threading.RLock()
        self._bars = _bars(console, self._line) if console and can_show_bars(console) else None

    def __enter__(self) -> Self:
        if self._bars:
            for stage, total in self._totals.items():
                self._tasks[stage] = self._bars.add_task(stage, total=total, note="")
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

    @property
    def standing(self) -> Standing:
        """How far the run is now."""
        # Without the lock: who draws the bars asks for this, and who has the lock moves the bars.
        now, ends = time.monotonic(), self._ends
        elapsed, made = now - self._began, len(self._done) - self._done_before
        return Standing(
            len(self._done),
            self._total,
            len(self._failed),
            3600 * made / elapsed if made > 0 and elapsed else None,
            None if ends is None else max(0.0, ends - now),
            elapsed,
        )

    def expect(self, expected: Forecast) -> None:
        """Take what the run will take, by a forecast."""
        with self._lock:
            self._left = TimeLeft(expected)
            self._estimate()

    def learn(self, record: Record, seconds: float) -> None:
        """Learn how long an artifact took."""
        with self._lock:
            if self._left:
                self._left.learn(record, seconds)

    def stepped(self, stage: str, edit_id: str, step: int, steps: int) -> None:
        """Show how far the item at hand is."""
        with self._lock:
            part = min(step / max(steps, 1), 1.0)
            self._show(stage, f"{edit_id} {step}/{steps}", part)

    def reached(self, stage: str, ids: Iterable[str]) -> None:
        """Count edits that are past a stage."""
        with self._lock:
            waiting = self._waiting.get(stage, set())
            came = waiting.intersection(ids)
            waiting -= came
            if self._left:
                self._left.past(stage, came)
            if came:
                self._estimate()
                self._show(stage, ", ".join(sorted(came)[:3]))

    def finished(self, ids: Iterable[str]) -> None:
        """Count edits that are done."""
        with self._lock:
            self._done.update(ids)

    def failed(self, failure: Failure) -> None:
        """Say that an edit failed; its later stages count as over."""
        with self._lock:
            self._failed.add(failure.id)
            self._done.discard(failure.id)
            for waiting in self._waiting.values():
                waiting.discard(failure.id)
            if self._left:
                self._left.given_up(failure.id)
            self._estimate()
            for stage in self._tasks:
                self._move(stage)
            self._print(f"[red]failed[/] {escape(str(failure))}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._print(escape(text))

    def _estimate(self) -> None:
        seconds = self._left.seconds if self._left else None
        self._ends = None if seconds is None else time.monotonic() + seconds

    def _show(self, stage: str, note: str, part: float = 0.0) -> None:
        if stage in self._tasks:
            self._move(stage, note, part)
        elif stage in self._totals and self._console and time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_SECONDS
            at = f"{stage} {self._past(stage)}/{self._totals[stage]} {note}"
            self._print(escape(f"{self.standing}; {at}"))

    def _move(self, stage: str, note: str = "", part: float = 0.0) -> None:
        if self._bars:
            done = self._past(stage) + part
            self._bars.update(self._tasks[stage], completed=done, note=escape(note))

    def _past(self, stage: str) -> int:
        return self._totals[stage] - len(self._waiting[stage])

    def _print(self, markup: str) -> None:
        """Print a line; one of a log has its time."""
        if self._console:
            when = "" if self._bars else f"{datetime.now():%Y-%m-%d %H:%M:%S} "
            self._console.print(f"{when}{markup}", soft_wrap=True, highlight=False)

    def _line(self) -> str:
        return str(self.standing)


class _BarsAndLine(Bars):
    """Bars with a line below them, which is asked for each time they are drawn."""

    def __init__(
        self, columns: Collection[ProgressColumn], line: Callable[[], str], console: Console
    ) -> None:
        self._line = line
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        yield Text(self._line())


def _bars(console: Console, line: Callable[[], str]) -> Bars:
    count = TextColumn("{task.completed:.0f}/{task.total}")
    if console.width < NARROW:
        return _BarsAndLine([TextColumn("{task.description}"), count], line, console)
    name, bar = TextColumn("{task.description:<20}"), BarColumn(bar_width=30)
    note = TextColumn("[dim]{task.fields[note]}")
    return _BarsAndLine([name, bar, count, note], line, console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
