"""When a run has to end: at a time of day, or after so long."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.outcomes import InvalidRequest

_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")


@dataclass(frozen=True)
class TimeLimit:
    """A time after which no more work is begun, and work at hand ends after its step.

    Attributes:
        said: what a summary says when it is over.
        ends: by `clock`, in seconds.
    """

    said: str
    ends: float
    clock: Callable[[], float]

    @property
    def is_over(self) -> bool:
        """Whether the time is past."""
        return self.clock() >= self.ends


def time_limits(deadline: str | None = None, budget: str | None = None) -> tuple[TimeLimit, ...]:
    """Read the limits of a run that begins now.

    Args:
        deadline: a time of day such as "07:00", on the clock of this machine, of today or else
            of tomorrow.
        budget: a time such as "6h", "90m", "45s" or "1h30m", which does not depend on that clock.

    Raises:
        InvalidRequest: if one cannot be read.
    """
    limits = []
    if deadline is not None:
        limits.append(TimeLimit(f"the deadline {deadline} was reached", *_next_time(deadline)))
    if budget is not None:
        ends = time.monotonic() + seconds_of("--budget", budget)
        limits.append(TimeLimit(f"the budget of {budget} is spent", ends, time.monotonic))
    return tuple(limits)


def _next_time(deadline: str) -> tuple[float, Callable[[], float]]:
    match = _TIME_OF_DAY.fullmatch(deadline)
    if not match:
        raise InvalidRequest(f"--deadline {deadline!r} cannot be read: write it as 07:00")
    now = datetime.now()
    then = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    if then <= now:
        then += timedelta(days=1)
    # Local times without a zone: a change to summer time on the way is reckoned in.
    return then.timestamp(), time.time


def seconds_of(option: str, text: str) -> int:
    """Read a time such as "6h", "90m", "45s" or "1h30m".

    Raises:
        InvalidRequest: if it cannot be read, or is none at all; naming the option.
    """
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise InvalidRequest(f"{option} {text!r} cannot be read: write it as 6h, 90m or 1h30m")
    return total
