"""The process that keeps a cluster alive: it starts its parts, watches them, and starts them again.

A process per part, in an order: a part is started once those before it are ready. One that ends is
started again after a pause that grows. SIGHUP makes the keeper read again what is asked, and do the
deployment again; SIGTERM makes it stop all parts, the last first, and leave.

Nothing outlives it. The kernel sends each part its own signal to leave when the keeper dies, since
PostgreSQL reads no lifeline; the parts' own children end with them. For that the keeper has one
thread: the signal comes at the death of the thread that has started a process.
"""

import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from flows.cluster.home import ClusterHome, ClusterUnavailable, PartState, State
from flows.cluster.parts import Part, parts_of

LOOK_SECONDS = 0.25
"""How often each part is looked at."""
STEADY_SECONDS = 60.0
"""A part that has run for this long starts at once when it ends; pauses grow up to this, too."""
LOG_BYTES = 10_000_000
"""A log that is longer becomes `….log.1`, and a new one begins."""
ANY = 0
"""The port that stands for any that is free."""
WOKEN_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_libc = ctypes.CDLL(None)


class Kept:
    """A part with its process, if it has one."""

    def __init__(self, part: Part, log: Path, alive: int) -> None:
        """Take a part over, without starting it.

        Args:
            log: where its output goes.
            alive: the lock that each process of the cluster holds.
        """
        self.part, self.state = part, PartState()
        self.log, self._alive = log, alive
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._pause = 0.0

    def tend(self) -> None:
        """See whether the process has ended; start it if that is due; ask whether it is ready."""
        if self._process and (code := self._process.poll()) is not None:
            self._has_ended(code)
        elif self._process and not self.state.is_ready:
            self._update(is_ready=not self.part.is_task and self.part.is_ready(self._process.pid))
        if not self._process and not self._is_done and self._is_due:
            self._start()
        _shorten(self.log)

    def stop(self) -> None:
        """End the process, politely first."""
        if self._process:
            self._process.send_signal(self.part.stop)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.part.patience)
            _kill_group(self._process)  # also what it has left behind
            self._process.wait()
            self._process = None
            self._update(pid=None, is_ready=False)

    def do_again(self) -> None:
        """Let a task be done again, and a part that pauses begin at once."""
        self._pause = 0.0
        if self._is_done:
            self._update(is_ready=False)

    @property
    def _is_done(self) -> bool:
        return self.part.is_task and self.state.is_ready

    @property
    def _is_due(self) -> bool:
        return time.monotonic() >= self._started + self._pause

    def _start(self) -> None:
        self._started = time.monotonic()
        try:
            self._process = self._new_process()
        except OSError as error:  # no room for a log, or the program is gone
            self._pause_after(str(error))
            return
        again = bool(self.state.trouble) and not self.part.is_task
        self._update(
            pid=self._process.pid, since=datetime.now(UTC), restarts=self.state.restarts + again
        )

    def _new_process(self) -> "subprocess.Popen[bytes]":
        user = self.part.user
        with self.log.open("ab") as output:  # always at its end, also after it was cut
            return subprocess.Popen(
                self.part.command,
                env=self.part.environment,
                pass_fds=(self._alive, *self.part.keeps),
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(_leave_with, os.getpid(), self.part.stop),
            )

    def _has_ended(self, code: int) -> None:
        assert self._process
        _kill_group(self._process)
        self._process = None
        if self.part.is_task and code == 0:
            self._update(pid=None, since=datetime.now(UTC), is_ready=True, trouble="")
        else:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._pause_after(": ".join(filter(None, [how, last_line(self.log)])))

    def _pause_after(self, trouble: str) -> None:
        was_steady = time.monotonic() - self._started >= STEADY_SECONDS
        self._pause = 1.0 if was_steady else min(max(2 * self._pause, 1.0), STEADY_SECONDS)
        self._update(pid=None, is_ready=False, trouble=trouble)

    def _update(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)


class Keeper:
    """The keeper of a home; it dies with its last signal, and its parts with it."""

    def __init__(self, home: ClusterHome, alive: int) -> None:
        """Begin without parts; see `Kept` for `alive`."""
        self._home, self._alive = home, alive
        self._lifeline, self._held = os.pipe()
        self._listener: socket.socket | None = None
        self._kept: list[Kept] = []
        self._told, self._state = State(), State(host=platform.node())

    def keep(self) -> None:
        """Keep the cluster until a signal, which is blocked, says to leave; or it cannot begin."""
        self._hear()
        while self._kept:
            self._tend()
            woken = signal.sigtimedwait(WOKEN_BY, LOOK_SECONDS)
            if woken and woken.si_signo in (signal.SIGTERM, signal.SIGINT):
                break
            if woken and woken.si_signo == signal.SIGHUP:
                self._hear()
        self._stop(self._kept)

    def _hear(self) -> None:
        """Read what is asked, and take it over; what cannot be had is said, and all stays."""
        asked, secrets = self._home.asked, self._home.secrets
        assert asked
        assert secrets
        try:
            # Held from now on, so that requests wait while the server is started again.
            self._listener = self._listener or listen(asked.host, asked.port)
            at = self._listener.fileno()
            self._take_over([*parts_of(self._home, asked, secrets, at, self._lifeline)])
            trouble = ""
        except (ClusterUnavailable, OSError) as error:
            trouble = str(error)
        self._state = self._state.model_copy(
            update={"revision": asked.revision, "trouble": trouble}
        )
        self._tell()

    def _take_over(self, wanted: Sequence[Part]) -> None:
        """Stop the parts that are wanted no more, or otherwise; add those that are missing."""
        self._stop([kept for kept in self._kept if kept.part not in wanted])
        stay = {kept.part.name: kept for kept in self._kept if kept.part in wanted}
        self._kept = [
            stay.get(part.name) or Kept(part, self._home.log(part.name), self._alive)
            for part in wanted
        ]
        for kept in self._kept:
            kept.do_again()

    def _tend(self) -> None:
        for kept in self._kept:
            kept.tend()
            if not kept.state.is_ready:
                break  # those after it need it
        self._tell()

    def _stop(self, kept: Sequence[Kept]) -> None:
        for each in reversed(kept):
            each.stop()
            self._tell()

    def _tell(self) -> None:
        """Write down how all is, if that has changed and there is room."""
        parts = {kept.part.name: kept.state for kept in self._kept}
        self._state = self._state.model_copy(update={"parts": parts})
        if self._state != self._told:
            with suppress(OSError):
                self._home.write(self._state)
                self._told = self._state


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; the system chooses the port for 0.

    Raises:
        ClusterUnavailable: if the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise ClusterUnavailable(
            f"{host}:{port} cannot be had for Prefect's server ({said}): name another with --port, "
            "or an address of this machine with --host"
        ) from error


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything, "" if there is none."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        return next(filter(None, reversed(lines)), "")[:300]
    return ""


def _shorten(log: Path) -> None:
    with suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, f"{log}.1")
            os.truncate(log, 0)


def _kill_group(leader: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)


def _leave_with(keeper: int, stop: signal.Signals) -> None:
    """Let this process, which is about to become a part, be told to leave when the keeper dies."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _libc.prctl(_SET_DEATH_SIGNAL, ctypes.c_ulong(stop))
    if os.getppid() != keeper:  # it died before
        os._exit(1)


if __name__ == "__main__":
    _home, _alive = ClusterHome(Path(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(_alive, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, WOKEN_BY)  # before anybody can know whom to send one
    _home.be_keeper()
    Keeper(_home, _alive).keep()
