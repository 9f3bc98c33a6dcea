"""Opening the run of a shard where it is done: only with what it was planned with."""

from pathlib import Path

from adaptivedrag.errors import InvalidEdit, ModelUnavailable, UnsupportedModel
from artifacts import StoreUnavailable
from flows.outcomes import InvalidRequest
from flows.preflight import NotReady
from flows.run import Run
from flows.workers.footing import Footing, edit_digests
from flows.workers.shard import Errand, Shard

OF_THIS_MACHINE = (NotReady, ModelUnavailable, UnsupportedModel, StoreUnavailable, InvalidRequest)


class Refused(Exception):
    """This machine cannot do what was planned; another may."""


class Outdated(Exception):
    """The job is not what it was when it was planned."""


def open_run(errand: Errand) -> Run:
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
