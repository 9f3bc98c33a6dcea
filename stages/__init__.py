"""The stages of an edit, each a file; `stages.pipeline` has them in order.

`Job` is what was made of a job's edits, for Python. Importing this package loads nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.browsing import Job, MadeEdit, NotMade

__all__ = ["Job", "MadeEdit", "NotMade"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from stages import browsing

        return getattr(browsing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
