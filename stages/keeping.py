"""Makes many objects that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 100_000
"""So many new objects take longer to look at than to move."""


@contextmanager
def keeping_all() -> Iterator[None]:
    """Let Python not look for garbage: where all is kept, that is a third of the time.

    If many objects were made, they are not looked at right afterwards either: they count as old.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            # Together these move all objects into the oldest generation.
            gc.freeze()
            gc.unfreeze()
        if was_on:
            gc.enable()
