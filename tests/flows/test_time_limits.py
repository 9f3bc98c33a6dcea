"""Times at which a run ends: how they are read, and that they are final."""

import time
from datetime import datetime, timedelta

import pytest

from flows.outcomes import InvalidRequest
from flows.run import Interrupted, Stop, StoppedEarly
from flows.time_limits import TimeLimit, time_limits

DAY = timedelta(days=1).total_seconds()


def seconds_left(**limits: str) -> float:
    (limit,) = time_limits(**limits)
    return limit.ends - limit.clock()


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("6h", 21600),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("100h", 360000),
        ("2d", 172800),
        ("1w1d1h", 694800),
    ],
)
def test_a_budget_is_read_in_weeks_to_seconds(budget, seconds):
    assert seconds_left(budget=budget) == pytest.approx(seconds, abs=1)


def test_a_deadline_is_the_next_such_time_of_this_place():
    now = datetime.now()
    soon, past = now + timedelta(minutes=2), now - timedelta(minutes=2)
    assert seconds_left(deadline=f"{soon:%H:%M}") == pytest.approx(90, abs=31)
    # An hour more or less where summer time begins or ends.
    assert seconds_left(deadline=f"{past:%H:%M}") == pytest.approx(DAY - 150, abs=3631)
    (limit,) = time_limits(deadline="7:05")
    then = datetime.fromtimestamp(limit.ends)
    assert (then.hour, then.minute, then.second) == (7, 5, 0)
    assert limit.clock is time.time


@pytest.mark.parametrize(
    "limits",
    [{"budget": text} for text in ("", "0s", "6", "h", "-1h", "1m1h", "1.5h", "1h 30m", "9e9h")]
    + [{"deadline": text} for text in ("", "7", "24:00", "07:60", "07.00", "-1:00", "7:00 pm")],
    ids=str,
)
def test_other_forms_are_refused_in_one_line(limits):
    ((name, text),) = limits.items()
    with pytest.raises(InvalidRequest, match=f"--{name} .* cannot be read: write it as") as raised:
        time_limits(**limits)
    assert repr(text) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_time_that_is_up_stays_up_though_the_clock_is_set_back():
    now = [0.0]
    stop = Stop([TimeLimit("it is late", 10.0, lambda: now[0])])
    stop.check()
    now[0] = 10.0
    with pytest.raises(StoppedEarly, match="it is late"):
        stop.check()
    now[0] = 5.0
    with pytest.raises(StoppedEarly, match="it is late"):
        stop.check()
    stop.ask()
    with pytest.raises(Interrupted):
        stop.check()
