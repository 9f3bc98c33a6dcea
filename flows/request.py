"""What a run is asked to do: the same words on the command line, in a run and at a worker."""

import math
import re
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from adaptivedrag.config import Batch, Runtime
from flows.outcomes import InvalidRequest
from stages.pipeline import STAGE_NAMES
from stages.planning.memory import MOST_TOGETHER

_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


class RunRequest(BaseModel):
    """The work that a user asks for on a job's edits.

    Attributes:
        stages: those that may run, in order.
        force: those of them that are done again where they are done; what comes after one of them
            is done where its bytes have changed.
        retry_failed: only the edits that failed, or were bad, in their latest run; also those that
            are quarantined.
        max_failures: stop once more edits fail than this count, or share such as "5%".
        stage_timeout: seconds that a stage may take for one edit, which fails at its next step
            after that; what goes on for long without a step is not cut off.
        device: where models run: "cpu", "cuda", "cuda:1".
        batch: the most edits that go through a model together, or "auto".
        compile, channels_last: as in `Runtime`.
        out: folder or URL of the results; None for none.
        deadline: a time of day such as "07:00", at which the run stops after the current step.
        budget: a time such as "6h" or "1h30m", after which it does.
        shard: "2/8" for the second of eight parts of the edits, which are the same on every machine
            and whatever is done; every image is whole in one.
        beside: keys of a variant that the job's file does not have, as `load_job` takes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[str, ...] = STAGE_NAMES
    force: tuple[str, ...] = ()
    retry_failed: bool = False
    max_failures: int | str | None = None
    stage_timeout: float | None = None
    device: str = "cpu"
    batch: Batch = "auto"
    compile: bool = False
    channels_last: bool = False
    out: str | None = None
    deadline: str | None = None
    budget: str | None = None
    shard: str | None = None
    beside: dict[str, Any] = {}

    @property
    def runtime(self) -> Runtime:
        """Where and how fast models run."""
        return Runtime(
            device=self.device,
            batch=self.batch,
            compile=self.compile,
            channels_last=self.channels_last,
        )

    @property
    def most_together(self) -> int:
        """The most edits that may go through a model together, if they fit into its memory."""
        if self.batch != "auto":
            return self.batch
        return 1 if self.device == "cpu" else MOST_TOGETHER

    @classmethod
    def of(
        cls,
        *,
        only: str | None = None,
        from_stage: str | None = None,
        force: bool = False,
        fail_fast: bool = False,
        batch: Batch | str = "auto",
        **others: Any,
    ) -> Self:
        """Make a request from the options of a command.

        Args:
            only: the one stage that may run.
            from_stage: the first stage that may run.
            force: do again what is there: of all stages, or of the one that `only` or `from_stage`
                names.
            fail_fast: stop at the first failure.
            batch: a count, or "auto".

        Raises:
            InvalidRequest: for the name of no stage, both options, or a batch that is no count.
        """
        stages = _chosen_stages(only, from_stage)
        forced = () if not force else stages[:1] if from_stage else stages
        if fail_fast:
            others["max_failures"] = 0
        return cls(stages=stages, force=forced, batch=_batch(str(batch)), **others)

    def most_failures(self, total: int) -> int | None:
        """Return how many of `total` edits may fail before a run stops; None for any number.

        Raises:
            InvalidRequest: if `max_failures` is neither a count nor a share.
        """
        if self.max_failures is None:
            return None
        text = str(self.max_failures).strip()
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = math.nan
        is_share = text.endswith("%")
        if not (0 <= value <= (100 if is_share else math.inf)) or (not is_share and value % 1):
            raise InvalidRequest(f"--max-failures {text!r}: give a count, or a share such as 5%.")
        return math.floor(total * value / 100) if is_share else int(value)

    @property
    def part(self) -> tuple[int, int]:
        """Which part of the edits is wanted, from 1, and of how many.

        Raises:
            InvalidRequest: if `shard` says neither.
        """
        match = _SHARD.fullmatch("1/1" if self.shard is None else self.shard)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InvalidRequest(
                f"--shard {self.shard!r}: write 2/8 for the second of eight; they count from 1"
            )
        return int(match[1]), int(match[2])


def _batch(text: str) -> Batch:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not int(text):
        raise InvalidRequest(f'--batch {text!r:.40}: give a count, such as 8, or "auto".')
    return int(text)


def _chosen_stages(only: str | None, from_stage: str | None) -> tuple[str, ...]:
    if only and from_stage:
        raise InvalidRequest("--only and --from exclude each other: give one.")
    named = only or from_stage
    if named is not None and named not in STAGE_NAMES:
        raise InvalidRequest(f"There is no stage {named!r}; stages: {', '.join(STAGE_NAMES)}.")
    if only:
        return (only,)
    return STAGE_NAMES[STAGE_NAMES.index(from_stage) if from_stage else 0 :]
