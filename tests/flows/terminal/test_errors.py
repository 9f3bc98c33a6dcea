"""Which errors end a command in one line, and with which exit code."""

import pytest

from adaptivedrag.errors import InvalidEdit
from artifacts import StoreUnavailable
from flows.outcomes import INTERRUPTED, NOT_STARTED, STOPPED_EARLY, InvalidRequest
from flows.terminal.errors import ReportUnwritable, report_error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidEdit("a\n b"), NOT_STARTED),
        (InvalidRequest("a b"), NOT_STARTED),
        (StoreUnavailable("a b"), NOT_STARTED),
        (ReportUnwritable("a b"), STOPPED_EARLY),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_expected_error_is_one_line(error, code, capsys):
    assert report_error(error) == code
    assert capsys.readouterr().err == "adaptivedrag: a b\n"


def test_ctrl_c_says_that_what_was_finished_is_kept(capsys):
    assert report_error(KeyboardInterrupt()) == INTERRUPTED
    assert "what was finished is kept" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(capsys):
    assert report_error(ZeroDivisionError()) is None
    assert capsys.readouterr().err == ""
