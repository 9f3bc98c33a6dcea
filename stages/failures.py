"""What becomes of an edit that failed: one table, and what the store keeps of an attempt.

`docs/failures.md` tells users the same.
"""

import errno
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit, NotFinite, Stopped
from adaptivedrag.model.memory_ladder import is_out_of_memory
from artifacts import StoreUnavailable
from stages.stage import InputChanged

DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})


class Policy(StrEnum):
    """What is done about an error."""

    RETRY = "retry"
    """The store or the disk: tried again after a pause; if it stays, the run stops."""
    STEP_DOWN = "step down"
    """Memory: tried again at once with less of it."""
    QUARANTINE = "quarantine"
    """The edit itself: not tried again under the same key, unless that is asked for."""
    FAIL = "fail"
    """Anything else, bugs included: the edit fails, and the next run tries again."""


class ProcessDied(AdaptiveDragError):
    """An edit took its process with it, again and again."""


RULES: tuple[tuple[type[Exception], Policy], ...] = (
    (StoreUnavailable, Policy.RETRY),
    (InputChanged, Policy.FAIL),  # its key is of the file as it was
    (InvalidEdit, Policy.QUARANTINE),
    (NotFinite, Policy.QUARANTINE),
    (ProcessDied, Policy.QUARANTINE),
    # Models that are missing or unsuitable, a time limit, memory that was not enough at the lowest
    # rung: the machine or the job, not the edit.
    (AdaptiveDragError, Policy.FAIL),
)
"""The first that fits counts."""


def policy_of(error: BaseException) -> Policy:
    """Return what to do about an error."""
    for kind, policy in RULES:
        if isinstance(error, kind):
            return policy
    if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
        return Policy.RETRY
    return Policy.STEP_DOWN if is_out_of_memory(error) else Policy.FAIL


class StageTimedOut(Stopped, AdaptiveDragError, TimeoutError):
    """A stage of an edit took longer than it may; the message says how long and how far it was.

    As any end that a step is asked for, it leaves a checkpoint of where the stage was.
    """


@dataclass(frozen=True)
class Failure:
    """Why an edit has no image: the stage that failed, the type of the error and its message."""

    id: str
    stage: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.id}: {self.stage}: {self.kind}: {self.message}"


@dataclass(frozen=True)
class Attempt:
    """A failed attempt at a stage of an edit.

    Attributes:
        kind: type of the error.
        time: UTC, ISO 8601.
    """

    edit: str
    kind: str
    message: str
    policy: Policy
    time: str
    traceback: str

    @classmethod
    def of(cls, edit_id: str, error: BaseException) -> Self:
        """Describe an error that was just caught."""
        return cls(
            edit=edit_id,
            kind=type(error).__name__,
            message=str(error).strip() or "no message",
            policy=policy_of(error),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            traceback="".join(traceback.format_exception(error)),
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read what the store keeps; what older versions did not write is unknown."""
        policies = {str(policy): policy for policy in Policy}
        return cls(
            edit=str(document.get("edit", "")),
            kind=str(document.get("kind", "unknown error")),
            message=str(document.get("message", "no message")),
            policy=policies.get(str(document.get("policy")), Policy.FAIL),
            time=str(document.get("time", "at an unknown time")),
            traceback=str(document.get("traceback", "")),
        )

    def document(self) -> dict[str, str]:
        """Return it as JSON for the store."""
        return {name: str(value) for name, value in asdict(self).items()}

    @property
    def reason(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"
