"""Decides what is done next: the first edits end to end, then shard by shard and stage by stage.

Knows nothing of Prefect: `perform` runs one chunk, wherever that is, and returns what became of
its items. A failure is a value; it stays with its edits, and their later stages are not tried.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from artifacts import ArtifactStore
from flows.outcomes import Failure, Made
from flows.shards import cut_chunks, cut_shards
from flows.watch import StoppedEarly, Watch
from stages.planning.plan import WorkItem, work_for
from stages.reports.wording import count

if TYPE_CHECKING:
    from stages.jobs.edit import Edit

FIRST_EDITS = 10
"""So many edits go through all stages before the rest: a systematic fault shows in minutes."""

Perform = Callable[[list[WorkItem], int | None], list[Made]]
"""Runs a chunk; stops in it once more than so many of its items have failed."""


class Dispatch:
    """The work of one run or shard, and what has become of it so far."""

    def __init__(
        self,
        store: ArtifactStore,
        stages: Sequence[str],
        perform: Perform,
        watch: Watch,
        *,
        forced: Collection[str] = (),
        retry: bool = False,
        allowed: int | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            stages: the stages that may run, in order.
            forced: stages that are done again where they are done; what comes after one of
                them is done where its bytes have changed.
            retry: try again what is quarantined.
            allowed: so many edits may fail before the run stops.
        """
        self.failures: dict[str, Failure] = {}
        self.made: Counter[str] = Counter()
        self.memory_saved_by: dict[str, tuple[str, ...]] = {}
        self._store = store
        self._stages = stages
        self._perform = perform
        self._watch = watch
        self._forced = forced
        self._retry = retry
        self._allowed = allowed
        self._settled: dict[tuple[str, str], Failure | None] = {}

    def run(self, edits: Sequence["Edit"], apart: Sequence["Edit"] = ()) -> None:
        """Bring edits as far as the stages go.

        Args:
            apart: edits that come after all others, each by itself.

        Raises:
            StoppedEarly: if more edits failed than may, time is up, or somebody asked to stop.
        """
        for edit in edits[:FIRST_EDITS]:
            self._advance([edit])
        for shard in cut_shards(edits[FIRST_EDITS:], self._watch.seconds.of, self._stages):
            self._advance(shard)
        for edit in apart:
            self._advance([edit])

    def _advance(self, edits: Sequence["Edit"]) -> None:
        for stage in self._stages:
            going = [edit for edit in edits if edit.id not in self.failures]
            if going:
                self._do_stage(stage, going)
                passed = [edit.id for edit in going if edit.id not in self.failures]
                self._watch.progress.reached(stage, passed)

    def _do_stage(self, stage: str, edits: Sequence["Edit"]) -> None:
        force = stage in self._forced
        items, blocked = work_for(stage, edits, self._store, force=force, retry=self._retry)
        for plan in blocked:
            earlier = Failure.of_earlier(plan.edit.id, plan.stages[stage])
            self._fail(earlier or Failure(plan.edit.id, stage, "InputMissing", _missing(stage)))
        for item in items:
            self._fail_sharers(item)
        fresh = [item for item in items if (stage, item.key) not in self._settled]
        for chunk in cut_chunks(fresh, self._watch.seconds.of(stage)):
            self._do_chunk(chunk)

    def _do_chunk(self, chunk: list[WorkItem]) -> None:
        self._check()
        left = None if self._allowed is None else self._allowed - len(self.failures)
        outcomes = self._perform(chunk, left)
        for item, made in zip(chunk, outcomes, strict=False):
            self._settle(item, made)
        if len(outcomes) < len(chunk):
            self._check()

    def _check(self) -> None:
        """Leave if there is a reason to; called only while there is more to do."""
        self._watch.stop.check()
        if self._allowed is not None and len(self.failures) > self._allowed:
            raise StoppedEarly(
                f"{count(len(self.failures), 'edit')} failed; at most {self._allowed} may"
            )

    def _settle(self, item: WorkItem, made: Made) -> None:
        self._settled[item.stage, item.key] = made.failure
        if made.failure is None:
            self.made[item.stage] += 1
            if made.memory_saved_by:
                self.memory_saved_by[item.stage] = made.memory_saved_by
            self._watch.seconds.saw(item.stage, made.seconds)
            seconds = self._watch.seconds.of(item.stage)
            self._watch.progress.reached(item.stage, item.sharers, seconds)
        self._fail_sharers(item)

    def _fail_sharers(self, item: WorkItem) -> None:
        """Let every edit that needs a failed artifact fail for the same reason."""
        failure = self._settled.get((item.stage, item.key))
        if failure is not None:
            for edit_id in item.sharers:
                self._fail(Failure(edit_id, item.stage, failure.kind, failure.message))

    def _fail(self, failure: Failure) -> None:
        self.failures[failure.id] = failure
        self._watch.progress.failed(failure)


def _missing(stage: str) -> str:
    return f"what {stage} needs is not made yet: run the stages before it too"
