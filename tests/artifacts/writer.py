"""A process that publishes actions until it is done or killed.

The payload of an action follows from its number and the writer's flavor.
"""

import errno
import os

import numpy as np
from support.naive_store import NaiveStore

from artifacts import (
    Action,
    ArtifactStore,
    Circumstances,
    Document,
    Produced,
    TensorFile,
    digest_bytes,
)


def action(number):
    return Action("race", 1, {}, {"image": digest_bytes("test", str(number).encode())}, {})


def payload(number, flavor):
    values = np.random.default_rng([number, flavor]).random((6, 4, 16, 16))
    return {
        "latents": values,
        "lora": TensorFile({"up": values[0], "down": values[1]}),
        "verdict": Document({"number": number}),
    }


def write(location, flavor, first, last, channel):
    """Publish actions first to last; send "ready", then the object that each record names."""
    store = ArtifactStore.open(location)
    circumstances = Circumstances(code="0", started="2026-01-01T00:00:00Z", seconds=0.0)
    channel.send("ready")
    for number in range(first, last):
        record = store.publish(action(number), payload(number, flavor), circumstances)
        channel.send(record.object)


def write_without_links(location, flavor, first, last, channel):
    """Publish as `write` does, on a file system that knows no links."""

    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    os.link = link
    write(location, flavor, first, last, channel)


def write_naively(location, first, last, channel):
    """Publish actions first to last where a folder that exists is taken for done."""
    store = NaiveStore(location)
    circumstances = Circumstances(code="0", started="2026-01-01T00:00:00Z", seconds=0.0)
    channel.send("ready")
    for number in range(first, last):
        made = Produced(payload(number, 0), circumstances)
        record = store.ensure(action(number), lambda made=made: made)
        channel.send(record.object)
