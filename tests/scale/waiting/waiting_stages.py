"""A stand-in for what takes a GPU: stages that only wait, and make tiny results that follow from
their keys. What happens in stages, waiting or real, goes into a diary.

SCALE_WAIT is the seconds that a stage of an edit takes; without it the real stages run.
SCALE_DIARY names the file of the diary. Nothing else of the project is replaced.
"""

import os
import time

from support.made_up import payloads

from stages.stage import Made

STEP_SECONDS = 0.1


def take_over(stages):
    """Have stages note what they do, and wait if that is asked."""
    wait, diary = os.environ.get("SCALE_WAIT"), os.environ.get("SCALE_DIARY")
    for stage in stages:
        run = stage.run if wait is None else _waiting(stage.name, float(wait))
        # In place: a stage is known by its identity.
        object.__setattr__(stage, "run", _noting(stage.name, run, diary) if diary else run)


def _waiting(stage, seconds):
    def wait(work):
        steps = max(1, round(seconds / STEP_SECONDS))
        for step in range(steps):
            time.sleep(seconds / steps)
            work.on_step(step + 1, steps)
        payload, summary = payloads(int(work.checkpoints.key[:8], 16))[stage]
        return Made(payload, summary)

    return lambda works: [wait(work) for work in works]


def _noting(stage, run, diary):
    def note(event, work):
        key = work.checkpoints.key
        is_there = work.checkpoints.store.lookup(stage, key) is not None
        words = [time.monotonic(), os.getpid(), event, stage, key, int(is_there), work.edit.id]
        descriptor = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{' '.join(map(str, words))}\n".encode())
        os.close(descriptor)

    def run_noted(works):
        for work in works:
            note("began", work)
        mades = run(works)
        for work in works:
            note("ended", work)
        return mades

    return run_noted
