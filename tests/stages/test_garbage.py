"""The collector rests while many objects are made, and only then."""

import gc

import pytest

from stages.garbage import collector_paused


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_paused_and_is_afterward_as_before(was_on):
    before = gc.isenabled()
    (gc.enable if was_on else gc.disable)()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == was_on
    finally:
        (gc.enable if before else gc.disable)()
