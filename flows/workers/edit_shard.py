"""The flow of a shard: a part of a job, done by a worker's process."""

import threading
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Crashed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import ValidationError
from rich.console import Console

from artifacts import ArtifactStore
from flows.beat import beating
from flows.edit_dataset import conduct, state_of
from flows.outcomes import record_run, retract_summary
from flows.signals import stopping
from flows.states import LEFT, OUTDATED, REFUSED
from flows.workers.opening import OF_THIS_MACHINE, Outdated, Refused, open_run
from flows.workers.shard import Errand

is_over = threading.Event()
"""Set when a shard's work is over; Prefect may go on talking."""


@flow(
    name="edit-shard",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
    persist_result=False,
)
def edit_shard(job: str, store: str, request: dict[str, Any], shard: dict[str, Any]) -> State[Any]:
    """Bring the edits of a shard through the stages; one that fails stops no other.

    Args:
        job: absolute path of the job's file.
        store: absolute path or URL of the store.
        request: a `RunRequest`, as JSON.
        shard: a `Shard`, as JSON.

    Returns:
        Completed if all are done, else Failed; the truth in full is the summary in the store.
    """
    asked = {"job": job, "store": store, "request": request, "shard": shard}
    try:
        errand = Errand.model_validate(asked)
        return _do(errand, ArtifactStore.open(store, create=False))
    except ValidationError:
        message = "another version of adaptivedrag has submitted it: submit again"
        return Failed(name=OUTDATED, message=message)
    except Refused as refusal:
        return Failed(name=REFUSED, message=str(refusal))
    except OF_THIS_MACHINE as fault:
        return Failed(name=REFUSED, message=" ".join(str(fault).split()))
    finally:
        is_over.set()


def _do(errand: Errand, store: ArtifactStore) -> State[Any]:
    with beating(store, errand.shard.run_id):
        retract_summary(store, errand.shard.run_id)
        try:
            run = open_run(errand)
        except Outdated as change:
            message = f"{change}: submit again"
            record_run(store, errand.unfinished(message))
            return Failed(name=OUTDATED, message=message)
        with stopping(run, Console(stderr=True)):
            summary = conduct(run)
    if summary.interrupted:
        return Crashed(name=LEFT, message=str(summary))
    return state_of(summary)
