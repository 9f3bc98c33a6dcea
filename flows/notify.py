"""Tells others how a run goes: a webhook at its first failure and its end, a command at its end.

Neither holds a run, nor changes its exit code. docs/failures.md has the form of what they get.
"""

import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from flows.outcomes import InvalidRequest, RunSummary
from stages.reports.causes import Cause, causes

if TYPE_CHECKING:
    import httpx

SCHEMA = 1
ANSWER_SECONDS = 5.0
RETRY_SECONDS = (1.0, 5.0)
LAST_SECONDS = 20.0
"""How long the end of a run waits for what is still to be delivered."""
IDS_SENT = 10

Event = Literal["failure", "end"]

_USER = re.compile(r"(\w+://)[^/\s]*@")
_QUERY = re.compile(r"(\w+://[^\s?]*)\?[^\s'\"),;]*")


class Notices:
    """Who hears of a run: a webhook, a command, both or nobody."""

    def __init__(self, url: str | None, command: str | None, say: Callable[[str], object]) -> None:
        """Check the address.

        Args:
            say: takes a line for the user where something could not be delivered.

        Raises:
            InvalidRequest: if it is no address of a web page.
        """
        self._webhook = None if url is None else Webhook(url)
        self._command = command
        self._say = say

    def first_failure(self, summary: RunSummary) -> None:
        """Tell of an edit that failed, the first in a run; returns at once."""
        if self._webhook:
            self._webhook.send("failure", document(summary, "failure"))

    def end(self, summary: RunSummary, exit_code: int) -> None:
        """Tell how a run ended; the webhook has `LAST_SECONDS`, and the command all its time."""
        told = document(summary, "end") | {"exit_code": exit_code}
        if self._webhook:
            self._webhook.send("end", told)
            for line in self._webhook.close():
                self._say(line)
        if self._command and (trouble := _trouble_of(self._command, json.dumps(told))):
            self._say(f"--on-finish {trouble}")


class Webhook:
    """An address that takes JSON; a thread of its own delivers it, and tries again."""

    def __init__(self, url: str) -> None:
        """Check the address; nothing is sent yet.

        Raises:
            InvalidRequest: if it is none of a web page.
        """
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
            port = f":{parts.port}" if parts.port else ""
            self._place = f"{parts.scheme}://{parts.hostname}{port}"
        except ValueError:  # a port that is none
            is_address = False
        if not is_address:
            # What was typed may hold a secret.
            raise InvalidRequest("--notify takes the address of a webhook: http:// or https://…")
        self._url = url
        self._waiting: queue.Queue[tuple[Event, dict[str, Any]] | None] = queue.Queue()
        self._undelivered: dict[Event, str] = {}
        # It never keeps the process.
        self._thread = threading.Thread(target=self._deliver_all, name="notify", daemon=True)
        self._thread.start()

    def send(self, event: Event, told: dict[str, Any]) -> None:
        """Have something delivered."""
        self._undelivered[event] = "no answer"
        self._waiting.put((event, told))

    def close(self) -> list[str]:
        """Wait for the last delivery, for a while; return a line for each that did not arrive."""
        self._waiting.put(None)
        with suppress(KeyboardInterrupt):  # who does not want to wait so long
            self._thread.join(LAST_SECONDS)
        return [
            f"--notify: {self._place} was not told of the {event} ({reason})"
            for event, reason in list(self._undelivered.items())
        ]

    def _deliver_all(self) -> None:
        while waiting := self._waiting.get():
            event, told = waiting
            if reason := self._deliver(told):
                self._undelivered[event] = reason
            else:
                del self._undelivered[event]

    def _deliver(self, told: dict[str, Any]) -> str:
        """Post a document; return why it did not arrive, or ""."""
        reason = self._post(told)
        for pause in RETRY_SECONDS:
            if not reason:
                break
            time.sleep(pause)
            reason = self._post(told)
        return reason

    @cached_property
    def _client(self) -> "httpx.Client":
        import httpx

        return httpx.Client(timeout=ANSWER_SECONDS)

    def _post(self, told: dict[str, Any]) -> str:
        try:
            answer = self._client.post(self._url, json=told)
        except Exception as error:  # also of proxies and certificates
            return type(error).__name__
        return "" if answer.is_success else f"it answers {answer.status_code}"


def document(summary: RunSummary, event: Event) -> dict[str, Any]:
    """Return how a run goes as JSON, without what an address may hold of secrets."""
    failed = len(summary.failed) + len(summary.bad)
    told = {
        "schema": SCHEMA,
        "event": event,
        "text": f"{summary.job}: {summary}" if event == "end" else f"{summary.job}: an edit failed",
        "job": summary.job,
        "run": summary.run_id,
        "edits": len(summary.done) + failed + len(summary.unfinished),
        "done": len(summary.done),
        "failed": failed,
        "unfinished": len(summary.unfinished),
        "seconds": summary.seconds,
        "causes": [_cause(each) for each in causes(summary.failed)],
        "stopped": summary.stopped,
        "report": summary.report and _link(summary.report),
    }
    return {name: _without_secrets(value) for name, value in told.items()}


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "stage": cause.stage,
        "kind": cause.kind,
        "message": cause.message,
        "remedy": cause.remedy,
        "edits": len(cause.ids),
        "ids": list(cause.ids[:IDS_SENT]),
    }


def _link(page: str) -> str:
    return page if "://" in page else Path(page).absolute().as_uri()


def _without_secrets(value: Any) -> Any:
    """Return JSON without the users, passwords and queries of addresses."""
    if isinstance(value, str):
        return _QUERY.sub(r"\1", _USER.sub(r"\1", value))
    if isinstance(value, dict):
        return {name: _without_secrets(each) for name, each in value.items()}
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


def _trouble_of(command: str, told: str) -> str:
    """Run a command in a shell, with JSON to read; return what went wrong, or ""."""
    try:
        code = subprocess.run(command, shell=True, input=told, text=True, check=False).returncode
    except OSError as error:
        return f"could not be run: {error}"
    except KeyboardInterrupt:
        return "was interrupted"
    if code:
        return f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
    return ""
