"""The flow of a shard: a part of a job, done by a worker's process."""

import threading
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Crashed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from adaptivedrag.errors import InvalidEdit, ModelUnavailable, UnsupportedModel
from artifacts import ArtifactStore, StoreUnavailable
from flows.beat import beating
from flows.edit_dataset import conduct, state_of
from flows.outcomes import InvalidRequest, record_run, retract_summary
from flows.preflight import NotReady
from flows.run import Run
from flows.signals import stopping
from flows.states import LEFT, OUTDATED, REFUSED
from flows.workers.footing import Footing, edit_digests
from flows.workers.shard import Errand, Shard

OF_THIS_MACHINE = (NotReady, ModelUnavailable, UnsupportedModel, StoreUnavailable, InvalidRequest)

is_over = threading.Event()
"""Set when a shard's work is over; Prefect may go on talking."""


class Refused(Exception):
    """This machine cannot do what was planned; another may."""


class Outdated(Exception):
    """The job is not what it was when it was planned."""


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
    errand = Errand.model_validate({"job": job, "store": store, "request": request, "shard": shard})
    try:
        return _do(errand, ArtifactStore.open(store, create=False))
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
            run = _open(errand)
        except Outdated as change:
            message = f"{change}: submit again"
            record_run(store, errand.unfinished(message))
            return Failed(name=OUTDATED, message=message)
        with stopping(run, Console(stderr=True)):
            summary = conduct(run)
    if summary.interrupted:
        return Crashed(name=LEFT, message=str(summary))
    return state_of(summary)


def _open(errand: Errand) -> Run:
    """Open the run of a shard, if this machine has what it was planned with.

    Raises:
        Refused: if it does not; the message names what differs, or what it cannot see.
        Outdated: if the job's file or an edit has changed.
        NotReady, ModelUnavailable, UnsupportedModel, StoreUnavailable, InvalidRequest: likewise.
    """
    path, shard = Path(errand.job), errand.shard
    if not path.parent.is_dir():
        raise Refused(f"the folder {path.parent} of the job cannot be seen here")
    try:
        run = Run.open(
            path, errand.store, errand.request, edit_ids=shard.edits, shard_id=shard.run_id
        )
    except InvalidEdit as error:
        raise Outdated(str(error)) from error
    here = Footing.of(run.plans.values(), errand.request.stages)
    if differences := "; ".join(shard.footing.differences(here)):
        raise Refused(differences)
    _check_edits(run, shard)
    run.check_ready()
    return run


def _check_edits(run: Run, shard: Shard) -> None:
    here = edit_digests(run.plans.values())
    for name, digest in shard.edits.items():
        # Of a retry, what is done by now has no plan any more.
        if here.get(name, digest if run.request.retry_failed else "") != digest:
            raise Outdated(f"edit {name} is not as it was when it was planned")
