"""Processes that use a store until they are killed or run out of room."""

import resource
import signal
from datetime import timedelta
from itertools import count

from support.store_faults import FaultyBackend

from artifacts import ArtifactStore, Circumstances, StoreUnavailable
from artifacts.upkeep.collect import Policy
from artifacts.upkeep.collect import collect as collect_once
from artifacts.upkeep.transfer import transfer


def collect(location, channel):
    """Collect everything, without grace, forever; send the count of each round."""
    store, everything = ArtifactStore.open(location), Policy(keep=())
    channel.send("ready")
    while True:
        channel.send(len(collect_once(store, everything, timedelta(0)).removed))


def move(source, target, wanted, enough, moment, channel):
    """Copy actions; die a moment of CPU time after `enough` of them were committed."""
    commits, backend = count(1), FaultyBackend.open(target, create=True)

    def after(operation, path):
        if (operation, path[:8]) == ("create", "actions/") and next(commits) == enough:
            signal.setitimer(signal.ITIMER_PROF, moment)

    backend.after = after
    channel.send("ready")
    list(transfer(ArtifactStore.open(source), ArtifactStore(backend), wanted))


def publish_within(location, most, action, payload, channel):
    """Publish where no file may be larger than `most` bytes; send the outcome."""
    store = ArtifactStore.open(location)
    circumstances = Circumstances(code="0", started="2026-01-01T00:00:00Z", seconds=0.0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    channel.send("ready")
    try:
        store.publish(action, payload, circumstances)
    except StoreUnavailable as error:
        channel.send(str(error))
    else:
        channel.send("published")
