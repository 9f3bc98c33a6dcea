"""What many objects leave to Python's collector, and what they do not."""

import gc
import weakref

import pytest

from stages.keeping import MANY, keeping_all


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self):
        self.itself = self


@pytest.mark.parametrize(("made", "is_old"), [(10, False), (2 * MANY, True)])
def test_garbage_of_many_objects_counts_as_old_and_goes_all_the_same(made, is_old):
    gc.collect()
    with keeping_all():
        assert not gc.isenabled()
        kept = [[] for _ in range(made)]
        seen = weakref.ref(Knot())
    assert gc.isenabled()
    assert len(kept) == made
    gc.collect(0)
    assert (seen() is not None) == is_old
    gc.collect()
    assert seen() is None


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with keeping_all():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
