"""The process of a shard, one per GPU: Prefect's engine, at a worker's lifeline.

It performs the flow of this installation, wherever the code lies on the machine that submitted.
"""

import os
import runpy
import sys
import threading
import time

from flows.lifeline import end_with

LAST_WORD_SECONDS = 45.0
"""How long Prefect may take to end a flow run whose results are complete."""


def _end_in_time() -> None:
    """End this process although Prefect's client waits for a server that does not answer."""
    from flows.workers.edit_shard import is_over

    is_over.wait()
    time.sleep(LAST_WORD_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    end_with(int(sys.argv.pop()))
    threading.Thread(target=_end_in_time, daemon=True).start()
    runpy.run_module("prefect.engine", run_name="__main__")
