"""Times as users type them, and the limits of a run: a time of day, or a duration."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.outcomes import InvalidRequest

_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DURATION = re.compile(
    r"(?:([0-9]{1,4})w)?(?:([0-9]{1,5})d)?(?:([0-9]{1,5})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,7})s)?"
)
_UNIT_SECONDS = (604_800, 86_400, 3_600, 60, 1)


@dataclass(frozen=True)
class TimeLimit:
    """A time after which no more work starts, and work in progress ends after its step.

    Attributes:
        said: the summary's words once it is over.
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
        budget: a time such as "6h" or "1h30m", which does not depend on that clock.

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
    # Local times without a zone, so that a change to summer time is taken into account.
    return then.timestamp(), time.time


def seconds_of(option: str, text: str, *, allow_zero: bool = False) -> int:
    """Read a time such as "30d", "6h", "1h30m" or "45s": weeks, days, hours, minutes, seconds.

    Raises:
        InvalidRequest: if it cannot be read, or is zero without `allow_zero`; naming the option.
    """
    match = _DURATION.fullmatch(text)
    if match and text:
        parts = map(int, match.groups(default="0"))
        seconds = sum(part * unit for part, unit in zip(parts, _UNIT_SECONDS, strict=True))
        if seconds or allow_zero:
            return seconds
    raise InvalidRequest(f"{option} {text!r} cannot be read: write it as 30d, 6h or 1h30m")
