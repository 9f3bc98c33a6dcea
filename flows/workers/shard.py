"""What a flow run of a shard gets: ids, and what its plan was made with; never data."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from artifacts import digest_json
from flows.outcomes import RunSummary, new_run_id
from flows.request import RunRequest
from flows.workers.footing import Footing


class Shard(BaseModel):
    """A part of a job: whole images.

    Attributes:
        run_id: of the run that does it, in the store.
        edits: the digest of each edit, by its id; see `edit_digest`.
        footing: what its plan was made with.
        deaths: how many of its runs in a row died before they had made anything.
        refusals: how many workers have refused it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    edits: dict[str, str]
    footing: Footing
    deaths: int = 0
    refusals: int = 0


class Errand(BaseModel):
    """The parameters of a flow run that does a shard; see `edit_dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    store: str
    request: RunRequest
    shard: Shard

    @property
    def tag(self) -> str:
        """What the flow runs of the same job, store and request have in common."""
        asked: dict[str, Any] = self.model_dump(mode="json", include={"job", "store", "request"})
        return f"job:{digest_json('submission', asked)[:16]}"

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

    def again(self, **counts: int) -> Self:
        """Return the errand of the run that goes on with this one's shard."""
        shard = self.shard.model_copy(update={"run_id": new_run_id(), **counts})
        return self.model_copy(update={"shard": shard})
