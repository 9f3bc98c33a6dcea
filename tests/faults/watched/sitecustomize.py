"""Logs what a process, and every Python that it starts, unpickles and connects to.

Python imports a module of this name at its start, if its folder is on the path. Each event becomes
a line of JSON in the file that AUDIT_LOG names.
"""

import json
import os
import sys
import traceback

_LOG = os.environ["AUDIT_LOG"]
_WATCHED = {"pickle.find_class", "socket.connect", "socket.sendto", "socket.getaddrinfo"}
_is_noting = False


def _note(event, told):
    global _is_noting
    if _is_noting:
        return
    _is_noting = True
    try:
        frames = traceback.extract_stack()[:-2]
        line = {
            "event": event,
            "told": told,
            "process": " ".join(sys.orig_argv[1:])[:200],
            "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
        }
        descriptor = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.close(descriptor)
    finally:
        _is_noting = False


def _watch_torch():
    """Log calls of torch.load, which raises no audit event."""
    torch = sys.modules.get("torch")
    load = getattr(torch, "load", None)
    if load is None or hasattr(load, "is_watched"):
        return

    def watched(file, *arguments, **options):
        _note("torch.load", [str(file)])
        return load(file, *arguments, **options)

    watched.is_watched = True
    torch.load = watched


def _hook(event, arguments):
    if event in _WATCHED:
        # The socket object itself says nothing.
        told = arguments if event.startswith(("pickle", "socket.getaddrinfo")) else arguments[1:]
        _note(event, [repr(each)[:200] for each in told])
    elif event == "open":
        _watch_torch()


sys.addaudithook(_hook)
_note("begin", [str(os.getpid())])
