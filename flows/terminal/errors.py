"""Errors that we raise on purpose, as one line and an exit code."""

from adaptivedrag.errors import AdaptiveDragError
from artifacts import ArtifactError
from flows.cluster.home import ClusterUnavailable
from flows.outcomes import INTERRUPTED, NOT_STARTED, STOPPED_EARLY, InvalidRequest
from flows.prefect_settings import PrefectUnavailable
from flows.preflight import NotReady
from flows.terminal.console import say
from stages.reports.place import ReportUnwritable

EXPECTED = (
    AdaptiveDragError,
    ArtifactError,
    ClusterUnavailable,
    InvalidRequest,
    NotReady,
    PrefectUnavailable,
)


def report_error(error: BaseException) -> int | None:
    """Print an error that ends a command, and return the exit code; None for a bug of ours."""
    code = code_of(error)
    if code is not None:
        is_wish = code == INTERRUPTED
        say_error("interrupted; what was finished is kept" if is_wish else str(error))
    return code


def code_of(error: BaseException) -> int | None:
    """Return the exit code of a command that an error ends; None for a bug of ours."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, EXPECTED):
        return STOPPED_EARLY if isinstance(error, ReportUnwritable) else NOT_STARTED
    return None


def say_error(message: str) -> None:
    """Print one line on stderr."""
    say(f"adaptivedrag: {' '.join(message.split())}", stderr=True)
