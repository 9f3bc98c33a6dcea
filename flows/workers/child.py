"""The process of a shard, one per GPU: Prefect's engine, at a worker's lifeline.

It performs the flow of this installation, wherever the code lies on the machine that submitted.
"""

import os
import sys
import threading
import time
from uuid import UUID

from flows.lifeline import end_with
from flows.outcomes import NOT_STARTED
from flows.states import REFUSED

LAST_WORD_SECONDS = 45.0
"""How long Prefect may take to end a flow run whose results are complete."""


def do_flow_run(flow_run_id: UUID) -> None:
    """Do a flow run of a shard, and end this process: with exit code 2 if it refuses the shard."""
    import httpx
    from prefect.client.schemas.objects import State
    from prefect.engine import handle_engine_signals
    from prefect.exceptions import TerminationSignal
    from prefect.flow_engine import load_flow_run, run_flow

    from flows.prefect_server import PrefectServer, client_settings, server_trouble
    from flows.workers.edit_shard import edit_shard, is_over

    threading.Thread(target=_end_in_time, args=(is_over,), daemon=True).start()
    with client_settings(PrefectServer(os.environ["PREFECT_API_URL"])):
        try:
            flow_run = load_flow_run(flow_run_id)
            with handle_engine_signals(flow_run_id):
                state = run_flow(edit_shard, flow_run=flow_run, return_type="state")
        except TerminationSignal:  # before there was anything to give back
            sys.exit(1)
        except httpx.HTTPError as error:
            sys.exit(f"A shard could not begin: {server_trouble(error)}")
    assert isinstance(state, State)
    if state.name == REFUSED:
        sys.stderr.write(f"refused {flow_run.name}: {state.message}\n")
        sys.exit(NOT_STARTED)


def _end_in_time(is_over: threading.Event) -> None:
    """End this process although Prefect's client waits for a server that does not answer."""
    is_over.wait()
    time.sleep(LAST_WORD_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    do_flow_run(UUID(sys.argv[1]))
