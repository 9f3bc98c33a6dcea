"""Serving pages on loopback, to nobody but who knows their address.

The address holds a token, without which nothing is answered: other users of the machine can reach
its ports too. Web sites cannot use what they make a browser ask for: a host name that leads here by
a trick of its DNS is refused, and so is a request that says that another site sends it.
"""

import logging
import secrets
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.outcomes import InvalidRequest

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
ANY = 0
"""The port that stands for any that is free."""
LARGEST_BODY = 64 << 20
"""Bytes of a request: a painted mask of the largest image takes less."""
HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),  # links out of a page give no token away
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


@dataclass(frozen=True)
class Site:
    """An app at an address of its own on this machine."""

    app: "ASGIApp"
    socket: socket.socket
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)

    @classmethod
    def bind(cls, app: "ASGIApp", port: int | None = None, usual: int = ANY) -> "Site":
        """Take a port: the one that is named, or else the usual one, or any that is free.

        Raises:
            InvalidRequest: if the port that is named cannot be had.
        """
        if port is None:
            with suppress(OSError):
                return cls(app, _listening(usual))
        try:
            return cls(app, _listening(port or ANY))
        except OSError as error:
            raise InvalidRequest(
                f"--port {port} cannot be had ({error.strerror}): name another, or none for one "
                "that is free"
            ) from error

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.socket.getsockname()[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{LOOPBACK}:{self.port}/{self.token}/"

    def server(self) -> "uvicorn.Server":
        """Return the server; `run(sockets=[site.socket])` serves until it is asked to stop."""
        import uvicorn

        guard = Guard(self.app, self.token, self.port)
        return uvicorn.Server(
            uvicorn.Config(
                guard,
                log_level="critical",  # `Guard` says what fails
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )


def _listening(port: int) -> socket.socket:
    """Return a socket that listens at a port; the system chooses it for `ANY`."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((LOOPBACK, port))
        bound.listen()  # now, since two may bind a port and only one can listen at it
    except OSError:
        bound.close()
        raise
    return bound


@dataclass(frozen=True)
class Guard:
    """Passes requests on that come from this site's own pages, with its token."""

    app: "ASGIApp"
    token: str
    port: int

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request, or refuse it in one line."""
        from starlette.responses import PlainTextResponse

        refused = self._refusal(scope)
        if refused:
            await PlainTextResponse(refused, 403)(scope, receive, send)
            return
        root = f"{scope.get('root_path', '')}/{self.token}"

        async def answer(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self.app({**scope, "root_path": root}, _limited(receive), answer)
        # The app has answered that it failed.
        except Exception:
            LOGGER.exception("A request failed")

    def _refusal(self, scope: "Scope") -> str:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        own = [f"{name}:{self.port}" for name in (LOOPBACK, "localhost")]
        if headers.get(b"host") not in own:
            return "this address is for this machine only"
        token, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not (slash and secrets.compare_digest(token.encode(), self.token.encode())):
            return "the address lacks its token: open the one that the command has printed"
        origin = headers.get(b"origin")
        if origin is not None and origin not in [f"http://{host}" for host in own]:
            return "another site may not ask for this"
        return ""


def _limited(receive: "Receive") -> "Receive":
    """Stop reading a request that is too large; the app answers so."""
    from starlette.exceptions import HTTPException

    left = LARGEST_BODY

    async def receive_some() -> "Message":
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, "the request is too large")
        return message

    return receive_some


def serve(
    app: "ASGIApp",
    port: int | None,
    say: Callable[[str], None],
    *,
    opens: bool = False,
    usual: int = ANY,
) -> None:
    """Serve an app until the user interrupts it.

    Args:
        port: where to listen; None for the usual port, or any that is free.
        say: prints the address.
        opens: whether to open the address in a browser.
        usual: browsers keep what a page saves by its port.

    Raises:
        InvalidRequest: if the port that is named cannot be had.
    """
    site = Site.bind(app, port, usual)
    say(f"{site.address} (Ctrl+C ends it)")
    if opens:
        webbrowser.open(site.address)
    with suppress(KeyboardInterrupt):  # the usual end
        site.server().run(sockets=[site.socket])
