"""Makes many objects that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keeping_all() -> Iterator[None]:
    """Let Python not look for garbage: where all is kept, that is a third of the time.

    Nor is it looked for right afterwards: what was made counts as old, as if it had been looked
    at, and garbage among it goes when Python looks at all that is old.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Together these move all objects into the oldest generation.
        gc.freeze()
        gc.unfreeze()
        if was_on:
            gc.enable()
