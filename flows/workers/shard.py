"""What a flow run of a shard gets: ids, and what its plan was made with; never data."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from artifacts import digest_json
from flows.outcomes import RunSummary, new_run_id
from flows.request import RunRequest
from flows.run import Run
from flows.workers.footing import Footing, edit_digests
from stages.jobs.edit import Edit

JOB_TAG = "job:"
"""Begins the tag of all flow runs of a job with one store and request."""


def absolute(place: str | Path) -> str:
    """Return a folder as an absolute path; a URL as it is."""
    return str(place) if "://" in str(place) else str(Path(place).expanduser().absolute())


class Shard(BaseModel):
    """A part of a job: whole images.

    Attributes:
        run_id: of the run that does it, in the store.
        edits: the digest of each edit, by its id; see `edit_digest`.
        footing: what its plan was made with.
        deaths: how many of its runs in a row died before they had made anything.
        refusals: why places at workers have refused it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    edits: dict[str, str]
    footing: Footing
    deaths: int = 0
    refusals: tuple[str, ...] = ()


class Errand(BaseModel):
    """The parameters of a flow run that does a shard; see `edit_dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    store: str
    request: RunRequest
    shard: Shard

    @classmethod
    def of(cls, run: Run, edits: Iterable[Edit]) -> Self:
        """Return the errand that does some of a run's edits.

        Raises:
            ModelUnavailable: if the files of a model are not there.
        """
        plans = [run.plans[edit.id] for edit in edits]
        footing = Footing.of(plans, run.request.stages)
        shard = Shard(run_id=new_run_id(), edits=edit_digests(plans), footing=footing)
        job, store = str(run.job.path), run.store.location
        return cls(job=job, store=store, request=run.request, shard=shard)

    @property
    def tag(self) -> str:
        """What the flow runs of the same job, store, request, code and libraries have in common.

        Those of others are refused, so that they are no reason to leave anything out.
        """
        asked: dict[str, Any] = self.model_dump(mode="json", include={"job", "store", "request"})
        asked["footing"] = self.shard.footing.model_dump(mode="json", exclude={"models"})
        return f"{JOB_TAG}{digest_json('submission', asked)[:16]}"

    def unfinished(self, stopped: str) -> RunSummary:
        """Return the summary of a run of this errand that could do nothing."""
        return RunSummary(
            run_id=self.shard.run_id,
            job=Path(self.job).stem,
            path=self.job,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            unfinished=tuple(self.shard.edits),
            stopped=stopped,
        )

    def again(self, **changes: Any) -> Self:
        """Return the errand of the run that goes on with this one's shard."""
        shard = self.shard.model_copy(update={"run_id": new_run_id(), **changes})
        return self.model_copy(update={"shard": shard})
