"""Sites that a thread of the tests serves."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from flows.web.serving import Site


@contextmanager
def served(app: ASGIApp) -> Iterator[Site]:
    """Serve an app at a port of its own until the block ends."""
    site = Site.bind(app)
    server = site.server()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [site.socket]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield site
    finally:
        server.should_exit = True
        thread.join()
