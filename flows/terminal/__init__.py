"""What commands do and print. A module of this package is imported when it is first used.

So the command line can name all of them and still answer `--help` at once.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.terminal import (
        annotate,
        cluster,
        compare,
        doctor,
        edit,
        errors,
        export,
        imports,
        plan,
        process,
        run,
        scores,
        show,
        status,
        store,
        workers,
    )

__all__ = (
    "annotate",
    "cluster",
    "compare",
    "doctor",
    "edit",
    "errors",
    "export",
    "imports",
    "plan",
    "process",
    "run",
    "scores",
    "show",
    "status",
    "store",
    "workers",
)


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"{__name__} has no module {name!r}")
    return import_module(f"{__name__}.{name}")
