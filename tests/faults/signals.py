"""Ctrl-C once, twice, and SIGTERM during `adaptivedrag run`.

A run gets the signal at a random moment and must end within ten seconds with code 130, leaving no
process. The next run ends the job. On a tiny random model, with Prefect.
"""

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lives import Errand, notes
from real_runs import GONE_WITHIN, Run, differences, joined, undisturbed
from support.report import Row, Stopwatch, on_seed
from support.tiny_job import write_job
from support.tiny_models import write_model

MOMENTS = 2


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("signals", seed):
        place = Path(folder)
        tiny = write_job(place / "tiny", write_model(place / "model"), images=2, each=3)
        whole = undisturbed(tiny)
        yield send_signals("Ctrl-C", [signal.SIGINT], whole, MOMENTS, seed)
        yield send_signals("Ctrl-C twice", [signal.SIGINT] * 2, whole, MOMENTS, seed)
        yield send_signals("SIGTERM", [signal.SIGTERM], whole, MOMENTS, seed)


def send_signals(
    what: str, signals: list[signal.Signals], whole: Errand, moments: int, seed: int
) -> Row:
    """Send signals to a run at a random moment, and let another run end the job."""
    clock, draw, slowest, left = Stopwatch(), random.Random(f"{seed} {what}"), 0.0, 0
    problems: list[str] = []
    for moment in range(moments):
        name = f"{what.replace(' ', '-')}-{moment}"
        errand = replace(
            whole,
            location=whole.location.with_name(name),
            diary=whole.diary.with_name(f"{name}.log"),
        )
        run = Run(errand)
        wanted = draw.randrange(1, 10)
        while len(notes(errand.diary)) < wanted and run.process.poll() is None:
            time.sleep(0.02)
        asked = time.monotonic()
        for number, each in enumerate(signals):
            time.sleep(0.2 * number)
            run.process.send_signal(each)
        told = run.finish()
        slowest = max(slowest, time.monotonic() - asked)
        left += run.left_behind()
        if run.process.returncode != 130 or "Traceback" in told:
            problems.append(f"exit code {run.process.returncode}: {told[-300:]}")
        again = Run(errand)
        told = again.finish()
        if again.process.returncode:
            problems.append(f"the next run ended with {again.process.returncode}: {told[-300:]}")
        left += again.left_behind()
        problems += differences(errand, whole)
    return Row(
        f"{what} during `adaptivedrag run`",
        f"exit within {GONE_WITHIN:.0f} s with code 130, no process left, resumable",
        f"{moments} moments: out after {slowest:.1f} s at most, {left} processes left, "
        f"{len(problems)} problems after the next run",
        not problems and not left and slowest <= GONE_WITHIN,
        clock.seconds,
        joined(problems).strip(),
    )
