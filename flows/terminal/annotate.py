"""Placing points in a browser."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

from adaptivedrag.config import Runtime
from artifacts import ArtifactStore
from flows.outcomes import ALL_DONE
from flows.preflight import check_device
from flows.terminal.console import say
from flows.web.annotating import annotation_site
from flows.web.serving import serve
from stages.jobs.annotations import Annotations
from stages.workbench import Workbench


def annotate(
    target: Path, out: Path | None, port: int | None, store: str, device: str, *, opens: bool
) -> NoReturn:
    """Serve the page of a picture, a folder of pictures or a job, until the user interrupts it.

    The process ends then, whatever it was making: a store has results whole or not at all.
    """
    job = Annotations.open(target, out)
    check_device(device)
    bench = partial(Workbench, ArtifactStore.open(store), Runtime(device))
    say(f"Edits are saved to {job.edits_path}")
    if job.unpaintable:
        say(f"No masks can be painted: {job.unpaintable}")
    serve(annotation_site(job, bench), port, say, opens=opens)
    sys.stdout.flush()
    os._exit(ALL_DONE)  # threads would keep it waiting for their superpixels
