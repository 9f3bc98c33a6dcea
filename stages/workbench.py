"""One worker's bench: models loaded once and kept, stages performed against the store."""

import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivedrag.config import SMALLEST_WORKING_SIZE, Dtype, Runtime
from adaptivedrag.errors import DeviceMemoryExhausted, NotFinite
from adaptivedrag.model.memory_ladder import Rung, release_memory, stepped_down
from artifacts import Action, ArtifactCorrupt, ArtifactError, ArtifactStore, Record
from stages.circumstances import Stopwatch
from stages.failures import Policy, policy_of
from stages.jobs.edit import Edit
from stages.pipeline import BY_NAME, STAGES
from stages.resume import Checkpoints
from stages.stage import Made, OnStep, Resolved, Stage, Work

if TYPE_CHECKING:
    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.segmenter.segmenter import Segmenter


class InputMissing(ArtifactError):
    """A stage was asked for before what it needs was made; the message names it."""


class _InputRemade(Exception):
    """A damaged input was made again and came out different."""


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
        self._diffusion: tuple[tuple[Path, Dtype], DiffusionModel] | None = None
        self._segmenter: tuple[Path, Segmenter] | None = None

    def perform(
        self,
        stage: str,
        edit: Edit,
        *,
        force: bool = False,
        on_step: OnStep = lambda _step, _steps: None,
    ) -> Record:
        """Make sure that a stage of an edit is in the store; return its record.

        A hit returns at once, unless forced. What the stage needs must have been made.

        Raises:
            InputMissing: if it has not.
            AdaptiveDragError: if the edit cannot be done; `DeviceMemoryExhausted` if memory was
                not enough at the lowest rung either.
            ArtifactError: if the store fails.
        """
        resolved = Resolved.of(edit)
        upstream = self._records_before(stage, resolved)
        action = resolved.action(BY_NAME[stage], upstream)
        lookup = self.store.lookup(stage, action.key)
        if lookup and lookup.status == "hit" and not force:
            return lookup.record
        with self._turn:
            try:
                return self._make(BY_NAME[stage], resolved, action, upstream, on_step, anew=force)
            except _InputRemade:  # with other values, so this action is another one now
                return self.perform(stage, edit, force=force, on_step=on_step)

    def _records_before(self, stage: str, resolved: Resolved) -> dict[str, Record]:
        """Look up the records of everything that the stage needs, directly or not."""
        wanted = _ancestors(stage)
        records: dict[str, Record] = {}
        for earlier in STAGES:
            if earlier.name not in wanted or resolved.skips(earlier):
                continue
            found = self.store.lookup(earlier.name, resolved.action(earlier, records).key)
            if found is None:
                raise InputMissing(
                    f"edit {resolved.edit.id}: {stage} needs {earlier.name}, which is not made yet"
                )
            records[earlier.name] = found.record
        return records

    def _make(
        self,
        stage: Stage,
        resolved: Resolved,
        action: Action,
        upstream: Mapping[str, Record],
        on_step: OnStep,
        *,
        anew: bool,
    ) -> Record:
        watch = Stopwatch()
        checkpoints = Checkpoints(self.store, stage.name, action.key, self.runtime.checkpoint_every)
        if anew:
            checkpoints.drop()
        work = Work(
            edit=resolved.edit,
            config=resolved.config,
            frame=resolved.frame,
            upstream={
                name: self._read(name, upstream[name], resolved.edit)
                for name in stage.needs
                if name in upstream
            },
            load_diffusion=lambda: self._load_diffusion(resolved),
            load_segmenter=lambda: self._load_segmenter(resolved),
            checkpoints=checkpoints,
            on_step=on_step,
        )
        try:
            made, rung = self._run(stage, work, resolved)
        except NotFinite as error:
            if error.state:
                checkpoints.keep(error.step, error.state)
            raise
        circumstances = watch.circumstances(stage.name, self.runtime.device, rung.measures)
        record = self.store.publish(action, made.payload, circumstances, made.summary, anew)
        if stage.checkpoints:
            checkpoints.drop()
        return record

    def _run(self, stage: Stage, work: Work, resolved: Resolved) -> tuple[Made, Rung]:
        """Run a stage with all memory that it likes, or with less each time that it is short."""
        ladder = stage.ladder(work.config)
        first = self._rungs.get((stage.name, ladder), 0)
        for number, rung in enumerate(ladder[first:], start=first):
            try:
                made = self._run_at(rung, stage, work, resolved)
            except Exception as error:
                if policy_of(error) is not Policy.STEP_DOWN:
                    raise
                release_memory(error)
                if rung is ladder[-1]:
                    raise self._exhausted(stage, work, rung, error) from error
            else:
                self._rungs[stage.name, ladder] = number
                return made, rung
        raise AssertionError("a ladder has a lowest rung")

    def _run_at(self, rung: Rung, stage: Stage, work: Work, resolved: Resolved) -> Made:
        with ExitStack() as stack:

            def load_diffusion() -> "DiffusionModel":
                model = self._load_diffusion(resolved)
                stack.enter_context(stepped_down(model, rung))
                return model

            if rung.idle_models_away:
                self._let_go_of_others(stage)
            work = replace(work, rung=rung, load_diffusion=load_diffusion)
            (made,) = stage.run([work])
            return made

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

    def _read(self, stage: str, record: Record, edit: Edit) -> dict[str, Any]:
        """Read a payload; remake it first if its bytes are gone or damaged."""
        try:
            return self.store.read(record)
        except ArtifactCorrupt:
            remade = self.perform(stage, edit)
            if remade.logical != record.logical:
                raise _InputRemade from None
            return self.store.read(remade)

    def _load_diffusion(self, resolved: Resolved) -> "DiffusionModel":
        wanted = (resolved.diffusion.directory, resolved.config.dtype)
        if self._diffusion is None or self._diffusion[0] != wanted:
            self._pin_threads()
            from adaptivedrag.model.diffusion import DiffusionModel

            self._diffusion = None  # one at a time: two may not fit
            model = DiffusionModel.load(*wanted, self.runtime.device)
            self._diffusion = (wanted, model)
        return self._diffusion[1]

    def _load_segmenter(self, resolved: Resolved) -> "Segmenter":
        if resolved.segmenter is None:
            raise ValueError("these settings need no segmenter")
        path = resolved.segmenter.path
        if self._segmenter is None or self._segmenter[0] != path:
            self._pin_threads()
            from adaptivedrag.segmenter.segmenter import load_segmenter

            self._segmenter = (path, load_segmenter(path, self.runtime.device))
        return self._segmenter[1]

    def _pin_threads(self) -> None:
        if self.runtime.threads:
            import torch

            torch.set_num_threads(self.runtime.threads)


def _ancestors(stage: str) -> set[str]:
    needs = set(BY_NAME[stage].needs)
    return needs.union(*(_ancestors(name) for name in needs))
