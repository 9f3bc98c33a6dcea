"""Why edits failed: equal failures are one cause, told once, with what a person can do about it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from adaptivedrag.errors import AdaptiveDragError
from artifacts import ArtifactError
from stages.failures import RULES, Failure, Policy
from stages.reports.wording import count, first_of

_REMEDIES = {
    Policy.QUARANTINE: "correct that and run again; unchanged, it is tried again only with "
    "--retry-failed",
    Policy.RETRY: "see that the store answers and has room, then run again",
}
_UNFORESEEN = (
    "not foreseen: `adaptivedrag status JOB EDIT` shows the traceback, and the next run tries again"
)
_COMPARED = 1000
"""Characters of a message that are compared."""
_OWN_EDIT = re.compile(r"edit [\w.-]+: ")
_VARYING = (
    # With spaces in it, a path ends with its file's ending.
    (re.compile(r"""(?:\w+:)?[^\s"'(),;:]*/(?:[^"'(),;:]*\.\w{2,11}\b|[^\s"'(),;]*)"""), "PATH"),
    (re.compile(r"\bedit [\w.-]+"), "EDIT"),
    (re.compile(r"\b[0-9a-f]{12,}\b|\bnan\b|\binf\b"), "N"),
    (re.compile(r"(?<![A-Za-z_])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"), "N"),
)


@dataclass(frozen=True)
class Cause:
    """What several failures have in common.

    Attributes:
        message: of the first of them.
        remedy: what a person can do, where the message does not say it itself; else "".
        ids: of the edits, in the order of their failures.
    """

    stage: str
    kind: str
    message: str
    remedy: str
    ids: tuple[str, ...]

    def __str__(self) -> str:
        several = f"{count(len(self.ids), 'edit')} ({first_of(self.ids)})"
        who = self.ids[0] if len(self.ids) == 1 else several
        return f"{who}: {self.stage}: {self.kind}: {self.message}"


def causes(failures: Iterable[Failure]) -> tuple[Cause, ...]:
    """Group failures of one stage and kind whose messages differ in ids, paths and numbers alone.

    Returns:
        The most frequent cause first.
    """
    alike: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        pattern = failure.stage, failure.kind, _without_names(failure)
        alike.setdefault(pattern, []).append(failure)
    groups = sorted(alike.values(), key=len, reverse=True)
    return tuple(_cause(group[0], tuple(failure.id for failure in group)) for group in groups)


def _cause(first: Failure, ids: tuple[str, ...]) -> Cause:
    message = _OWN_EDIT.sub("", first.message, count=1)
    return Cause(first.stage, first.kind, message, _remedy(first.kind), ids)


def _without_names(failure: Failure) -> str:
    """Return a message with a sign for each id, path and number."""
    # An edit may be called "a": words of the message are not its name unless in quotes.
    before, after = ("['\"]", "['\"]") if failure.id.isalpha() else ("(?<![\\w.-])", "(?![\\w.-])")
    own = f"{before}{re.escape(failure.id)}{after}"
    text = re.sub(own, "ID", failure.message[:_COMPARED])
    for varying, sign in _VARYING:
        text = varying.sub(sign, text)
    return text


def _remedy(kind: str) -> str:
    """Return what to do about an error of a type; our own errors say the rest themselves."""
    policies = {error.__name__: policy for error, policy in RULES}
    if kind in policies:
        return _REMEDIES.get(policies[kind], "")
    return "" if kind in _names_below(AdaptiveDragError, ArtifactError) else _UNFORESEEN


def _names_below(*errors: type[Exception]) -> set[str]:
    below = {each for error in errors for each in error.__subclasses__()}
    return {error.__name__ for error in errors} | (_names_below(*below) if below else set())
