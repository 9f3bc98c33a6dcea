"""One worker's bench: models loaded once and kept, stages performed against the store."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from adaptivedrag.config import SMALLEST_WORKING_SIZE, Dtype, Runtime
from adaptivedrag.devices import memory_at_hand
from adaptivedrag.errors import (
    AdaptiveDragError,
    DeviceMemoryExhausted,
    NotFinite,
    Stopped,
)
from adaptivedrag.model.memory_ladder import Rung, release_memory, stepped_down
from artifacts import (
    ArtifactCorrupt,
    ArtifactStore,
    Key,
    Produced,
    Record,
)
from stages.circumstances import Stopwatch
from stages.failures import Policy, policy_of
from stages.jobs.edit import Edit
from stages.pipeline import BY_NAME
from stages.planning.memory import most_together
from stages.planning.plan import EditPlan, bring_up_to_date, plan_edits
from stages.planning.resolved import Resolved
from stages.planning.work import WorkItem
from stages.resume import Checkpoints
from stages.stage import InputMissing, Made, OnStep, Stage, Work

if TYPE_CHECKING:
    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.model.source import Source
    from adaptivedrag.segmenter.segmenter import Segmenter


class _InputRemade(Exception):
    """A damaged input was made again and came out different."""


Listen: TypeAlias = Callable[[WorkItem, int], OnStep]
"""Returns what hears each step of an item in a batch of that size; called for each trial."""


def unheard(_step: int, _steps: int) -> None:
    """Ignore a step."""


def nobody(_item: WorkItem, _together: int) -> OnStep:
    """Let nobody listen."""
    return unheard


class Workbench:
    """Performs stages; safe to share between threads, which take turns with the models.

    Where memory is short a stage steps down the ladder of `adaptivedrag.model.memory_ladder` and
    stays there for the edits that follow; a new bench begins at the top.
    """

    def __init__(self, store: ArtifactStore, runtime: Runtime) -> None:
        """Use `store` for all results, and load models for `runtime`."""
        self.store = store
        self.runtime = runtime
        self._turn = threading.RLock()
        self._rungs: dict[tuple[str, tuple[Rung, ...]], int] = {}
        self._fitting: dict[str, int] = {}
        """The most items of a batch, of stages of which a larger one did not fit into memory."""
        self._diffusion: tuple[tuple[Source, Dtype], DiffusionModel] | None = None
        self._segmenter: tuple[Path, Segmenter] | None = None

    def most_together(self, item: WorkItem) -> int:
        """Return how many items like this one may go through a model together."""
        if self.runtime.batch != "auto":
            return self.runtime.batch
        free = memory_at_hand(self.runtime.device)
        return 1 if free is None else most_together(item.stage, item.resolved.setting, free)

    def perform(
        self, stage: str, edit: Edit, *, force: bool = False, on_step: OnStep = unheard
    ) -> Record:
        """Make sure that a stage of an edit is in the store; return its record.

        A hit returns at once, unless forced. What the stage needs must have been made.

        Raises:
            InputMissing: if it has not.
            AdaptiveDragError: if the edit cannot be done; `DeviceMemoryExhausted` if memory was
                not enough at the lowest rung either.
            ArtifactError: if the store fails.
        """
        (plan,) = plan_edits([edit], self.store)
        if lacking := plan.lacks(BY_NAME[stage]):
            raise InputMissing(f"edit {edit.id}: {stage} needs {lacking[0]}, which is not made yet")
        item = WorkItem.of(BY_NAME[stage], plan)
        (outcome,) = self.make([item], force=force, listen=lambda _item, _together: on_step)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def advance(self, plan: EditPlan, on_step: OnStep = unheard) -> Record:
        """Make the first stage that is missing of an edit, and bring its plan up to date.

        Raises:
            AdaptiveDragError, ArtifactError: as `perform`.
        """
        stage = BY_NAME[plan.to_make[0]]
        item = WorkItem.of(stage, plan)
        (outcome,) = self.make([item], listen=lambda _item, _together: on_step)
        if isinstance(outcome, Exception):
            raise outcome
        bring_up_to_date([plan], stage, {item.key: outcome}, self.store)
        return outcome

    def load_models(self, plan: EditPlan, stages: Iterable[str]) -> None:
        """Load what stages of an edit will need, as far as that can be had.

        A fault of theirs shows when a stage asks for them.
        """
        needed = {model for stage in stages for model in BY_NAME[stage].models}
        with self._turn:
            for name, load in (
                ("diffusion", self._load_diffusion),
                ("segmenter", self._load_segmenter),
            ):
                with suppress(Exception):
                    if name in needed:
                        load(plan.resolved)

    def make(
        self,
        items: Sequence[WorkItem],
        *,
        force: bool = False,
        listen: Listen = nobody,
    ) -> list[Record | Exception]:
        """Make sure that the items of a batch are in the store.

        A batch that does not fit into memory is halved. One that fails otherwise is done again one
        by one, so that a failure stays its own item's.

        Args:
            listen: gives what to call after each step of an item.

        Returns:
            For each item its record, or why it has none.

        Raises:
            Stopped: if a step's hearer asks for an end.
            Exception: one whose policy is to be tried again later.
        """
        stage = items[0].stage.name
        with self._turn:
            most = self._fitting.get(stage, len(items))
            if 1 < len(items) <= most:
                try:
                    return [*self._make(items, force, listen)]
                except Exception as error:
                    _pass_on_what_is_no_failure(error)
                    most = 1
                    if policy_of(error) is Policy.STEP_DOWN:
                        most = self._fitting[stage] = len(items) // 2
                        release_memory(error)
            if len(items) == 1:
                return [self._outcome(items[0], force, listen)]
            parts = [items[start : start + most] for start in range(0, len(items), most)]
            return [made for part in parts for made in self.make(part, force=force, listen=listen)]

    def _outcome(self, item: WorkItem, force: bool, listen: Listen) -> Record | Exception:
        try:
            (record,) = self._make([item], force, listen)
        except Exception as error:
            _pass_on_what_is_no_failure(error)
            return error
        return record

    def _make(self, items: Sequence[WorkItem], force: bool, listen: Listen) -> list[Record]:
        """Do what is missing of a batch, together, and publish each result."""
        there = {} if force else self._hits(items)
        missing = [item for item in items if item.key not in there]
        try:
            made = self._do(missing, force, listen) if missing else []
        except _InputRemade:  # with other values: these actions are others now
            return [
                self.perform(item.stage.name, item.edit, force=force, on_step=listen(item, 1))
                for item in items
            ]
        for item, produced in zip(missing, made, strict=True):
            keep = partial(_itself, produced)
            there[item.key] = self.store.ensure(item.action, keep, replace=force)
            if item.stage.checkpoints:
                self._checkpoints(item).drop()
        return [there[item.key] for item in items]

    def _hits(self, items: Sequence[WorkItem]) -> dict[Key, Record]:
        found = {item.key: self.store.lookup(item.stage.name, item.key) for item in items}
        return {key: each.record for key, each in found.items() if each and each.status == "hit"}

    def _do(self, items: Sequence[WorkItem], force: bool, listen: Listen) -> list[Produced]:
        """Do the work of a batch; each of its items counts for its share of the time."""
        stage = items[0].stage
        if force:
            for item in items:
                self._checkpoints(item).drop()
        works = [self._work(item, listen(item, len(items))) for item in items]
        watch = Stopwatch(self.runtime.device)
        try:
            mades, rung = self._run(stage, works, items[0].resolved)
        except NotFinite as error:
            if error.state and len(works) == 1:
                works[0].checkpoints.keep(error.step, error.state)
            raise
        circumstances = watch.circumstances(stage.name, rung.measures, share=len(items))
        return [Produced(made.payload, circumstances, made.summary) for made in mades]

    def _checkpoints(self, item: WorkItem) -> Checkpoints:
        return Checkpoints(self.store, item.stage.name, item.key, self.runtime.checkpoint_every)

    def _work(self, item: WorkItem, on_step: OnStep) -> Work:
        resolved, needs = item.resolved, item.stage.needs
        return Work(
            edit=resolved.edit,
            config=resolved.config,
            frame=resolved.frame,
            upstream={name: self._read(item, name) for name in needs if name in item.inputs},
            load_diffusion=lambda: self._load_diffusion(resolved),
            load_segmenter=lambda: self._load_segmenter(resolved),
            checkpoints=self._checkpoints(item),
            on_step=on_step,
        )

    def _run(
        self, stage: Stage, works: Sequence[Work], resolved: Resolved
    ) -> tuple[Sequence[Made], Rung]:
        """Run a stage with all memory, then with less each time memory is short.

        A batch is tried once: where it does not fit, its items are smaller.
        """
        ladder = stage.ladder(works[0].config)
        first = self._rungs.get((stage.name, ladder), 0)
        for number, rung in enumerate(ladder[first:], start=first):
            try:
                mades = self._run_at(rung, stage, works, resolved)
            except Exception as error:
                if policy_of(error) is not Policy.STEP_DOWN or len(works) > 1:
                    raise
                release_memory(error)
                if rung is ladder[-1]:
                    raise self._exhausted(stage, works[0], rung, error) from error
            else:
                self._rungs[stage.name, ladder] = number
                return mades, rung
        raise AssertionError("a ladder has a lowest rung")

    def _run_at(
        self, rung: Rung, stage: Stage, works: Sequence[Work], resolved: Resolved
    ) -> Sequence[Made]:
        with ExitStack() as stack:

            def load_diffusion() -> "DiffusionModel":
                model = self._load_diffusion(resolved)
                stack.enter_context(stepped_down(model, rung))
                return model

            if rung.idle_models_away:
                self._let_go_of_others(stage)
            return stage.run(
                [replace(work, rung=rung, load_diffusion=load_diffusion) for work in works]
            )

    def _exhausted(
        self, stage: Stage, work: Work, rung: Rung, error: Exception
    ) -> DeviceMemoryExhausted:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        side = math.isqrt(work.frame.height * work.frame.width)
        remedies = [f"a working_size below {side}"] if side > SMALLEST_WORKING_SIZE else []
        if "diffusion" in stage.models and work.config.dtype == "float32":
            remedies.append('dtype = "bfloat16"')
        return DeviceMemoryExhausted(
            f"edit {work.edit.id}: memory of {self.runtime.device} is not enough for {stage.name}, "
            f"also with {', '.join(rung.measures)} ({said}): "
            f"{' or '.join([*remedies, 'a device with more'])} may do"
        )

    def _let_go_of_others(self, stage: Stage) -> None:
        if "diffusion" not in stage.models:
            self._diffusion = None
        if "segmenter" not in stage.models:
            self._segmenter = None

    def _read(self, item: WorkItem, stage: str) -> dict[str, Any]:
        """Read a payload; make it again first if its bytes are gone or damaged."""
        record = item.inputs[stage].record
        try:
            return self.store.read(record)
        except ArtifactCorrupt:
            remade = self.perform(stage, item.edit)
            if remade.logical != record.logical:
                raise _InputRemade from None
            return self.store.read(remade)

    def _load_diffusion(self, resolved: Resolved) -> "DiffusionModel":
        wanted = (resolved.setting.diffusion.source, resolved.config.dtype)
        if self._diffusion is None or self._diffusion[0] != wanted:
            self._pin_threads()
            from adaptivedrag.model.diffusion import DiffusionModel

            self._diffusion = None  # one at a time: two may not fit
            model = DiffusionModel.load(*wanted, self.runtime.device)
            model.quicken(self.runtime)
            self._diffusion = (wanted, model)
        return self._diffusion[1]

    def _load_segmenter(self, resolved: Resolved) -> "Segmenter":
        if resolved.setting.segmenter is None:
            raise ValueError("these settings need no segmenter")
        path = resolved.setting.segmenter.path
        if self._segmenter is None or self._segmenter[0] != path:
            self._pin_threads()
            from adaptivedrag.segmenter.kinds import load_segmenter

            self._segmenter = (path, load_segmenter(path, self.runtime.device))
        return self._segmenter[1]

    def _pin_threads(self) -> None:
        if self.runtime.threads:
            import torch

            torch.set_num_threads(self.runtime.threads)


def _itself(produced: Produced) -> Produced:
    return produced


def _pass_on_what_is_no_failure(error: Exception) -> None:
    """Raise `Stopped` and errors that retry the whole batch; any other error is an item's."""
    is_wish = isinstance(error, Stopped) and not isinstance(error, AdaptiveDragError)
    if is_wish or policy_of(error) is Policy.RETRY:
        raise error
